"""Commands on the store as a whole: register it with Dagster, delete what nobody needs."""

import json
from typing import Annotated

import typer

from cytonet_pipeline.cli.app import AsJson, app
from cytonet_pipeline.cli.console import out, show
from cytonet_pipeline.settings import Settings


@app.command()
def adopt() -> None:
    """Register what the store holds with Dagster, after its database was lost or for a store from elsewhere."""
    from cytonet_pipeline.defs.adopt import adopt_store
    from cytonet_pipeline.defs.instance import open_instance

    settings = Settings.from_environment()
    with open_instance() as instance:
        adopted = adopt_store(instance, settings)
    out.print(f"registered {adopted} results of {settings.store} with Dagster")


@app.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete what is listed.")] = False, as_json: AsJson = False
) -> None:
    """List what no current encoder, table or lineage record needs; with --yes delete it. Never weights or records."""
    import pandas as pd

    from cytonet_pipeline.store import Store
    from cytonet_pipeline.store.garbage import find_garbage

    store = Store(Settings.from_environment().store)
    garbage = find_garbage(store)
    rows = [{"path": str(g.path.relative_to(store.root)), "MB": g.bytes / 1e6, "why": g.why} for g in garbage]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif rows:
        show(pd.DataFrame(rows), title=str(store.root))
    for item in garbage if yes else []:
        item.delete()
    if not as_json:
        total = f"{sum(item.bytes for item in garbage) / 1e6:.1f} MB in {len(garbage)} places"
        out.print(
            f"deleted {total}" if yes else f"{total}; delete them with: cytonet gc --yes" if garbage else "nothing"
        )
