"""Times as operators write them: 30s, 10m, 2h."""

import re

from serve_app.errors import InvalidRequest

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def seconds(given: str, field: str) -> float:
    """Raises InvalidRequest that begins with the field's name."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)\s*([smhd]?)", given.strip())
    if not found:
        raise InvalidRequest(f"{field}: {given!r} is no duration; write 30s, 10m, 2h or 1d")
    return float(found[1]) * SECONDS[found[2]]


def shown(duration_s: float) -> str:
    """For people, exact to the second: 9:05, 2:00:00."""
    whole = max(0, round(duration_s))
    hours, rest = divmod(whole, 3_600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def percents_of(given: str) -> tuple[int, ...]:
    """Steps as in `5,25,50,100`; none where nothing is written. Raises InvalidRequest."""
    try:
        return tuple(int(part) for part in given.split(",") if given.strip())
    except ValueError as exc:
        raise InvalidRequest(f"steps: {given!r} are no whole percents with commas between, as in 5,25,50,100") from exc
