"""One measured figure beside what was asked for."""

import statistics
from dataclasses import dataclass

from benchmarks.guardrails.cards import unseen


@dataclass(frozen=True, slots=True)
class Figure:
    group: str
    name: str
    measured: float | None
    """None: it could not be measured here; `note` says why."""
    count: int = 0
    """Texts, spans or calls it was measured on."""
    asked: float | None = None
    is_floor: bool = True
    """Whether `asked` is a least or a most."""
    unseen: float | None = None
    """The same figure on texts the model was not trained on, from the model's own card."""
    unit: str = ""
    """Empty: a share."""
    note: str = ""

    @property
    def is_kept(self) -> bool:
        """Judged on what the model had not seen, where that was measured."""
        value = self.measured if self.unseen is None else self.unseen
        if value is None or self.asked is None:
            return True
        return value >= self.asked if self.is_floor else value <= self.asked

    @property
    def verdict(self) -> str:
        if self.asked is None:
            return ""
        if self.measured is None and self.unseen is None:
            return "not measured"
        return "kept" if self.is_kept else "missed"


def shares(
    group: str, found: dict[str, list[bool]], pooled: str, asked: dict[str, float], is_floor: bool = True
) -> list[Figure]:
    """One figure per set, then the figure over all of their texts."""
    everything = [one for each in found.values() for one in each]
    counted = {**found, pooled: everything} if pooled else found
    return [
        Figure(group, name, statistics.fmean(each), len(each), asked.get(name), is_floor, unseen(group, name))
        for name, each in counted.items()
        if each
    ]
