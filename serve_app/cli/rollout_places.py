"""Which rollout is meant, where the operator did not say all of it."""

from dataclasses import dataclass

from serve_app.cli.admin import Reached
from serve_app.cli.remote_rollouts import rollouts_of
from serve_app.errors import InvalidRequest, NotFound
from serve_app.rollout.operations import Standing


@dataclass(frozen=True, slots=True)
class Place:
    model: str
    environment: str


async def place_of(there: Reached, model: str, environment: str | None, *, to_version: str = "") -> Place:
    """The environment said; else the one in which a rollout of the model is under way; else the one in which it is
    registered (with `to_version`, where one is said). Raises where that leaves none, or several."""
    if environment:
        return Place(model, environment)
    if not to_version and (found := await rollouts_of(there).under_way(model=model)):
        return Place(model, _single(model, "has rollouts under way", {one.environment for one in found}))
    entries = await there.registry.entries(model=model)
    if not entries:
        known = sorted({entry.model for entry in await there.registry.entries()})
        listed = f"there are: {', '.join(known)}" if known else "none is registered"
        raise NotFound(f"model: no model {model!r}; {listed}")
    everywhere: set[str] = {entry.environment for entry in entries}
    fitting: set[str] = {entry.environment for entry in entries if to_version in ("", entry.version)}
    return Place(model, _single(model, "is registered", fitting or everywhere))


def _single(model: str, what: str, environments: set[str]) -> str:
    if len(environments) > 1:
        raise InvalidRequest(
            f"environment: {model} {what} in {' and '.join(sorted(environments))}; say which with --environment"
        )
    return environments.pop()


async def only_rollout(there: Reached, environment: str | None) -> Place:
    """Of the one rollout under way. Raises where there is none, or several."""
    found: tuple[Standing, ...] = await rollouts_of(there).under_way(environment=environment or "")
    if len(found) == 1:
        return Place(found[0].model, found[0].environment)
    if found:
        names = ", ".join(f"{one.model} in {one.environment}" for one in found)
        raise InvalidRequest(f"model: {len(found)} rollouts are under way ({names}); say which")
    raise InvalidRequest("model: no rollout is under way; name the model whose last one is to be taken back")
