"""What a turn has come to, whichever way it ends: metrics, the log line, the rollouts' counts, the receipt."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from serve_app.citations import Citations
from serve_app.errors import (
    BodyTooLarge,
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineFailed,
    InvalidRequest,
    MantaError,
    NotFound,
    Rejected,
)
from serve_app.events import Delta, Event, Finished, Started
from serve_app.placeholders import Vault
from serve_app.registry.entry import ModelEntry
from serve_app.rollout.observation import Observation
from serve_app.rollout.outcome import Outcome
from serve_app.rollout.tally import Tally
from serve_app.routing.receipt import Receipt, Receipts
from serve_app.routing.route import Attempt, Route
from serve_app.telemetry import Stopwatch, Telemetry
from serve_app.turn import Turn

BROKEN_OFF = frozenset({EngineFailed.code, DeadlineExceeded.code})
"""Ends of an answer that are its version's failure."""
REFUSED = frozenset({error.code for error in (Rejected, InvalidRequest, ContextLengthExceeded, NotFound, BodyTooLarge)})
"""What a version says that cannot do what is asked of it. A rollout counts that as its failure: the caller may have
asked for nonsense, but then other versions refuse as often, and one that refuses everything must not go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A turn as one candidate's engine may see it."""

    turn: Turn
    vault: Vault
    """What its placeholders stand for."""
    citations: Citations


@dataclass(slots=True)
class Account:
    """One turn's: the engine's count of tokens once it is there, the deltas seen until then."""

    turn: Turn
    watch: Stopwatch
    outcome: str = "abandoned"
    refused_by: str = ""
    tokens: tuple[int, int] = (0, 0)
    route: Route | None = None
    attempts: list[Attempt] = field(default_factory=list)
    admitted: dict[str, Admitted] = field(default_factory=dict)
    """By the candidate's name."""
    entry: ModelEntry | None = None
    """The candidate that answers."""
    observation: Observation = field(default_factory=Observation)

    @property
    def model(self) -> str:
        return self.entry.model if self.entry else self.route.chosen.model if self.route else self.turn.model

    @property
    def version(self) -> str:
        return self.entry.version if self.entry else ""

    @property
    def seen(self) -> Turn:
        """The turn as the engine saw it; without an engine as the caller sent it."""
        return self.admitted[self.entry.name].turn if self.entry else self.turn

    def started(self, entry: ModelEntry) -> Started:
        """This candidate answers: what the response's headers say."""
        assert self.route is not None
        self.entry = entry
        admitted, missed = self.admitted[entry.name], [a for a in self.attempts if a.outcome != "answered"]
        fell_back = "".join(f"; {attempt.entry.name} {attempt.outcome}" for attempt in missed)
        return Started(
            model=entry.model,
            version=entry.version,
            route=self.route.reason + fell_back,
            degraded=admitted.turn.degraded,
            timings_ms={**self.watch.stages_ms, "total": self.watch.elapsed_ms},
            passages=admitted.citations.passages,
            withheld=admitted.turn.withheld,
        )

    def took(self, event: Event) -> Event:
        match event:
            case Delta():
                self.tokens = (0, self.tokens[1] + 1)
            case Finished():
                self.tokens = (event.prompt_tokens, event.output_tokens)
        self.observation.took(event)
        return event

    def outcomes(self) -> Iterator[Outcome]:
        """Of each candidate that was tried, or left out because its circuit is open."""
        who = self.route.facts.get("sticky", {}).get("name", "") if self.route else ""
        for attempt in self.attempts:
            if attempt.failed or attempt.outcome in REFUSED:
                fell_back = self.entry is not None and self.entry.key != attempt.entry.key
                yield Outcome(key=attempt.entry.key, who=who, failed=True, fell_back=fell_back)
        if self.entry is not None:
            cost = self.entry.price(*self.tokens)
            failed = self.outcome in BROKEN_OFF
            first_s = next((a.ms / 1000 for a in self.attempts if a.entry == self.entry and not a.failed), None)
            seen = self.observation.outcome(self.entry.key, failed=failed, cost=cost, first_token_s=first_s)
            yield replace(seen, who=who)


@dataclass(frozen=True)
class Accounts:
    telemetry: Telemetry
    tally: Tally
    receipts: Receipts
    policy_of: Callable[[str], str]
    """Name of a tenant's guardrail policy."""

    @contextmanager
    def open(self, turn: Turn, watch: Stopwatch) -> Iterator[Account]:
        """Settles the turn however it ends: answered, refused, failed, or given up by the caller."""
        account = Account(turn, watch)
        self.telemetry.under_way.inc()
        try:
            yield account
            account.outcome = "answered"
        except MantaError as error:
            account.outcome = error.code
            account.refused_by = error.policy if isinstance(error, ContentFiltered) else ""
            raise
        finally:
            self.telemetry.under_way.dec()
            self._settle(account)

    def _settle(self, account: Account) -> None:
        turn = account.turn
        self.telemetry.ended(
            *(turn.id, turn.caller.tenant, account.model, account.version),
            *(account.outcome, account.tokens, account.watch.elapsed_ms),
        )
        for attempt in account.attempts:
            self.telemetry.attempts.labels(attempt.entry.model, attempt.entry.version, attempt.outcome).inc()
        for outcome in account.outcomes():
            self.tally.record(outcome)
        self.receipts.keep(receipt(account, self.policy_of(turn.caller.tenant)))


def receipt(account: Account, policy: str) -> Receipt:
    turn, seen, route, entry = account.turn, account.seen, account.route, account.entry
    vault = account.admitted[entry.name].vault if entry else {}
    kinds = [placeholder[1:].rsplit("_", 1)[0] for placeholder in vault]
    return Receipt(
        id=turn.id,
        at=time.time(),
        tenant=turn.caller.tenant,
        key_id=turn.caller.key_id,
        asked=turn.model,
        operation=turn.operation,
        outcome=account.outcome,
        model=account.model,
        version=account.version,
        endpoint=entry.endpoint if entry else "",
        digest=entry.digest if entry else "",
        signature=entry.signature if entry else "",
        reason=route.reason if route else "",
        facts=route.facts if route else {},
        attempts=tuple(account.attempts),
        policy=policy,
        refused_by=account.refused_by,
        redacted={kind: kinds.count(kind) for kind in sorted(set(kinds))},
        passages=tuple("/".join(passage.key) for passage in seen.passages),
        withheld=seen.withheld,
        degraded=seen.degraded,
        timings_ms={**account.watch.stages_ms, "total": account.watch.elapsed_ms},
        prompt_tokens=account.tokens[0],
        output_tokens=account.tokens[1],
        cost=entry.price(*account.tokens) if entry else 0.0,
    )
