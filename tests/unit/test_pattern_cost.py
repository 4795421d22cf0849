"""No text makes a pattern slow: what every pattern of the guardrails costs grows with the text, not with its square."""

import importlib
import pkgutil
import re
import time
from types import ModuleType

import pytest

import serve_app
from tests.unit.pattern_pumps import endless_within_endless, patterns_of, slow_texts

# The in-memory screener is for tests and short texts, and makes no such promise.
SCREENING = (
    "attack_patterns",
    "deny",
    "heads",
    "indirect",
    "jailbreak_cues",
    "leakage",
    "normalisation",
    "placeholders",
    "readings",
    "rules",
    "screened_choice",
    "screened_stream",
    "seams",
)
SIZE = 4_000
"""Characters. A pattern that is quadratic in them takes tenths of a second."""
QUICK = 0.02
"""Seconds of the processor for twice as many, whatever they are: 2.5 microseconds a character."""


def modules() -> list[ModuleType]:
    names = [name for _, name, _ in pkgutil.iter_modules(serve_app.__path__) if name in SCREENING]
    adapters = [f"adapters.{name}" for _, name, _ in pkgutil.iter_modules([f"{serve_app.__path__[0]}/adapters"])]
    screeners = [name for name in adapters if re.search("presidio|entities|crf", name)]
    return [importlib.import_module(f"serve_app.{name}") for name in (*names, *screeners)]


PATTERNS = sorted(
    {(module.__name__, text): pattern for module in modules() for text, pattern in patterns_of(module).items()}.items(),
    key=lambda entry: entry[0],
)


def seconds(pattern: re.Pattern[str], text: str) -> float:
    """The least of three, so that a busy machine makes nothing slow."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        for _ in pattern.finditer(text):
            pass
        taken.append(time.process_time() - began)
        if taken[-1] < QUICK:
            break
    return min(taken)


def grows_too_fast(pattern: re.Pattern[str]) -> str:
    """The beginning of a text that shows it, empty when there is none; small texts first, they show what explodes."""
    for size in (16, 20, 25, 32, 40, 50, 64, 80, 100, 160, 400):
        for text in slow_texts(pattern, size):
            if seconds(pattern, text) > QUICK:
                return text[:100]
    for shorter, longer in zip(slow_texts(pattern, SIZE), slow_texts(pattern, 2 * SIZE), strict=True):
        long = seconds(pattern, longer)
        if long > QUICK and long > 3 * seconds(pattern, shorter):
            return longer[:100]
    return ""


def test_the_screening_modules_have_patterns() -> None:
    assert len(PATTERNS) > 60


@pytest.mark.parametrize(
    "pattern", [pattern for _, pattern in PATTERNS], ids=[f"{module}:{text[:40]}" for (module, text), _ in PATTERNS]
)
def test_twice_the_text_costs_about_twice_the_time(pattern: re.Pattern[str]) -> None:
    assert endless_within_endless(pattern) == []
    assert grows_too_fast(pattern) == ""


@pytest.mark.parametrize("slow", [r"(?:a+)+b", r"\s+$", r"(?:a|aa)+c", r"\w+\d+\w+!", r"\[(?:[^\[\]]|\(x\))*\]"])
def test_a_slow_pattern_would_be_noticed(slow: str) -> None:
    assert grows_too_fast(re.compile(slow)) != ""


def test_nested_repetitions_would_be_noticed() -> None:
    assert endless_within_endless(re.compile(r"x(?:a+b?)+y")) != []
    assert endless_within_endless(re.compile(r"x(?:\.\w+)+y")) == []
    assert endless_within_endless(re.compile(r"x(?:a++b?)*+y")) == []
