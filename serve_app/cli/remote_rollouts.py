"""Rollouts and gateways as the command line reaches them: through a running service, or on the database."""

from dataclasses import dataclass

from serve_app.cli.admin import OutsideCheck, Reached
from serve_app.cli.service import Service
from serve_app.deployed.gateway import Gateway, Site
from serve_app.http.deployment import application_of, check_of
from serve_app.http.rollouts_wire import rollout_of, standing_of
from serve_app.registry.entry import ModelEntry
from serve_app.registry.operations import CheckResult
from serve_app.rollout.operations import Action, Plan, RolloutOperations, Standing, StoredRollouts
from serve_app.rollout.rollout import Rollout

ROLLOUTS = "/v1/rollouts"


def rollouts_of(there: Reached) -> RolloutOperations:
    if there.service:
        return RemoteRollouts(there.service)
    assert there.store is not None
    return StoredRollouts(there.store)


def site_of(there: Reached) -> Site:
    return ServiceSite(there.service) if there.service else DatabaseSite()


@dataclass(frozen=True)
class RemoteRollouts:
    """Implements `RolloutOperations`; who it was is the service's to say, by the key."""

    service: Service

    async def start(self, plan: Plan, *, who: str, why: str) -> Standing:
        body = {
            "model": plan.model,
            "environment": plan.environment,
            "to": plan.to_version,
            "steps": plan.steps,
            "hold_s": plan.hold_s,
            "shadow_percent": plan.shadow_percent,
            "why": why,
        }
        return standing_of(await self.service.call("POST", ROLLOUTS, body=body))

    async def act(
        self, action: Action, model: str, environment: str, *, to_version: str | None = None, who: str, why: str
    ) -> Standing:
        said = {"model": model, "environment": environment, "action": action, "to": to_version, "why": why}
        return standing_of(await self.service.call("POST", f"{ROLLOUTS}/actions", body=said))

    async def under_way(self, *, model: str = "", environment: str = "") -> tuple[Standing, ...]:
        found = await self.service.call("GET", ROLLOUTS, query={"model": model, "environment": environment})
        return tuple(map(standing_of, found["data"]))

    async def history(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Rollout, ...]:
        query = {"model": model, "environment": environment, "limit": limit}
        found = await self.service.call("GET", f"{ROLLOUTS}/history", query=query)
        return tuple(map(rollout_of, found["data"]))


@dataclass(frozen=True)
class ServiceSite:
    """Implements `Site`."""

    service: Service

    async def gateway(self) -> Gateway:
        found = await self.service.call("GET", "/v1/deployment")
        registry = found["registry"]
        return Gateway(
            environment=found["environment"],
            applications=tuple(map(application_of, found["applications"])),
            circuits=found["circuits"],
            revision=registry["revision"],
            age_s=registry["age_s"],
            is_stale=registry["is_stale"],
        )

    async def check(self, entry: ModelEntry) -> CheckResult:
        body = {"model": entry.model, "version": entry.version, "environment": entry.environment}
        return check_of(await self.service.call("POST", "/v1/deployment/checks", body=body))


@dataclass(frozen=True)
class DatabaseSite:
    """Implements `Site` where no service is asked: endpoints over HTTP can be tested all the same."""

    async def gateway(self) -> None:
        return None

    async def check(self, entry: ModelEntry) -> CheckResult:
        return await OutsideCheck().check(entry)
