"""One evaluation of a search, and what is said of it whatever it is written as."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from serve_app.evaluation.retrieval import DEPTH, Asked, Comparison, Figure, figures, latencies_ms, lost

OURS = "both"
WORST = 15


@dataclass(frozen=True)
class Evaluation:
    """What was asked of which service about which corpus. Each way of searching has its own list of answers."""

    target: str
    corpus: str
    """Digest of the documents."""
    documents: int
    date: str
    ways: Mapping[str, Sequence[Asked]]
    """`both` is the service as it ranks by itself; `meaning` and `words` are one of its two searches alone."""

    @cached_property
    def figures(self) -> dict[str, dict[str, Figure]]:
        """By way and measure."""
        return {way: figures(asked) for way, asked in self.ways.items()}

    @cached_property
    def comparison(self) -> Comparison | None:
        return Comparison.of(self.ways, OURS)

    @property
    def facts(self) -> list[tuple[str, str]]:
        spent = {way: latencies_ms(asked) for way, asked in self.ways.items()}
        times = "; ".join(f"{way} p50 {one['p50']:.1f} ms, p99 {one['p99']:.1f} ms" for way, one in spent.items())
        return [
            ("service", self.target),
            ("date", self.date),
            ("corpus", f"{self.documents} documents, {self.corpus}"),
            ("questions", str(len(self.ways[OURS]))),
            ("time of a search", f"{times}, through the public API"),
        ]

    @property
    def verdict(self) -> str:
        """One sentence; empty without another way to compare with."""
        one = self.comparison
        if one is None:
            return ""
        gap, questions = one.difference, len(self.ways[OURS])
        return (
            f"nDCG@{DEPTH} of both together is {abs(gap.mean):.4f} {'above' if gap.mean >= 0 else 'below'} "
            f"that of {one.better} alone, the better of the two (95 % interval {gap.low:+.4f} to {gap.high:+.4f}): "
            f"ahead on {one.ahead} of {questions} questions, behind on {one.behind}."
        )


def figure_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """A row for each measure, a column for each way, then what both are ahead of the better of the others."""
    ways = list(evaluation.ways)
    compared = len(ways) > 1
    rows = []
    for name in evaluation.figures[OURS]:
        by_way = [evaluation.figures[way][name] for way in ways]
        cells = [f"{one.mean:.4f} ({one.low:.4f} to {one.high:.4f})" for one in by_way]
        best = max((one.mean for way, one in zip(ways, by_way, strict=True) if way != OURS), default=0.0)
        rows.append([name, *cells, *([f"{evaluation.figures[OURS][name].mean - best:+.4f}"] if compared else [])])
    return ["measure", *ways, *(["both - better"] if compared else [])], rows


def lost_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """The questions on which one search alone was ahead, the widest gaps first."""
    rows = [
        [one.question.text, ", ".join(sorted(one.question.relevant)), ", ".join(one.first[:3]), f"{gap:.3f}", way]
        for gap, way, one in lost(evaluation.ways, OURS)[:WORST]
    ]
    return ["question", "relevant", "found first", "behind by", "of"], rows


def worst_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    worst = sorted(evaluation.ways[OURS], key=lambda one: (one.ndcg, one.question.id))[:WORST]
    rows = [
        [one.question.text, ", ".join(sorted(one.question.relevant)), ", ".join(one.first[:3]), f"{one.ndcg:.3f}"]
        for one in worst
    ]
    return ["question", "relevant", "found first", "nDCG"], rows
