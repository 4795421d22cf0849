"""A receipt in plain words, for whoever wants to know why a request was answered as it was."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Facts = Mapping[str, Any]
"""A receipt, or what its decision was made by, as JSON holds it."""

STICKY = {
    "session": "kept by the session {name}",
    "user": "kept by the user {name}",
    "key": "kept by the API key {name}",
    "conversation": "kept by how the conversation began",
    "turn": "taken in its turn, as nobody in particular asked",
}
"""What `{name}` stands for is a digest: the same caller has the same one in each receipt."""
CIRCUIT_OPEN = "left alone, it has failed too often of late"


def explained(receipt: Facts) -> Iterator[tuple[str, str]]:
    """(heading, words), in the order of what happened; what did not happen has no line."""
    yield "request", f"{receipt['id']}, {_time(receipt['at'])}"
    yield "asked", _asked(receipt)
    yield "screened", _screened(receipt)
    facts = receipt.get("facts") or {}
    if facts:
        yield "model", model_words(facts)
        yield from _versions(facts)
    for name, why in facts.get("left_out", {}).items():
        yield "left out", f"{name} {why}"
    yield from (("tried", _attempt(attempt)) for attempt in receipt["attempts"])
    if receipt.get("endpoint") or receipt.get("digest"):
        yield "answered by", _answered_by(receipt)
    if receipt["passages"]:
        yield "passages", ", ".join(receipt["passages"])
    if receipt["withheld"]:
        yield "withheld", f"from the model: {'; '.join(receipt['withheld'])}"
    if receipt["degraded"]:
        yield "missing", ", ".join(receipt["degraded"])
    yield "tokens", _tokens(receipt)
    yield "times", _times(receipt["timings_ms"])
    yield "outcome", _outcome(receipt)


def model_words(facts: Facts) -> str:
    """Which model was chosen, and by what."""
    by, model = facts.get("by"), facts.get("model", "")
    if by == "version":
        return f"{facts['candidates'][0]}, the very version that was asked for"
    preferred = facts.get("preferred", model)
    words = f"{preferred}, {_reason(facts)}"
    if preferred != model:
        words += f"; it could not take the request, so {model} did"
    return words + _limits(facts)


def _reason(facts: Facts) -> str:
    rule = f"rule {facts['rule']!r}" if "rule" in facts else ""
    match facts.get("by"):
        case "name":
            return "by its name"
        case "rule":
            return f"by {rule}" + _signals(facts)
        case "difficulty":
            is_easy = facts["difficulty"] < facts["difficulty_threshold"]
            side = "below" if is_easy else "at or above"
            found = (
                f"the question's difficulty is {facts['difficulty']:.2f}, {side} {facts['difficulty_threshold']:.2f}"
            )
            return found + (f"; {rule} set limits" if rule else "")
    if "difficulty" not in facts:
        return "the default, as the classifier was missing"
    return "the only one there is for `auto`"


def _signals(facts: Facts) -> str:
    seen = []
    if "task" in facts:
        seen.append(f"task {facts['task']} with probability {facts['task_probability']:.2f}")
    if "difficulty" in facts:
        seen.append(f"difficulty {facts['difficulty']:.2f}")
    return f" ({', '.join(seen)})" if seen else ""


def _limits(facts: Facts) -> str:
    words = ""
    if facts.get("needs"):
        words += f"; it needed {' and '.join(facts['needs'])}"
    if "max_cost" in facts:
        estimated = f", and was estimated to cost {facts['estimated_cost']:.6g}" if "estimated_cost" in facts else ""
        words += f"; it was to cost at most {facts['max_cost']:.6g}{estimated}"
    if "max_first_token_ms" in facts:
        words += f"; its first token was to come within {facts['max_first_token_ms']:g} ms"
    return words


def _versions(facts: Facts) -> Iterator[tuple[str, str]]:
    if rollout := facts.get("rollout"):
        yield "rollout", f"to version {rollout['to']} was under way, at {rollout['percent']} %"
    shares = facts.get("shares", {})
    if len(shares) < 2:
        return
    chosen = facts["candidates"][0].rpartition("@")[2]
    sticky = facts["sticky"]
    others = "".join(f", {version} has {_percent(share)}" for version, share in shares.items() if version != chosen)
    kept = STICKY[sticky["by"]].format(name=sticky.get("name", ""))
    share = _percent(shares[chosen]) if chosen in shares else "none"
    yield "version", f"{chosen} has {share} of the requests{others}; {chosen} was {kept}"


def _asked(receipt: Facts) -> str:
    return f"for {receipt['asked']} ({receipt['operation']}) by key {receipt['key_id']} of tenant {receipt['tenant']}"


def _screened(receipt: Facts) -> str:
    words = f"under policy {receipt['policy'] or 'default'}"
    if receipt["refused_by"]:
        return f"{words}; refused for {receipt['refused_by']}"
    if "screener" in receipt["degraded"]:
        return f"{words}; not at all, the screener was missing"
    kinds = ", ".join(f"{count} {kind}" for kind, count in receipt["redacted"].items())
    return f"{words}; {kinds or 'nothing'} replaced by placeholders"


def _attempt(attempt: Facts) -> str:
    name = f"{attempt['model']}@{attempt['version']}"
    match attempt["outcome"]:
        case "answered":
            return f"{name}: its answer began after {_ms(attempt['ms'])}"
        case "circuit_open":
            return f"{name}: {CIRCUIT_OPEN}"
    blame = "failed" if attempt["failed"] else "refused the request"
    return f"{name}: {blame} after {_ms(attempt['ms'])} ({attempt['outcome']})"


def _answered_by(receipt: Facts) -> str:
    parts: Sequence[str] = (receipt.get("endpoint", ""), receipt.get("digest", ""))
    signature = receipt.get("signature") or "unknown"
    return ", ".join([*(part for part in parts if part), f"signature {signature}"])


def _tokens(receipt: Facts) -> str:
    cost = f", at a cost of {receipt['cost']:.6g}" if receipt["cost"] else ""
    return f"{receipt['prompt_tokens']:,} read, {receipt['output_tokens']:,} written{cost}"


def _times(timings_ms: Mapping[str, float]) -> str:
    stages = [f"{stage} {_ms(spent)}" for stage, spent in timings_ms.items() if stage != "total"]
    total = [f"{_ms(timings_ms['total'])} in all"] if "total" in timings_ms else []
    return ", ".join(stages + total) or "none taken"


def _outcome(receipt: Facts) -> str:
    match receipt["outcome"]:
        case "answered":
            is_safe = bool(receipt["refused_by"]) and not receipt["attempts"]
            return "answered with the policy's own words" if is_safe else "answered"
        case "abandoned":
            return "abandoned: the caller hung up"
    return f"ended with the error {receipt['outcome']}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _ms(spent: float) -> str:
    return f"{spent:.1f} ms" if spent < 100 else f"{spent:,.0f} ms"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
