"""How often requests may be tried again."""

from dataclasses import dataclass, field

BURST = 20.0
"""Retries that a quiet service has at once. When an endpoint dies, the requests it had in hand need one each."""


@dataclass
class RetryBudget:
    """One model's. In any stretch of time, retries are at most `share` of its requests and BURST."""

    share: float
    _left: float = field(default=BURST)

    def asked(self) -> None:
        """A request came."""
        self._left = min(BURST, self._left + self.share)

    def takes(self) -> bool:
        """Whether one more try is allowed; it is then counted."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
