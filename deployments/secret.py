import os


def secret(variable: str | None, field: str) -> str | None:
    """From the environment; raises ValueError where the config names a variable that is not set."""
    if variable is None:
        return None
    value = os.environ.get(variable)
    if not value:
        raise ValueError(f"{field}: the environment variable {variable!r} is not set")
    return value
