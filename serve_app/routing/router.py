"""Which version of which model answers: a pure decision over the registry's copy, without a call to anyone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from serve_app.errors import UnknownModel
from serve_app.registry.entry import ModelEntry
from serve_app.registry.snapshot import Snapshot
from serve_app.router_settings import RouterSettings
from serve_app.routing.route import AUTO, Route
from serve_app.turn import Signals, Turn


@dataclass(frozen=True)
class Router:
    snapshot: Callable[[], Snapshot]
    """The registry as this process knows it now."""
    environment: str
    settings: RouterSettings

    def models(self) -> Mapping[str, tuple[ModelEntry, ...]]:
        """Enabled versions by model."""
        found: dict[str, tuple[ModelEntry, ...]] = {}
        for entry in self.snapshot().entries:
            if entry.environment == self.environment and entry.is_enabled:
                found[entry.model] = (*found.get(entry.model, ()), entry)
        return found

    def check(self, model: str) -> None:
        """Raises UnknownModel before any work is done for a model that is not served."""
        models = self.models()
        if model != AUTO and model not in models:
            served = ", ".join([AUTO, *sorted(models)])
            raise UnknownModel(f"model: there is no model {model!r} here; ask for one of: {served}").at("model")

    def route(self, turn: Turn, signals: Signals | None) -> Route:
        if turn.model != AUTO:
            return Route(candidates=self.models()[turn.model], reason="explicit")
        small, large = self.models()[self.settings.small], self.models()[self.settings.large]
        if signals is None:
            return Route(candidates=small, reason="auto; no classifier, default model")
        if self.settings.small == self.settings.large:
            return Route(candidates=small, reason="auto; one model")
        difficulty, threshold = signals.scores["difficulty"], self.settings.difficulty_threshold
        if difficulty < threshold:
            return Route(candidates=small, reason=f"auto; difficulty {difficulty:.2f} < {threshold:.2f}")
        return Route(candidates=large, reason=f"auto; difficulty {difficulty:.2f} >= {threshold:.2f}")

    def passes_unscreened(self, model: str) -> bool:
        """Whether a question may go on when the screener is missing: only if all that it can reach says so."""
        reachable = {self.settings.small, self.settings.large} if model == AUTO else {model}
        models = self.models()
        entries = [entry for name in reachable for entry in models.get(name, ())]
        return all(entry.screener_down == "pass" and entry.egress == "raw" for entry in entries)

    def grounds_by_default(self, model: str) -> bool:
        """Retrieval without being asked: for `auto`, and for an engine that knows nothing but documents."""
        return model == AUTO or any(entry.engine == "extractive" for entry in self.models().get(model, ()))
