"""What becomes of the registry when an operator changes it: each a pure decision over all of it."""

from dataclasses import replace

from serve_app.errors import Conflict, InvalidRequest
from serve_app.registry.checked import Checked, found_out, moved, refuse_elsewhere
from serve_app.registry.entry import CAPABILITIES_OF, Key, ModelEntry, Source, Status
from serve_app.registry.registration import Registration, is_http
from serve_app.registry.rules import refuse_against_rollout, refuse_no_weight
from serve_app.registry.snapshot import Change, Decide, Snapshot
from serve_app.rollout.refusals import known

ALL = 100
"""Weight of the first enabled version of a model, unless told otherwise."""


def register(asked: Registration, checked: Checked | None, *, who: str, why: str = "") -> Decide:
    """Enabled when it was checked. Unchecked, a new or moved one waits as registered; another stays what it is."""

    def decide(snapshot: Snapshot) -> Change:
        stood = snapshot.find(asked.key)
        entry = asked.onto(stood)
        if checked:
            entry = found_out(asked, stood, entry, checked)
        elif asked.engine is None and not is_http(entry.endpoint) and (stood is None or is_http(stood.endpoint)):
            raise InvalidRequest(
                "engine: unchecked, nobody knows how it is spoken to; say 'vllm' or 'extractive', or let it be checked"
            ).at("engine")
        if stood is None and asked.capabilities is None:
            entry = replace(entry, capabilities=CAPABILITIES_OF[entry.engine])
        status: Status = "enabled" if checked else "registered" if moved(stood, entry) else entry.status
        entry = replace(entry, status=status, source=source_after(stood, entry))
        weight = asked.weight if asked.weight is not None else _weight(snapshot, entry)
        return _changed("register", snapshot, replace(entry, weight=weight), who, why, checked)

    return decide


def enable(key: Key, checked: Checked | None, *, weight: int | None = None, who: str, why: str = "") -> Decide:
    def decide(snapshot: Snapshot) -> Change:
        stood = known_entry(snapshot, key)
        if checked:
            refuse_elsewhere(stood, checked)
        enabled = replace(stood, status="enabled")
        chosen = weight if weight is not None else _weight(snapshot, enabled)
        return _changed("enable", snapshot, replace(enabled, weight=chosen), who, why, checked)

    return decide


def disable(key: Key, *, who: str, why: str = "") -> Decide:
    """It takes no more requests; those it answers now end as they would have. Its weight is kept."""

    def decide(snapshot: Snapshot) -> Change:
        entry = replace(known_entry(snapshot, key), status="disabled")
        return _changed("disable", snapshot, entry, who, why)

    return decide


def weigh(key: Key, weight: int, *, who: str, why: str = "") -> Decide:
    def decide(snapshot: Snapshot) -> Change:
        if not 0 <= weight <= 100:
            raise InvalidRequest(f"weight: {weight} is outside 0 to 100").at("weight")
        return _changed("weigh", snapshot, replace(known_entry(snapshot, key), weight=weight), who, why)

    return decide


def deregister(key: Key, *, who: str, why: str = "") -> Decide:
    """Out of the registry; its history stays. What stands in a gateway's config would only come back."""

    def decide(snapshot: Snapshot) -> Change:
        stood = known_entry(snapshot, key)
        if stood.source == "config":
            raise Conflict(
                f"model: {stood.name} stands in the config of the gateway of {stood.environment}; "
                "take it out there, or disable it here"
            ).at("model")
        refuse_no_weight(snapshot, stood, None)
        refuse_against_rollout(snapshot, stood, None)
        return Change(action="deregister", who=who, why=why, removed=(key,))

    return decide


def known_entry(snapshot: Snapshot, key: Key) -> ModelEntry:
    """Raises NotFound naming the models or versions there are."""
    model, version, environment = key
    return known(snapshot, model, environment, version)


def _changed(
    action: str, snapshot: Snapshot, entry: ModelEntry, who: str, why: str, checked: Checked | None = None
) -> Change:
    stood = snapshot.find(entry.key)
    if entry == stood:
        return Change(action=action, who=who, why=why)
    refuse_no_weight(snapshot, stood, entry)
    refuse_against_rollout(snapshot, stood, entry)
    return Change(action=action, who=who, why=why, put=(entry,), figures=checked.figures if checked else {})


def _weight(snapshot: Snapshot, entry: ModelEntry) -> int:
    """Where none was said: what it has, and for the first enabled version of its model all."""
    others = (one for one in snapshot.versions(entry.model, entry.environment) if one.key != entry.key)
    is_first = entry.is_enabled and not any(one.is_enabled for one in others)
    return ALL if is_first and not entry.weight else entry.weight


def source_after(stood: ModelEntry | None, entry: ModelEntry) -> Source:
    """An operator's word stands over the config's, but for weight and status, of which the config says nothing."""
    if stood and stood.source == "config" and replace(entry, status=stood.status, weight=stood.weight) == stood:
        return "config"
    return "operator"
