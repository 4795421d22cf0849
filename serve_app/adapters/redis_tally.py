"""Counts of rollouts in Redis, for several ingress replicas."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from uuid import uuid4

from redis import RedisError
from redis.asyncio import Redis

from serve_app.rollout.counts import Counted, Find, Numbers, Place
from serve_app.rollout.outcome import Outcome
from serve_app.rollout.rollout import Rollout
from serve_app.rollout.tally import MOST_PLACES, Book, nowhere, places

logger = logging.getLogger("manta")

TIMEOUT_S = 0.5
FLUSH_S = 0.3
EXPIRES_S = 7 * 24 * 3600
"""After the last outcome of a step."""
_ADD = """
if tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
for i = 4, #ARGV, 2 do redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
"""Adds a batch once: a writer that never heard whether it arrived sends it again under the same number."""


@dataclass
class RedisTally:
    """Implements `Tally`: one hash per rollout, step and arm, whose fields are added to.

    While Redis is away counts add up here; they take no more room than one step's do.
    """

    url: str
    find: Find = nowhere
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    _redis: Redis = field(init=False)
    _unsent: Book = field(init=False)
    _sending: tuple[int, Mapping[Place, Numbers]] | None = None
    _known: dict[Place, Numbers] = field(default_factory=dict)
    """As Redis had them when it was last read."""
    _writer: str = field(default_factory=lambda: f"batch/{uuid4().hex[:12]}")
    _batch: int = 0
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    _is_away: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for a URL that is none; connects at the first call."""
        self._unsent = Book(self.find)
        self._redis = Redis.from_url(
            self.url, decode_responses=True, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )

    def record(self, outcome: Outcome) -> None:
        self._unsent.record(outcome)

    async def read(self, rollout: Rollout) -> Counted:
        wanted = tuple(places(rollout))
        async with self._one_at_a_time:
            try:
                async with self._redis.pipeline(transaction=False) as together:
                    for where in wanted:
                        together.hgetall(_key(where))
                    found = await together.execute()
            except (RedisError, OSError) as failure:
                self._lost(failure)
                return self._seen_here(rollout)
        self._found()
        if len(self._known) > MOST_PLACES:
            self._known.clear()
        for where, numbers in zip(wanted, found, strict=True):
            self._known[where] = {str(name): float(amount) for name, amount in numbers.items()}
        return Counted.of({where[2]: self._known[where] for where in wanted})

    async def run(self) -> None:
        while True:
            await self.pause(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Sends what was counted since; where Redis is away it is sent later."""
        async with self._one_at_a_time:
            for _ in ("what could not be sent before", "what was counted since"):
                if self._sending is None and self._unsent.numbers:
                    self._batch += 1
                    self._sending = self._batch, self._unsent.taken()
                if self._sending is None:
                    return
                try:
                    await self._send(*self._sending)
                except (RedisError, OSError) as failure:
                    self._lost(failure)
                    return
                self._sending = None
                self._found()

    async def close(self) -> None:
        await self.flush()
        await self._redis.aclose()

    async def _send(self, batch: int, counted: Mapping[Place, Numbers]) -> None:
        async with self._redis.pipeline(transaction=False) as together:
            for where, numbers in counted.items():
                amounts = [part for name, amount in numbers.items() for part in (name, repr(amount))]
                together.eval(_ADD, 1, _key(where), self._writer, str(batch), str(EXPIRES_S), *amounts)
            await together.execute()

    def _seen_here(self, rollout: Rollout) -> Counted:
        known = Book(numbers={where: dict(self._known.get(where, {})) for where in places(rollout)})
        for unsent in (self._sending[1] if self._sending else {}, self._unsent.numbers):
            for where, numbers in unsent.items():
                known.add(where, numbers)
        return known.read(rollout)

    def _lost(self, failure: Exception) -> None:
        if not self._is_away:
            # Redis's own words may repeat its address with a password.
            logger.warning("rollouts: Redis is away (%s); outcomes are counted here", type(failure).__name__)
        self._is_away = True

    def _found(self) -> None:
        if self._is_away:
            logger.warning("rollouts: Redis is back; all replicas' outcomes count together")
        self._is_away = False


def _key(where: Place) -> str:
    rollout, step, arm = where
    return f"manta:rollout:{rollout}:{step}:{arm}"
