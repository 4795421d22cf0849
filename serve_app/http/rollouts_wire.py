"""Rollouts as JSON: what comes in is checked, and what goes out can be read back."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any

from pydantic import Field

from serve_app.http.registry_wire import NO_NUL, Why
from serve_app.http.vector_store_wire import Wire
from serve_app.registry.entry import Environment
from serve_app.registry.plain import plain
from serve_app.rollout.operations import Action, Plan, Standing
from serve_app.rollout.rollout import Rollout

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL)]


class RolloutStart(Wire):
    model: Name
    environment: Environment
    to: Name
    """The version that takes the model's requests step by step."""
    steps: Annotated[tuple[int, ...], Field(max_length=100)] = (5, 25, 50, 100)
    """Percent of the model's requests, rising."""
    hold_s: Annotated[float, Field(ge=0, le=30 * 86_400)] = 600
    """Least time on each step."""
    shadow_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Of the model's requests, also sent to the version for comparison; its answer is thrown away."""
    why: Why = ""

    @property
    def plan(self) -> Plan:
        return Plan(
            model=self.model,
            environment=self.environment,
            to_version=self.to,
            steps=self.steps,
            hold_s=self.hold_s,
            shadow_percent=self.shadow_percent,
        )


class RolloutAction(Wire):
    model: Name
    environment: Environment
    action: Action
    to: Name | None = None
    """A rollback's version; without it the weights are as they were before the rollout."""
    why: Why = ""


def standing_object(standing: Standing) -> dict[str, Any]:
    return {
        "object": "rollout.standing",
        "model": standing.model,
        "environment": standing.environment,
        "rollout": rollout_object(standing.rollout) if standing.rollout else None,
        "weights": dict(standing.weights),
        "report": standing.report,
    }


def rollout_object(rollout: Rollout) -> dict[str, Any]:
    return {"object": "rollout", **plain(rollout), "percent": rollout.percent}


def rollout_of(given: Mapping[str, Any]) -> Rollout:
    """What `rollout_object` wrote; fields of a later version of Manta are left out."""
    known = {field.name: given[field.name] for field in fields(Rollout) if field.name in given}
    return Rollout(**{**known, "steps": tuple(known.get("steps", ()))})


def standing_of(given: Mapping[str, Any]) -> Standing:
    rollout = given["rollout"]
    return Standing(
        model=given["model"],
        environment=given["environment"],
        rollout=rollout_of(rollout) if rollout else None,
        weights=given["weights"],
        report=given["report"],
    )
