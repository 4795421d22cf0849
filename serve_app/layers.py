"""Findings of several recognizers laid over each other, in time linear in their number."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from serve_app.turn import Finding


def beneath(text: str, upper: Sequence[Finding], lower: Iterable[Finding]) -> tuple[Finding, ...]:
    """`upper` whole, and of `lower` what `upper` leaves uncovered and still says something.

    Both in the order of the text; what overlaps in `upper` stays as it is, in `lower` the earlier finding wins.
    """
    merged: list[Finding] = list(upper)
    position, done = 0, 0
    for finding in lower:
        while position < len(upper) and upper[position].end <= finding.start:
            position += 1
        for start, end in _free(max(finding.start, done), finding.end, upper, position):
            start, end = _trimmed(text, start, end)
            if end - start == finding.end - finding.start or end - start > 1:
                merged.append(replace(finding, start=start, end=end))
        done = max(done, finding.end)
    return tuple(sorted((f for f in merged if f.start < f.end), key=lambda finding: finding.start))


def _free(start: int, end: int, upper: Sequence[Finding], position: int) -> Iterator[tuple[int, int]]:
    while position < len(upper) and upper[position].start < end:
        if start < upper[position].start:
            yield start, upper[position].start
        start = max(start, upper[position].end)
        position += 1
    if start < end:
        yield start, end


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without white space and punctuation that a cut left at the ends."""
    while start < end and not text[start].isalnum():
        start += 1
    while start < end and not (text[end - 1].isalnum() or text[end - 1] == "."):
        end -= 1
    return start, end
