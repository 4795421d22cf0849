"""An engine that answers at once: what is left of a request's time is Manta's own."""

from ray import serve
from ray.serve import Application

from serve_app.events import Delta, Events, Finished
from serve_app.turn import Turn


class Instant:
    async def generate(self, turn: Turn) -> Events:
        """As many tokens as `max_tokens` says, one delta each, as fast as they can be sent."""
        wanted = int(turn.parameters.get("max_tokens", 1))
        for number in range(wanted):
            yield Delta({"content": "word "}, finish_reason="length" if number == wanted - 1 else None)
        yield Finished(prompt_tokens=1, output_tokens=wanted)

    async def ping(self) -> None:
        """Answers once it is constructed."""


def build_instant(arguments: dict[str, str]) -> Application:
    """Takes no arguments; Serve wants a builder to have the parameter."""
    return serve.deployment(name="engine", max_ongoing_requests=1_000, ray_actor_options={"num_cpus": 0.1})(
        Instant
    ).bind()
