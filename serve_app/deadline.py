"""A part that answers too late is a part that is not there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve_app.errors import ScreenerUnavailable, Unavailable
from serve_app.ports import Screener
from serve_app.turn import Scope, Screening


@asynccontextmanager
async def within(seconds: float, part: str, failure: type[Unavailable]) -> AsyncIterator[None]:
    """Raises `failure` when what stands under it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as late:
        raise failure(f"the {part} did not answer within {seconds:.3g} s; try again") from late


async def screened(screener: Screener, texts: tuple[str, ...], scope: Scope, seconds: float) -> tuple[Screening, ...]:
    """One screening per text. Raises ScreenerUnavailable, also when it is late or has not answered for all."""
    async with within(seconds, "screener", ScreenerUnavailable):
        screenings = await screener.screen(texts, scope)
    if len(screenings) != len(texts):
        raise ScreenerUnavailable(f"the screener answered for {len(screenings)} of {len(texts)} texts")
    return screenings
