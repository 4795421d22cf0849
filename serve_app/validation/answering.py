"""Steps about what is answered: the registry's entry, a question, and what is counted of it."""

from collections.abc import Sequence

from prometheus_client.parser import text_string_to_metric_families

from serve_app.deployed.disagreements import OPEN
from serve_app.deployed.gateway import Gateway
from serve_app.registry.entry import ModelEntry
from serve_app.validation.finding import Finding, failed, passed, together, warning
from serve_app.validation.target import Answered, Health

OF_MODEL = ("manta_turns", "manta_time_to_first_token_seconds", "manta_tokens")
"""Families that a dashboard shows by model: each needs a sample with the label `model`."""
OF_SERVICE = ("manta_stage_seconds", "manta_turns_under_way", "manta_degraded", "manta_refused", "manta_rollbacks")
"""Families that must be there, with or without samples."""


def healthy(health: Health, tries: int) -> Finding:
    faults = [f"{part}: {state}" for part, state in health.parts.items() if state != "ok"]
    if not health.is_ready:
        return failed(f"not ready after {tries} tries: {'; '.join(faults)}", tries=tries)
    if faults:
        return warning(f"ready, without a part: {'; '.join(faults)}", tries=tries)
    return passed(f"ready, {len(health.parts)} parts" + (f", after {tries} tries" if tries > 1 else ""), tries=tries)


def registered(
    model: str, version: str, environment: str, entries: Sequence[ModelEntry], gateway: Gateway | None
) -> Finding:
    """`entries`: of the model, in every environment."""
    own = [entry for entry in entries if entry.environment == environment]
    if not own:
        there = ", ".join(sorted({entry.environment for entry in entries}))
        return failed(f"{model} is not registered in {environment}, but in {there}")
    found = [_entry(model, version, own)]
    if gateway and gateway.environment != environment:
        found.append(failed(f"the gateway serves {gateway.environment}, not {environment}"))
    elif gateway:
        opened = [e.name for e in own if e.is_enabled and gateway.circuits.get(e.name) == OPEN]
        found += [failed(f"the circuit of {name} is open: its last requests failed") for name in opened]
        if gateway.is_stale:
            found.append(warning(f"the gateway has not reached the registry's database for {gateway.age_s:.0f} s"))
    return together(found)


def _entry(model: str, version: str, own: Sequence[ModelEntry]) -> Finding:
    listed = ", ".join(f"{entry.version} {entry.status} weight {entry.weight}" for entry in own)
    if version:
        asked = next((entry for entry in own if entry.version == version), None)
        if asked is None:
            return failed(f"{model} has no version {version!r} in {own[0].environment}; it has {listed}")
        if not asked.is_enabled:
            return failed(f"{asked.name} is {asked.status}; `manta registry enable` lets it answer")
    elif not any(entry.is_enabled and entry.weight for entry in own):
        return failed(f"no version of {model} takes requests: {listed}")
    return passed(listed, versions={entry.version: entry.weight for entry in own if entry.is_enabled})


def answered(model: str, version: str, answer: Answered) -> Finding:
    figures = {
        "first_token_s": round(answer.first_token_s, 4),
        "seconds": round(answer.seconds, 4),
        "characters": answer.characters,
        "version": answer.version,
    }
    who = f"{answer.model}@{answer.version}" if answer.version else answer.model
    if answer.model != model or (version and answer.version != version):
        return failed(f"{who} answered in its place: see `manta deployment status`", **figures)
    if not answer.is_whole or not answer.characters:
        fault = "was empty" if answer.is_whole else "broke off"
        return failed(f"the answer of {who} {fault} ({answer.characters} characters)", **figures)
    took = f"first token after {answer.first_token_s * 1000:.0f} ms, whole after {answer.seconds * 1000:.0f} ms"
    return passed(f"{who} answered {answer.characters} characters, {took}", **figures)


def counted(model: str, expositions: Sequence[str]) -> Finding:
    """`expositions`: of one ingress replica or several; what one of them has is there.

    Raises ValueError for a text that is none of Prometheus'.
    """
    samples: dict[str, set[str]] = {}
    for text in expositions:
        for family in text_string_to_metric_families(text):
            samples.setdefault(family.name, set()).update(one.labels.get("model", "") for one in family.samples)
    missing = [name for name in (*OF_MODEL, *OF_SERVICE) if name not in samples]
    silent = [name for name in OF_MODEL if name in samples and model not in samples[name]]
    if missing:
        return failed(f"a dashboard would lack {', '.join(missing)}")
    if silent:
        return failed(f"nothing is counted for {model} in {', '.join(silent)}")
    return passed(f"{len(OF_MODEL)} metrics of {model}, {len(OF_SERVICE)} of the service")
