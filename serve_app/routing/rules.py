"""Which models may answer a request, the preferred first: by its name, or for `auto` by rules and difficulty."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_app.router_settings import RouterSettings, RouteRule
from serve_app.routing.asked import Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    models: tuple[str, ...]
    reason: str
    is_explicit: bool = False
    """The caller named the first model."""
    max_cost: float | None = None
    max_first_token_ms: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def named(asked: Asked, settings: RouterSettings) -> Plan:
    return Plan(
        models=(asked.model, *settings.fallbacks.get(asked.model, ())),
        reason="explicit",
        is_explicit=True,
        max_cost=asked.max_cost,
        max_first_token_ms=asked.max_first_token_ms,
        facts={"by": "name"},
    )


def automatic(asked: Asked, settings: RouterSettings) -> Plan:
    """The first rule that fits; the difficulty where none does, or where it only sets ceilings."""
    rule = next((rule for rule in settings.rules if fits(rule, asked, settings.task_threshold)), None)
    seen = _signals(asked, settings)
    words = ["auto"]
    if rule is not None:
        words.append(f"rule {rule.name}")
    if asked.task_probability >= settings.task_threshold and any(rule.tasks for rule in settings.rules):
        words.append(f"task {asked.task}")
    if rule is not None and rule.models:
        models, by = rule.models, "rule"
    else:
        models, by, word = _by_difficulty(asked, settings)
        words.append(word)
    return Plan(
        models=models,
        reason="; ".join(words),
        max_cost=_lower(asked.max_cost, rule.max_cost if rule else None),
        max_first_token_ms=_lower(asked.max_first_token_ms, rule.max_first_token_ms if rule else None),
        facts={"by": by, **({"rule": rule.name} if rule else {}), **seen},
    )


def fits(rule: RouteRule, asked: Asked, task_threshold: float) -> bool:
    return (
        (not rule.tenants or asked.tenant in rule.tenants)
        and rule.needs <= asked.needs
        and (not rule.tasks or (asked.task in rule.tasks and asked.task_probability >= task_threshold))
        and _within(asked.difficulty, rule.min_difficulty, rule.max_difficulty)
        # The prompt is measured only for a rule that asks for it.
        and (
            rule.min_prompt_tokens is rule.max_prompt_tokens is None
            or _within(asked.prompt.tokens, rule.min_prompt_tokens, rule.max_prompt_tokens)
        )
    )


def _within(value: float | None, least: float | None, most: float | None) -> bool:
    if value is None:
        return least is most is None
    return (least is None or value >= least) and (most is None or value <= most)


def _by_difficulty(asked: Asked, settings: RouterSettings) -> tuple[tuple[str, ...], str, str]:
    small, large = settings.small, settings.large
    if asked.difficulty is None:
        preferred, other, by, word = small, large, "default", "no classifier, default model"
    elif small == large:
        preferred, other, by, word = small, large, "default", "one model"
    else:
        is_easy = asked.difficulty < settings.difficulty_threshold
        preferred, other = (small, large) if is_easy else (large, small)
        sign = "<" if is_easy else ">="
        by, word = "difficulty", f"difficulty {asked.difficulty:.2f} {sign} {settings.difficulty_threshold:.2f}"
    return (preferred, other, *settings.fallbacks.get(preferred, ())), by, word


def _signals(asked: Asked, settings: RouterSettings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if asked.difficulty is not None:
        found |= {"difficulty": round(asked.difficulty, 4), "difficulty_threshold": settings.difficulty_threshold}
    if asked.task is not None:
        found |= {"task": asked.task, "task_probability": round(asked.task_probability, 4)}
    return found


def _lower(first: float | None, second: float | None) -> float | None:
    ceilings = [ceiling for ceiling in (first, second) if ceiling is not None]
    return min(ceilings, default=None)
