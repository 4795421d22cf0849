"""Entries, rollouts and audit rows as JSON holds them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from serve_app.registry.entry import ModelEntry
from serve_app.registry.snapshot import Audit
from serve_app.rollout.rollout import Rollout


def plain(record: ModelEntry | Rollout | Audit) -> dict[str, Any]:
    """Its fields by name, in their order; sets sorted, so that equal entries look equal."""
    return {field.name: _plain(getattr(record, field.name)) for field in fields(record)}


def _plain(value: Any) -> Any:
    match value:
        case frozenset():
            return sorted(value)
        case tuple():
            return list(value)
        case Mapping():
            return dict(value)
    return value
