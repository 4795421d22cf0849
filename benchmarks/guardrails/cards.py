"""What the model cards say of texts that were kept from the training."""

import json
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[2] / "serve_app"
HEADS, NAMES, INSPECTOR = PACKAGE / "heads.json", PACKAGE / "names" / "names.json", PACKAGE / "indirect.json"

Place = tuple[Path, tuple[str, ...]]


def unseen(group: str, name: str) -> float | None:
    """The card's figure for a set; None where no card has it."""
    card, keys = place(group, name) or (HEADS, ())
    found: Any = described(card) if keys else None
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return float(found) if isinstance(found, int | float) else None


def place(group: str, name: str) -> Place | None:
    """Where a card has the figure."""
    site = name.removeprefix("pages ")
    known: dict[str, Place] = {
        "Personal data, spans at least half covered": (NAMES, ("reach", name, "share")),
        "Personal data, precision": (NAMES, ("precision",)),
        "Personal data on technical pages, findings per 500 words": (NAMES, ("false_per_500_words", site)),
    }
    if group == "Instructions in passages":
        bipia, clean = ("found, by source", "bipia"), ("clean passages flagged", "all")
        return INSPECTOR, ("figures", *(clean if name == "clean passages touched" else bipia), "share")
    return known.get(group)


@cache
def described(card: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    return found
