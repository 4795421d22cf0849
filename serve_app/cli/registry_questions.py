"""What an operator is asked before requests go elsewhere, or something is overwritten or gone."""

from collections.abc import Sequence
from dataclasses import replace

import typer

from serve_app.cli.admin import confirmed
from serve_app.cli.registry_tables import differences, percent, shares
from serve_app.registry.changes import known_entry, source_after
from serve_app.registry.entry import Key, ModelEntry
from serve_app.registry.plain import plain
from serve_app.registry.registration import Registration
from serve_app.registry.snapshot import Snapshot

Versions = Sequence[ModelEntry]


def ask_to_register(asked: Registration, versions: Versions, check: bool, yes: bool) -> None:
    """`versions`: of its model and environment."""
    stood = next((entry for entry in versions if entry.key == asked.key), None)
    wanted = asked.onto(stood)
    wanted = replace(wanted, status="enabled") if check else wanted
    wanted = wanted if asked.weight is None else replace(wanted, weight=asked.weight)
    if stood:
        _ask_to_change(stood, wanted, yes)
        return
    others = [entry for entry in versions if entry.is_enabled]
    if check and asked.weight and others:
        share = percent(shares([*others, wanted])[wanted.key])
        place = f"{asked.model}'s requests in {asked.environment}"
        confirmed(f"{asked.name} would take {share} of {place} at once. Register it?", yes)


def _ask_to_change(stood: ModelEntry, wanted: ModelEntry, yes: bool) -> None:
    changed = differences(plain(stood), plain(replace(wanted, source=source_after(stood, wanted))))
    if not changed:
        return
    if not yes:
        typer.echo("\n".join(f"  {line}" for line in changed), err=True)
    confirmed(f"{stood.name} is in {stood.environment} already. Change it like this?", yes)


def ask_to_disable(key: Key, versions: Versions, yes: bool) -> None:
    stood = known_entry(Snapshot(entries=tuple(versions)), key)
    if _answers_alone(stood, versions):
        what = f"No other version of {stood.model} is enabled in {stood.environment}: nobody would answer for it."
        confirmed(f"{what} Disable {stood.name}?", yes)


def ask_to_deregister(key: Key, versions: Versions, yes: bool) -> None:
    """`versions`: all that are registered."""
    stood = known_entry(Snapshot(entries=tuple(versions)), key)
    share = shares(versions).get(key)
    what = f"It is {stood.status}" if share is None else f"It takes {percent(share)} of {stood.model}'s requests"
    confirmed(f"{what}. Take {stood.name} out of {stood.environment} for good?", yes)


def _answers_alone(stood: ModelEntry, versions: Versions) -> bool:
    place = (stood.model, stood.environment)
    enabled = [one for one in versions if one.is_enabled and (one.model, one.environment) == place]
    return enabled == [stood]
