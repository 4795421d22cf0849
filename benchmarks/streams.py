"""Characters that leak from 10,000 streamed answers with something forbidden in each, and what screening costs.

`python -m benchmarks.streams` writes benchmarks/results/streams.json.
"""

import asyncio
import json
import os
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.streams_made import DENIED, FILLERS, PROMPTS, Plant, Stream, Values, chunks, known_values, stream
from serve_app.answer_policy import AnswerPolicy
from serve_app.events import Delta
from serve_app.leakage import BEGUN, Leakage, letters_of
from serve_app.policy import GuardrailSettings
from serve_app.ports import ANY, Screener
from serve_app.rules import DenyList
from serve_app.screened_choice import ScreenedAnswer
from serve_app.turn import Scope, Screening

RESULT = Path(__file__).parent / "results" / "streams.json"
STREAMS = 10_000


@dataclass
class Outcome:
    leaked: Counter[str] = field(default_factory=Counter)
    """Characters by kind."""
    planted: Counter[str] = field(default_factory=Counter)
    differing: int = 0
    """Streams in which more was masked than what was planted; nothing leaked."""
    excused: list[int] = field(default_factory=list)
    """Letters of each repeated prompt that left before its run was long enough to be held."""


@dataclass
class TimedScreener:
    """Passes on to a screener, and counts."""

    screener: Screener
    calls: int = 0

    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        self.calls += 1
        return await self.screener.screen(texts, scope)


@dataclass
class Times:
    """Milliseconds of one delta's screening."""

    with_screener: list[float] = field(default_factory=list)
    without: list[float] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    """Deltas that had come when the first text left."""


DENY = DenyList.of(DENIED)


async def answered(made: Stream, pieces: Sequence[str], screener: Screener, times: Times | None = None) -> str:
    timed = TimedScreener(screener)
    policy = AnswerPolicy(
        screener=timed, deny=DENY, vault=made.vault, allowed=(), window=256, deadline_s=30, masks=True, leak=made.leak
    )
    answer, text = ScreenedAnswer(policy), ""
    for number, piece in enumerate([*pieces, None], 1):
        before, started = timed.calls, time.perf_counter()
        delta = Delta(spoken(made, piece)) if piece is not None else Delta({}, finish_reason="stop")
        leaving = "".join(heard(left) for left in await answer.take(delta))
        if times is not None:
            taken = (time.perf_counter() - started) * 1000
            (times.with_screener if timed.calls > before else times.without).append(taken)
            if leaving and not text:
                times.first.append(number)
        text += leaving
        if answer.denied:
            break
    return text if made.in_json == "no" else json.loads(text + '"' * answer.denied)


def spoken(made: Stream, piece: str) -> dict[str, Any]:
    return (
        {"content": piece} if made.in_json == "no" else {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
    )


def heard(delta: Delta) -> str:
    return delta.text or "".join(call["function"]["arguments"] for call in delta.fields.get("tool_calls", ()))


def letters(text: str) -> str:
    return "".join(map(letters_of, text))


def judge(made: Stream, shown: str, outcome: Outcome) -> None:
    """Compare what left with what may leave; where they differ, count what is shown of each plant."""
    pattern, last = "", None
    for part in made.parts:
        if isinstance(part, str):
            pattern += re.escape(part)
        elif part.shown is not None:
            pattern += part.shown
        else:
            pattern += r"(?P<begun>[\s\S]*)"
            last = part
            break
    outcome.planted.update(plant.kind for plant in made.plants)
    found = re.fullmatch(pattern, shown)
    if found is not None:
        begun = found["begun"] if last is not None else ""
        length = len(letters(begun))
        excused = last is not None and last.kind == "prompt" and length < BEGUN and last.written.startswith(begun)
        if excused:
            outcome.excused.append(length)
        elif begun and last is not None:
            outcome.leaked[last.kind] += len(begun)
        return
    leaks = [(plant.kind, leaked(plant, shown, made)) for plant in made.plants]
    for kind, count in leaks:
        outcome.leaked[kind] += count
    outcome.differing += not any(count for _, count in leaks)


def leaked(plant: Plant, shown: str, made: Stream) -> int:
    """Letters of the longest stretch of the plant that is shown, if it is longer than chance."""
    if plant.kind == "placeholder":
        return len(plant.written) if plant.written in shown else 0
    secret, seen = letters(plant.plain), letters(shown)
    match = SequenceMatcher(None, secret, seen, autojunk=False).find_longest_match()
    around = letters(" ".join(part for part in made.parts if isinstance(part, str)))
    chance = BEGUN if plant.kind == "prompt" else 4
    return match.size if match.size >= chance and secret[match.a : match.a + match.size] not in around else 0


async def run(streams: int, screener: Screener, values: Values, seed: int = 5) -> tuple[Outcome, Times]:
    rng, outcome, times = random.Random(seed), Outcome(), Times()
    for _ in range(streams):
        made = stream(rng, values)
        judge(made, await answered(made, chunks(rng, made.text), screener, times), outcome)
    return outcome, times


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(milliseconds, n=1000)
    return {name: round(cuts[n], 3) for name, n in (("p50", 499), ("p99", 989), ("p99.9", 998))}


async def by_word(screener: Screener) -> Times:
    """Answers without a hit, one word a delta: what a reader waits."""
    rng, times = random.Random(6), Times()
    for _ in range(200):
        made = Stream(["".join(rng.choices(FILLERS, k=6)), "Ring +49 30 12345678 now."], Leakage.of(PROMPTS[:1]), {})
        await answered(made, re.findall(r"\s?\S+|\s", made.text), screener, times)
    return times


async def main() -> None:
    from serve_app.adapters.presidio import PresidioScreener  # here, for the tests import this module and need none

    screener = PresidioScreener(GuardrailSettings(names="off"))
    streams, started = int(sys.argv[1]) if len(sys.argv) > 1 else STREAMS, time.process_time()
    outcome, times = await run(streams, screener, await known_values(screener, 200))
    words = await by_word(screener)
    report = {
        "screener": f"PresidioScreener in process, presidio-analyzer {version('presidio-analyzer')}",
        "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "streams": streams,
        "planted": dict(outcome.planted),
        "leaked_characters": {kind: outcome.leaked[kind] for kind in outcome.planted},
        "masked_more_than_planted": outcome.differing,
        "letters_of_a_repeated_prompt_shown": {
            "most": max(outcome.excused, default=0),
            "mean": round(statistics.mean(outcome.excused or [0]), 1),
        },
        "ms_of_a_delta_that_was_screened": percentiles(times.with_screener),
        "ms_of_a_delta_that_needed_no_screener": percentiles(times.without),
        "word_by_word": {
            "ms_of_a_delta_that_was_screened": percentiles(words.with_screener),
            "ms_of_a_delta_that_needed_no_screener": percentiles(words.without),
            "deltas_until_the_first_text": statistics.mean(words.first),
        },
        "cpu_s": round(time.process_time() - started, 1),
    }
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    if any(outcome.leaked.values()):
        sys.exit(1)


if __name__ == "__main__":
    asyncio.run(main())
