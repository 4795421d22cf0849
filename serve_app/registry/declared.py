"""The models of a config as entries of the registry: what is served before, and without, a database."""

from collections.abc import Mapping

from serve_app.registry.entry import CAPABILITIES_OF, Environment, ModelEntry
from serve_app.registry.snapshot import Snapshot
from serve_app.settings import ModelSettings


def declared(models: Mapping[str, ModelSettings], environment: Environment) -> Snapshot:
    """Each model enabled, with all of the weight."""
    entries = (entry_of(name, model, environment) for name, model in models.items())
    return Snapshot(entries=tuple(sorted(entries, key=lambda entry: entry.key)))


def entry_of(name: str, model: ModelSettings, environment: Environment) -> ModelEntry:
    return ModelEntry(
        model=name,
        version=model.version,
        environment=environment,
        endpoint=f"serve://{model.application}",
        engine=model.engine,
        status="enabled",
        weight=100,
        context_tokens=model.context_tokens,
        capabilities=CAPABILITIES_OF[model.engine] if model.capabilities is None else model.capabilities,
        prompt_price=model.prompt_price,
        output_price=model.output_price,
        licence=model.licence,
        owner=model.owned_by,
        first_event_deadline_s=model.first_event_deadline_s,
        screener_down=model.screener_down,
        source="config",
    )
