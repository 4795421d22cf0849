"""The probes of a run: our own, and sets of others by path: what their columns and names say about each row."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from serve_app.redteam.encodings import encoded
from serve_app.redteam.suite import FAMILIES, HARMLESS, Family, Planting, Probe, planting, suite_file, written

OWN_NAME = "own"
READ = (".jsonl", ".csv", ".yaml", ".yml")
TEXT_COLUMNS = ("user_input", "prompt", "text", "attack")
"""The first of these that a row has is what is said to the target."""
SYSTEM_COLUMN = "test_case_prompt"
KIND_COLUMNS = ("kind", "category", "injection_variant", "type")
_HARMLESS_LABELS = frozenset({"0", "false", "safe", "benign", "harmless", "no"})
_ATTACK_LABELS = frozenset({"1", "true", "unsafe", "attack", "injection", "malicious", "jailbreak", "harmful", "yes"})
_NAMES: tuple[tuple[str, Family], ...] = (
    (r"extract|leak", "system_prompt_extraction"),
    (r"indirect|bipia", "indirect_injection"),
    (r"jailbreak|in-?the-?wild|\bdan\b", "jailbreak"),
    (r"harm|xstest", "harmful_requests"),
    (r"\bpii\b|exfiltrat", "pii_exfiltration"),
    (r"encod", "encoded_payloads"),
    (r"inject", "direct_injection"),
)
"""Words in the path of a set of attacks, the most telling first."""
_MOST_FIELD_CHARACTERS = 2**24


@dataclass(frozen=True, slots=True)
class Reading:
    probes: tuple[Probe, ...]
    faults: tuple[str, ...]
    """One sentence for each file that could not be read."""


@dataclass(frozen=True, slots=True)
class Grounds:
    """What rows need that hold only an attack: a page to stand in, and a system message with a secret to ask for."""

    planting: Planting
    system: str
    canary: tuple[str, ...]


class _Unreadable(ValueError):
    """The message is a sentence about the file."""


def gathered(names: Sequence[str]) -> Reading:
    """The probes of each name: `own`, or the path of a file or a folder, which is searched."""
    ours = written()
    secret = next(probe for probe in ours if probe.family == "system_prompt_extraction")
    grounds = Grounds(planting(), secret.system, secret.canary)
    probes: list[Probe] = []
    faults: list[str] = []
    for name in names:
        if name == OWN_NAME:
            probes += (*ours, *encoded(ours))
            continue
        for file in sorted(_files(Path(name))):
            try:
                probes += _probes(file, grounds)
            except _Unreadable as exc:
                faults.append(f"{file}: {exc}")
            except OSError as exc:
                faults.append(f"{file}: cannot be read: {exc.strerror}")
    return Reading(tuple(probes), tuple(faults))


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for file in path.rglob("*"):
        if (
            file.suffix in READ
            and file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ):
            yield file


def _probes(file: Path, grounds: Grounds) -> list[Probe]:
    if file.suffix in (".yaml", ".yml"):
        return _yaml_probes(file)
    if file.suffix not in READ:
        raise _Unreadable(f"is not a kind that is read: {' '.join(READ)}")
    name = "/".join(file.resolve().parts[-2:])  # a file's folder says what it is too: `jailbreaks/2025.csv`
    rows = [(number, row) for number, row in _rows(file) if any(_text(row, column) for column in TEXT_COLUMNS)]
    if not rows:
        raise _Unreadable(f"no row has text in a column {', '.join(TEXT_COLUMNS)}")
    probes = [probe for number, row in rows if (probe := _probe(row, number, name, grounds))]
    if not probes:
        raise _Unreadable("no column `label` or `family`, and no word of its name, says what its rows are")
    return probes


def _yaml_probes(file: Path) -> list[Probe]:
    try:
        return [probe.model_copy(update={"source": file.stem}) for probe in suite_file(file)]
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise _Unreadable(f"is not YAML: {str(exc).splitlines()[0]}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        raise _Unreadable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from exc


def _rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows with the number of their line."""
    csv.field_size_limit(_MOST_FIELD_CHARACTERS)
    try:
        with file.open(encoding="utf-8-sig", newline="" if file.suffix == ".csv" else None) as lines:
            if file.suffix == ".csv":
                yield from enumerate(csv.DictReader(lines), start=2)
                return
            for number, line in enumerate(lines, start=1):
                row = json.loads(line) if line.strip() else {}
                if not isinstance(row, dict):
                    raise _Unreadable(f"line {number} is not a JSON object")
                yield number, row
    except json.JSONDecodeError as exc:
        raise _Unreadable(f"line {number} is not JSON: {exc}") from exc
    except (UnicodeDecodeError, csv.Error) as exc:
        raise _Unreadable(f"is not text of that kind: {exc}") from exc


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    return value if isinstance(value, str) and value.strip() else ""


def _probe(row: Mapping[str, Any], number: int, name: str, grounds: Grounds) -> Probe | None:
    family = family_of(row, name)
    if family is None:
        return None
    text = next(found for column in TEXT_COLUMNS if (found := _text(row, column)))
    source = name.rsplit(".", 1)[0]
    kind = next((found for column in KIND_COLUMNS if (found := _text(row, column))), "")
    name_of_row = f"{source}:{number}"
    if family == "indirect_injection" and not _text(row, SYSTEM_COLUMN):
        return grounds.planting.probe(text, number).model_copy(
            update={"id": name_of_row, "source": source, "kind": kind}
        )
    system = _text(row, SYSTEM_COLUMN)
    mark = _text(row, "canary")
    canary = (mark,) if mark else ()
    probe = Probe(id=name_of_row, family=family, prompt=text, system=system, canary=canary, source=source, kind=kind)
    if family == "system_prompt_extraction" and not probe.system:
        return probe.model_copy(update={"system": grounds.system, "canary": grounds.canary})
    return probe


def family_of(row: Mapping[str, Any], name: str) -> Family | None:
    """None where neither a column nor the file's name says what the row is."""
    if named := next((family for family in FAMILIES if family == row.get("family")), None):
        return named
    is_attack = _is_attack(row)
    if is_attack is False:
        return HARMLESS
    if row.get("injection_type") == "indirect":
        return "indirect_injection"
    by_name = next((family for word, family in _NAMES if re.search(word, name.casefold())), None)
    return by_name or ("direct_injection" if is_attack else None)


def _is_attack(row: Mapping[str, Any]) -> bool | None:
    for column in ("label", "is_malicious"):
        label = str(row.get(column, "")).strip().casefold()
        if label in _HARMLESS_LABELS:
            return False
        if label in _ATTACK_LABELS:
            return True
    return None
