"""What is taken over from an endpoint that was asked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from serve_app.errors import Conflict, InvalidRequest
from serve_app.registry.entry import ModelEntry
from serve_app.registry.operations import CheckResult
from serve_app.registry.registration import Registration, is_http


@dataclass(frozen=True, slots=True)
class Checked:
    entry: ModelEntry
    """As it was asked about."""
    result: CheckResult

    @property
    def figures(self) -> Mapping[str, Any]:
        """What was seen, for the history."""
        return {"checked": dict(self.result.steps), "seconds": round(self.result.seconds, 3), **self.result.figures}


def moved(stood: ModelEntry | None, entry: ModelEntry) -> bool:
    """Whether requests would go somewhere else than to what is known to answer."""
    return stood is None or _place(stood) != _place(entry)


def _place(entry: ModelEntry) -> tuple[str, ...]:
    return entry.endpoint, entry.engine, entry.served_name, entry.key_env


def found_out(asked: Registration, stood: ModelEntry | None, entry: ModelEntry, checked: Checked) -> ModelEntry:
    """`entry` with what was not said of it, as its endpoint says it; of one known before only how it is spoken to.

    Raises Conflict where another operator moved it meanwhile, InvalidRequest where the endpoint does not know it.
    """
    refuse_elsewhere(entry, checked)
    result, found = checked.result, dict[str, Any]()
    if asked.engine is None and result.engine and not is_http(entry.endpoint):
        found["engine"] = result.engine
    if stood is None or stood.endpoint != entry.endpoint:
        found |= _facts(asked, entry, result)
    return replace(entry, **found)


def refuse_elsewhere(entry: ModelEntry, checked: Checked) -> None:
    if checked.entry.endpoint != entry.endpoint:
        raise Conflict(
            f"endpoint: {entry.name} was moved to {entry.endpoint} while {checked.entry.endpoint} was checked; "
            "`manta registry show` shows it, then try again"
        )


def _facts(asked: Registration, entry: ModelEntry, result: CheckResult) -> Mapping[str, Any]:
    facts: dict[str, Any] = {}
    if asked.context_tokens is None and result.context_tokens:
        facts["context_tokens"] = result.context_tokens
    if asked.served_name is None and result.served_names:
        facts["served_name"] = _served_name(entry, result.served_names)
    return facts


def _served_name(entry: ModelEntry, names: tuple[str, ...]) -> str:
    if entry.model in names:
        return ""
    if len(names) == 1:
        return names[0]
    raise InvalidRequest(
        f"served_name: {entry.endpoint} serves {', '.join(names[:10])} and none is called {entry.model!r}; "
        "say which of them it is"
    ).at("served_name")
