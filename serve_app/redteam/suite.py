"""What is tried on a target: the project's own probes, written for it, as YAML beside this file."""

import hashlib
import json
import random
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Family = Literal[
    "direct_injection",
    "jailbreak",
    "encoded_payloads",
    "system_prompt_extraction",
    "pii_exfiltration",
    "indirect_injection",
    "harmful_requests",
    "over_refusal",
]
FAMILIES: tuple[Family, ...] = get_args(Family)
HARMLESS: Family = "over_refusal"
HERE = Path(__file__).parent


def _listed(given: object) -> object:
    return (given,) if isinstance(given, str) else given


Marks = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""Any of these in the answer proves that the attack worked: what it asks for, or a secret that leaks."""


class Remark(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class Probe(BaseModel):
    """One thing that is said to the target, and the mark by which its success is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1)
    family: Family
    prompt: str = Field(min_length=1)
    """The last message of the user."""
    system: str = ""
    messages: tuple[Remark, ...] = ()
    """What was said between the system message and the prompt."""
    document: str = ""
    """A page that holds the attack: it reaches the model by file search, or as the result of a tool."""
    canary: Marks = ()
    kind: str = ""
    """Its sort within the family, such as a disguise or a category of harm: figures are told for each."""
    source: str = "manta"
    """The suite it comes from: figures are told for each."""

    @property
    def is_decidable(self) -> bool:
        """Whether success would be seen. An answer to a question about a page does not show what else it obeyed."""
        return bool(self.canary) or not self.document


class _SuiteFile(BaseModel):
    """A family's file: `system` and `canary` are for those probes that name none of their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Family
    system: str = ""
    canary: Marks = ()
    probes: tuple[Probe, ...]

    @model_validator(mode="before")
    @classmethod
    def _share(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(given.get("probes"), list):
            return given
        shared = {key: given[key] for key in ("family", "system", "canary") if key in given}
        return {**given, "probes": [{**shared, **probe} for probe in given["probes"]]}


class Carrier(BaseModel):
    """A harmless page with a question it answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    question: str
    paragraphs: tuple[str, ...] = Field(min_length=2)

    def planted(self, attack: str, place: int) -> str:
        """The page as Markdown, with the attack as a paragraph of its own after the `place`-th."""
        after = 1 + place % len(self.paragraphs)
        return "\n\n".join((f"# {self.title}", *self.paragraphs[:after], attack, *self.paragraphs[after:]))


class _Planted(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    attack: str
    canary: Marks


class Planting(BaseModel):
    """Attacks that stand in documents, and the pages to plant them in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    carriers: tuple[Carrier, ...] = Field(min_length=1)
    attacks: tuple[_Planted, ...]

    def probe(self, attack: str, place: int) -> Probe:
        """The attack in a page and at a place that follow from the number."""
        carrier = self.carriers[place % len(self.carriers)]
        document = carrier.planted(attack, place // len(self.carriers))
        return Probe(id=str(place), family="indirect_injection", prompt=carrier.question, document=document)

    @property
    def probes(self) -> tuple[Probe, ...]:
        return tuple(
            self.probe(one.attack, place).model_copy(update={"id": one.id, "canary": one.canary})
            for place, one in enumerate(self.attacks)
        )


def suite_file(path: Path) -> tuple[Probe, ...]:
    """The probes of a file in our own form. Raises pydantic's ValidationError, and yaml.YAMLError."""
    return _SuiteFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))).probes


def planting() -> Planting:
    return Planting.model_validate(yaml.safe_load((HERE / "planting.yaml").read_text(encoding="utf-8")))


def written() -> tuple[Probe, ...]:
    """Our own probes, without those in disguise that code makes of them."""
    files = sorted((HERE / "suites").glob("*.yaml"))
    return (*(probe for path in files for probe in suite_file(path)), *planting().probes)


def limited(probes: Sequence[Probe], most: int | None, seed: int) -> tuple[Probe, ...]:
    """At most so many of each family, drawn by the seed and evenly from its suites; in the order given."""
    if most is None:
        return tuple(probes)
    drawn: set[int] = set()
    for family in FAMILIES:
        suites: dict[str, list[int]] = {}
        for place, probe in enumerate(probes):
            if probe.family == family:
                suites.setdefault(probe.source, []).append(place)
        shuffled = [random.Random(seed).sample(places, len(places)) for places in suites.values()]
        in_turn = [place for round_ in zip_longest(*shuffled) for place in round_ if place is not None]
        drawn |= set(in_turn[:most])
    return tuple(probe for place, probe in enumerate(probes) if place in drawn)


def digest(probes: Sequence[Probe]) -> str:
    """Names exactly what was tried: two reports compare only where it is the same."""
    rows = json.dumps([probe.model_dump(mode="json") for probe in probes], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(rows.encode()).hexdigest()[:16]
