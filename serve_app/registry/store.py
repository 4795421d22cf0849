"""Where the registry is kept."""

from collections.abc import AsyncGenerator
from typing import Protocol

from serve_app.registry.snapshot import Audit, Change, Decide, Snapshot
from serve_app.rollout.rollout import Rollout


class RegistryStore(Protocol):
    """Every call raises RegistryUnavailable when the database cannot be reached, SchemaMismatch when it is another
    version's."""

    async def snapshot(self) -> Snapshot: ...

    async def change(self, decide: Decide) -> Change:
        """Applies what `decide` says of the registry as it is, after all changes before and before all after.

        Entries get their times here. Raises what `decide` raises. An empty change writes nothing.
        """
        ...

    async def history(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Audit, ...]:
        """The newest first."""
        ...

    async def rollouts(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Rollout, ...]:
        """All, those that have ended too; the newest first."""
        ...

    def revisions(self) -> AsyncGenerator[int, None]:
        """The revision now, then each one that is seen after it, within a second; changes of other processes too.

        Raises RegistryUnavailable when the connection is lost: ask again.
        """
        ...

    async def close(self) -> None: ...
