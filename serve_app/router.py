from collections.abc import Mapping
from dataclasses import dataclass

from serve_app.errors import UnknownModel
from serve_app.settings import ModelSettings, RouterSettings
from serve_app.turn import Signals

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Route:
    model: str
    reason: str
    """Why, in a few words, for the `x-manta-route` header."""


@dataclass(frozen=True)
class Router:
    models: Mapping[str, ModelSettings]
    settings: RouterSettings

    def check(self, model: str) -> None:
        """Raises UnknownModel before any work is done for a model that is not served."""
        if model != AUTO and model not in self.models:
            served = ", ".join([AUTO, *sorted(self.models)])
            raise UnknownModel(f"model: there is no model {model!r} here; ask for one of: {served}").at("model")

    def route(self, model: str, signals: Signals | None) -> Route:
        if model != AUTO:
            return Route(model, "explicit")
        if signals is None:
            return Route(self.settings.small, "auto; no classifier, default model")
        if self.settings.small == self.settings.large:
            return Route(self.settings.small, "auto; one model")
        difficulty, threshold = signals.scores["difficulty"], self.settings.difficulty_threshold
        if difficulty < threshold:
            return Route(self.settings.small, f"auto; difficulty {difficulty:.2f} < {threshold:.2f}")
        return Route(self.settings.large, f"auto; difficulty {difficulty:.2f} >= {threshold:.2f}")

    def passes_unscreened(self, model: str) -> bool:
        """Whether a question may go on when the screener is missing: only if every model it can reach says so."""
        reachable = {self.settings.small, self.settings.large} if model == AUTO else {model}
        return all(self.models[name].screener_down == "pass" for name in reachable)

    def grounds_by_default(self, model: str) -> bool:
        """Retrieval without being asked: for `auto`, and for an engine that knows nothing but documents."""
        return model == AUTO or self.models[model].engine == "extractive"
