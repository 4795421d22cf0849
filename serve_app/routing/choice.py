"""A plan's models as candidates: their versions that may take the request, in the order in which they are tried."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from serve_app.errors import ContextLengthExceeded, InvalidRequest, MantaError, UnknownModel
from serve_app.registry.entry import ModelEntry
from serve_app.routing.limits import SURELY, Limits, Obstacle
from serve_app.routing.rules import Plan
from serve_app.routing.sticky import Identity, Stickiness, ranked
from serve_app.routing.table import RoutingTable


@dataclass(slots=True)
class Choice:
    """One decision as it is made."""

    table: RoutingTable
    limits: Limits
    who: Identity
    candidates: list[ModelEntry] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """Why, by `model@version`, or by model where none of it is served."""
    is_pinned: bool = False
    """The caller named the version."""
    _obstacles: list[tuple[ModelEntry, Obstacle]] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of its model's requests, the chosen version's."""
        chosen = self.candidates[0]
        return self.table.models[chosen.model].shares.get(chosen.version, 1.0)

    def of(self, plan: Plan, sticky: Stickiness) -> None:
        """Raises InvalidRequest, ContextLengthExceeded or UnknownModel where no model of the plan can take it."""
        for position, model in enumerate(dict.fromkeys(plan.models)):
            versions = self.table.models.get(model)
            if versions is None or not versions.weighted:
                self.left_out[model] = "is not served" if versions is None else "has no version with a weight"
                continue
            fitting = self._fitting(versions.weighted, is_lenient=plan.is_explicit and not position)
            if not fitting:
                continue
            if self.candidates:
                self.candidates += ranked(fitting, self.who.name)
            else:
                self.candidates += sticky.order(model, versions, fitting, self.who)
            self.candidates += self._fitting(versions.spare)
        if not self.candidates:
            self._leave_length_to_engine(plan, sticky)

    def pinned(self, entry: ModelEntry) -> None:
        """The version that the caller named, and no other. Raises InvalidRequest where a limit stands against it."""
        self.is_pinned = True
        self.candidates += self._fitting([entry], is_lenient=True)
        if not self.candidates:
            raise self._refusal([entry.name])

    def _fitting(self, entries: Iterable[ModelEntry], is_lenient: bool = False) -> list[ModelEntry]:
        """Those without an obstacle; where there is none, and leniently, those whose engine may see it otherwise."""
        fine, doubtful = [], []
        for entry in entries:
            obstacle = self.limits.obstacle(entry)
            if obstacle is None:
                fine.append(entry)
                continue
            self._obstacles.append((entry, obstacle))
            self.left_out[entry.name] = obstacle.words
            if obstacle.is_left_to_engine and is_lenient:
                doubtful.append(entry)
        if fine or not doubtful:
            return fine
        for entry in doubtful:
            del self.left_out[entry.name]
        return doubtful

    def _leave_length_to_engine(self, plan: Plan, sticky: Stickiness) -> None:
        """The longest context, where only an estimate of the prompt, or a middle that can go, stands against it."""
        long = [entry for entry, obstacle in self._obstacles if obstacle.kind == "context"]
        longest = max((entry.context_tokens for entry in long), default=0)
        if not longest or self.limits.asked.least.exceeds(SURELY * longest):
            raise self._refusal(plan.models)
        model = next(entry.model for entry in long if entry.context_tokens == longest)
        taken = [entry for entry in long if entry.model == model and entry.context_tokens == longest]
        self.candidates += sticky.order(model, self.table.models[model], taken, self.who)
        for entry in taken:
            del self.left_out[entry.name]

    def _refusal(self, models: Sequence[str]) -> MantaError:
        reasons = "; ".join(f"{name} {words}" for name, words in self.left_out.items())
        kinds = {obstacle.kind for _, obstacle in self._obstacles}
        asked = list(dict.fromkeys(models))
        who = f"{asked[0]} cannot" if len(asked) == 1 else f"none of {', '.join(asked)} can"
        sentence = f"model: {who} take this request: {reasons}"
        if not kinds:
            return UnknownModel(f"{sentence}; GET /v1/models lists what is served").at("model")
        if kinds == {"context"}:
            return ContextLengthExceeded(f"{sentence}; shorten it").at("messages")
        return InvalidRequest(f"{sentence}; ask for another model, or for less").at("model")
