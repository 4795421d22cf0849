"""The graph: which roles exist and who holds a handle to whom.

No `from __future__ import annotations` here: Serve reads the builders' annotations at run time to
turn `args` into settings, and with that import it would silently pass a plain dict.
"""

from pydantic import BaseModel
from ray import serve
from ray.serve import Application

from deployments.ingress import Ingress
from deployments.remote import ENGINE
from deployments.roles import Classifier, Extractive, Retriever, Screener
from serve_app.settings import ExtractiveSettings, GatewaySettings

ONGOING = 1_000
"""Serve's default of 5 requests at once would throttle the ingress; the admission step is what limits callers."""


def build_gateway(settings: GatewaySettings) -> Application:
    screener, classifier = deploy(Screener, settings), deploy(Classifier, settings)
    retriever = deploy(Retriever, settings, classifier, screener)
    return deploy(serve.ingress()(Ingress), settings, screener, classifier, retriever)


def build_extractive(settings: ExtractiveSettings) -> Application:
    return deploy(Extractive, settings, name=ENGINE)


def deploy(role: type, settings: BaseModel, *parts: Application, name: str = "") -> Application:
    """Bound parts are started with the role; it speaks to them by their names."""
    options = {
        "name": name or role.__name__.lower(),
        "max_ongoing_requests": ONGOING,
        "ray_actor_options": {"num_cpus": 0.1},
    }
    return serve.deployment(**options)(role).bind(settings, *parts)
