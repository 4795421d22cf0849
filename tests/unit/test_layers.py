from hypothesis import given
from hypothesis import strategies as st

from serve_app.layers import beneath
from serve_app.turn import Finding


def spans(findings: tuple[Finding, ...]) -> list[tuple[str, int, int]]:
    return [(finding.kind, finding.start, finding.end) for finding in findings]


def test_what_is_above_stays_whole_and_what_is_beneath_is_cut() -> None:
    text = "Jane Doe <jane@example.com> of Leeds"
    upper = (Finding("EMAIL_ADDRESS", 10, 26),)
    lower = [Finding("PERSON", 0, 14), Finding("GPE", 20, 36)]
    assert spans(beneath(text, upper, lower)) == [("PERSON", 0, 8), ("EMAIL_ADDRESS", 10, 26), ("GPE", 28, 36)]


def test_of_two_that_overlap_beneath_the_earlier_wins() -> None:
    assert spans(beneath("abcdefgh", (), [Finding("A", 0, 5), Finding("B", 3, 8)])) == [("A", 0, 5), ("B", 5, 8)]


def test_a_rest_that_says_nothing_is_dropped() -> None:
    upper = (Finding("EMAIL_ADDRESS", 0, 6),)
    assert spans(beneath("a@b.cd, x", upper, [Finding("PERSON", 0, 8), Finding("PERSON", 4, 9)])) == [
        ("EMAIL_ADDRESS", 0, 6)
    ]


FINDINGS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=8).map(
    lambda pairs: [Finding("A", start, min(start + size, 32)) for start, size in sorted(pairs) if start < 32]
)


@given(upper=FINDINGS, lower=FINDINGS)
def test_findings_never_overlap_and_nothing_above_is_lost(upper: list[Finding], lower: list[Finding]) -> None:
    text = "ab. cd, 12 ef; gh-ij kl mn op qr"
    top = beneath(text, (), upper)
    merged = beneath(text, top, lower)
    assert all(left.end <= right.start for left, right in zip(merged, merged[1:], strict=False))
    assert set(top) <= set(merged)
    assert all(finding.start < finding.end for finding in merged)
