"""The `manta` command."""

import typer

from serve_app.cli.ask import ask
from serve_app.cli.deployment import deployment_app
from serve_app.cli.evaluate import eval_app
from serve_app.cli.explain import explain
from serve_app.cli.heads import heads_app
from serve_app.cli.ingest import ingest
from serve_app.cli.keys import keys_app
from serve_app.cli.manifests import manifests_app
from serve_app.cli.migrate import migrate
from serve_app.cli.pii import pii_app
from serve_app.cli.playbook import playbook_app
from serve_app.cli.purge import purge
from serve_app.cli.redact import redact
from serve_app.cli.redteam import redteam
from serve_app.cli.registry import registry_app
from serve_app.cli.rollout import rollout_app
from serve_app.cli.screen import screen
from serve_app.cli.search import search
from serve_app.cli.serve import serve
from serve_app.cli.stores import stores_app
from serve_app.cli.triton import triton
from serve_app.cli.validate import validate

app = typer.Typer(
    help="A self-hosted LLM service on Ray.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
app.command()(serve)
app.command()(ingest)
app.command()(search)
app.command()(ask)
app.command()(explain)
app.command()(screen)
app.command()(redact)
app.command()(redteam)
app.command()(purge)
app.command()(migrate)
app.command()(validate)
app.command()(triton)
app.add_typer(eval_app, name="eval", help="Measure the running service.")
app.add_typer(stores_app, name="stores", help="List, show and delete vector stores.")
app.add_typer(playbook_app, name="playbook", help="List and show the named entries of playbook stores.")
app.add_typer(heads_app, name="heads", help="Train and describe the classifier's heads.")
app.add_typer(pii_app, name="pii", help="Train and describe the model that finds names.")
app.add_typer(manifests_app, name="manifests", help="Write the Kubernetes manifests from a config.")
app.add_typer(registry_app, name="registry", help="Versions of models, and what share of the requests each takes.")
app.add_typer(rollout_app, name="rollout", help="Bring new versions to a model's requests step by step, and back.")
app.add_typer(deployment_app, name="deployment", help="What is registered, and what runs.")
app.add_typer(keys_app, name="keys", help="Make API keys.")
