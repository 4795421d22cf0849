from typing import Annotated

from pydantic import Field

from serve_app.registry.entry import Environment
from serve_app.rollout.gate_settings import GateSettings
from serve_app.section import Section


class RegistrySettings(Section):
    database_url: str = "sqlite+aiosqlite:///var/registry.db"
    """SQLAlchemy's URL; a URL with a password stands in the environment, named by `database_url_env`."""
    database_url_env: str | None = None
    """Environment variable with the database's URL, in place of `database_url`."""
    environment: Environment = "development"
    """Whose entries this gateway serves."""
    cache_s: float = Field(default=120, gt=0)
    """The copy is read anew after this long, though no change was announced."""
    copy_path: str = "var/registry.json"
    """The last known good copy, on the gateway's machine: what is served from while the database is away."""
    redis_url_env: str | None = None
    """Environment variable with the URL of a Redis server that counts rollouts' outcomes; needed by several ingress
    replicas. None counts in memory."""
    upstream_key_envs: tuple[Annotated[str, Field(pattern="^[A-Z][A-Z0-9_]*_API_KEY$")], ...] = ()
    """Environment variables with the keys of HTTP upstreams, so that a cluster's pods get them from its Secret."""
    gates: GateSettings = GateSettings()
