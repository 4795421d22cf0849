import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from serve_app.errors import RateLimited
from serve_app.settings import KeySettings
from serve_app.turn import Caller


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a key stands against its request limit, for the `x-ratelimit-*` headers."""

    limit: int
    remaining: int
    reset_s: float
    """Seconds until the whole limit is free again."""


@dataclass(slots=True)
class _Account:
    """A token bucket: `rate` requests a minute, refilled continuously, and a count of answers under way."""

    rate: int
    streams: int
    tokens: float
    filled_at: float
    under_way: int = 0

    def refill(self, now: float) -> None:
        self.tokens = min(float(self.rate), self.tokens + (now - self.filled_at) * self.rate / 60)
        self.filled_at = now


@dataclass
class Admission:
    """Requests per minute and concurrent answers of each key, counted in this process.

    Several ingress replicas each count their own share: a limit of 600 on 3 replicas admits up to 1,800.
    """

    clock: Callable[[], float] = time.monotonic
    _accounts: dict[str, _Account] = field(default_factory=dict)

    @classmethod
    def from_settings(cls, keys: Iterable[KeySettings], clock: Callable[[], float] = time.monotonic) -> "Admission":
        now = clock()
        accounts = {
            key.id: _Account(key.requests_per_minute, key.concurrent_streams, float(key.requests_per_minute), now)
            for key in keys
        }
        return cls(clock, accounts)

    @contextmanager
    def reserve(self, caller: Caller) -> Iterator[None]:
        """Counts one request and holds one place while the answer is under way. Raises RateLimited."""
        account = self._accounts[caller.key_id]
        account.refill(self.clock())
        if account.tokens < 1:
            raise _limited(
                f"key {caller.key_id!r} is over its {account.rate} requests per minute",
                (1 - account.tokens) * 60 / account.rate,
            )
        if account.under_way >= account.streams:
            raise _limited(f"key {caller.key_id!r} already has {account.streams} answers under way", 1.0)
        account.tokens -= 1
        account.under_way += 1
        try:
            yield
        finally:
            account.under_way -= 1

    def standing(self, caller: Caller) -> Standing:
        account = self._accounts[caller.key_id]
        account.refill(self.clock())
        missing = account.rate - account.tokens
        return Standing(account.rate, int(account.tokens), missing * 60 / account.rate)


def _limited(message: str, retry_after_s: float) -> RateLimited:
    error = RateLimited(f"{message}: wait {max(1, round(retry_after_s))} s, or ask for a higher limit")
    error.retry_after_s = max(1.0, retry_after_s)
    return error
