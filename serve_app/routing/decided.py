"""A decision in words for a header, and in figures for the receipt."""

from typing import Any

from serve_app.routing.choice import Choice
from serve_app.routing.limits import estimated_cost
from serve_app.routing.route import Route
from serve_app.routing.rules import Plan
from serve_app.routing.sticky import Identity


def decided(plan: Plan, choice: Choice) -> Route:
    return Route(candidates=tuple(choice.candidates), reason=reason(plan, choice), facts=facts(plan, choice))


def reason(plan: Plan, choice: Choice) -> str:
    """`auto; difficulty 0.62 >= 0.50; chat@2 5% by session`; the share only where there was something to choose."""
    chosen = choice.candidates[0]
    words = [plan.reason]
    if choice.is_pinned:
        words.append(f"version {chosen.version}")
    elif chosen.model != plan.models[0]:
        words.append(f"not {plan.models[0]}")
    if not choice.is_pinned and choice.share < 1:
        words.append(f"{chosen.name} {100 * choice.share:.3g}% by {choice.who.by}")
    return "; ".join(words)


def facts(plan: Plan, choice: Choice) -> dict[str, Any]:
    """JSON's own types. Of who asked there is a digest, of what was asked nothing."""
    chosen, asked = choice.candidates[0], choice.limits.asked
    versions = choice.table.models[chosen.model]
    found: dict[str, Any] = {
        **plan.facts,
        "revision": choice.table.revision,
        "candidates": [entry.name for entry in choice.candidates],
        "left_out": choice.left_out,
        "needs": sorted(asked.needs),
    }
    if choice.is_pinned:
        found["by"] = "version"
    else:
        found |= {
            "model": chosen.model,
            "preferred": plan.models[0],
            "shares": {version: round(share, 4) for version, share in versions.shares.items()},
            "sticky": _sticky(choice.who),
        }
    if versions.rollout is not None:
        found["rollout"] = {"to": versions.rollout.to_version, "percent": versions.rollout.percent}
    if plan.max_cost is not None:
        found["max_cost"] = plan.max_cost
        if asked.prompt.is_estimated:
            found["estimated_cost"] = round(estimated_cost(chosen, asked), 8)
    if plan.max_first_token_ms is not None:
        found["max_first_token_ms"] = plan.max_first_token_ms
    return found


def _sticky(who: Identity) -> dict[str, str]:
    return {"by": who.by, **({"name": who.shown} if who.by != "turn" else {})}
