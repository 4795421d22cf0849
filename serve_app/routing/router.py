"""Which version of which model answers: a decision over the registry's copy, without a call to anyone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from serve_app.errors import MantaError, UnknownModel
from serve_app.registry.entry import ModelEntry
from serve_app.registry.snapshot import Snapshot
from serve_app.router_settings import AUTO, RouterSettings
from serve_app.routing.asked import Asked, asked_of
from serve_app.routing.choice import Choice
from serve_app.routing.decided import decided
from serve_app.routing.limits import Limits, Paces
from serve_app.routing.route import Route
from serve_app.routing.rules import automatic, named
from serve_app.routing.sticky import Stickiness, identity
from serve_app.routing.table import RoutingTable
from serve_app.routing.task import SHIPPED, TaskReader
from serve_app.turn import Signals, Turn


@dataclass(slots=True)
class _Tables:
    """The table of the copy that was seen last, and the last ones of those who are not served any more."""

    snapshot: Snapshot | None = None
    now: RoutingTable | None = None
    gone: dict[str, RoutingTable] = field(default_factory=dict)
    """By model and by `model@version`."""

    def of(self, snapshot: Snapshot, environment: str) -> RoutingTable:
        if self.now is None or self.snapshot is not snapshot:
            before, self.now = self.now, RoutingTable.of(snapshot, environment)
            self.snapshot = snapshot
            left = {name: before for name in (*before.models, *before.named)} if before else {}
            self.gone = {name: table for name, table in (self.gone | left).items() if not self.now.serves(name)}
        return self.now


@dataclass(frozen=True)
class Router:
    snapshot: Callable[[], Snapshot]
    """The registry as this process knows it now."""
    environment: str
    settings: RouterSettings
    pace: Paces | None = None
    """How long versions take to begin; without it nobody is left out for that."""
    tasks: TaskReader = field(default_factory=lambda: TaskReader.load(SHIPPED))
    _sticky: Stickiness = field(default_factory=Stickiness)
    _tables: _Tables = field(default_factory=_Tables)

    def models(self) -> Mapping[str, tuple[ModelEntry, ...]]:
        """Enabled versions by model."""
        return {model: versions.entries for model, versions in self._table().models.items()}

    def check(self, model: str) -> None:
        """Raises UnknownModel before any work is done for a model that is not served."""
        table = self._table()
        if not self._serves(table, model):
            raise unknown(table, model)

    def route(self, turn: Turn, signals: Signals | None) -> Route:
        """Raises InvalidRequest or ContextLengthExceeded, with what stands against each, where nobody can answer."""
        table = self._table()
        if not self._serves(table, turn.model):
            # It was served when the turn was checked: who was let in is not sent away by a change made since.
            last = (self._tables.gone.get(name) for name in self._names(turn.model))
            table = next((known for known in last if known), table)
        asked = self._asked(turn, signals)
        plan = (automatic if turn.model == AUTO else named)(asked, self.settings)
        limits = Limits(asked=asked, pace=self.pace, max_cost=plan.max_cost, max_first_token_ms=plan.max_first_token_ms)
        choice = Choice(table, limits, identity(asked, self.settings.sticky))
        if turn.model in table.named and turn.model not in table.models:
            choice.pinned(table.named[turn.model])
        else:
            choice.of(plan, self._sticky)
        return decided(plan, choice)

    def passes_unscreened(self, model: str) -> bool:
        """Whether a question may go on when the screener is missing: only if all that it can reach says so."""
        table = self._table()
        entries = [entry for name in self._reachable(model) for entry in table.reached(name)]
        return all(entry.screener_down == "pass" and entry.egress == "raw" for entry in entries)

    def grounds_by_default(self, model: str) -> bool:
        """Retrieval without being asked: for `auto`, and for an engine that knows nothing but documents."""
        return model == AUTO or any(entry.engine == "extractive" for entry in self._table().reached(model))

    def _names(self, model: str) -> tuple[str, ...]:
        """Of those that may be chosen where `model` is asked for."""
        settings = self.settings
        if model != AUTO:
            return (model,)
        return settings.small, settings.large, *(name for rule in settings.rules for name in rule.models)

    def _reachable(self, model: str) -> set[str]:
        first = self._names(model)
        return {*first, *(name for one in first for name in self.settings.fallbacks.get(one, ()))}

    def _serves(self, table: RoutingTable, model: str) -> bool:
        return any(table.serves(name) for name in (self._reachable(AUTO) if model == AUTO else (model,)))

    def _asked(self, turn: Turn, signals: Signals | None) -> Asked:
        if signals is None:
            return asked_of(turn, None, None)
        task = self.tasks.task_of(signals.embedding) if turn.model == AUTO else None
        return asked_of(turn, signals.scores.get("difficulty"), task)

    def _table(self) -> RoutingTable:
        return self._tables.of(self.snapshot(), self.environment)


def unknown(table: RoutingTable, model: str) -> MantaError:
    """Says what of the name is not there, and what is."""
    name, _, version = model.rpartition("@")
    served = [entry.name for entry in table.reached(name)] or sorted(table.models)
    if model in table.off:
        missing = f"{model!r} is {table.off[model].status} here"
    elif name in table.models:
        missing = f"{name!r} has no version {version!r} here"
    else:
        missing = f"there is no model {model!r} here"
    return UnknownModel(f"model: {missing}; ask for one of: {', '.join([AUTO, *served])}").at("model")
