"""Commands on the store as a whole: register it with Dagster, delete what nobody needs."""

import json
from typing import Annotated

import typer

from cytonet_pipeline.cli.app import AsJson, app
from cytonet_pipeline.cli.console import out, show
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings


@app.command()
def adopt() -> None:
    """Register what the store holds with Dagster, after its database was lost or for a store from elsewhere."""
    from cytonet_pipeline.defs.adopt import adopt_store
    from cytonet_pipeline.defs.instance import open_instance

    settings = Settings.from_environment()
    with open_instance(settings.store) as instance:
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


@app.command()
def use(
    encoder: Annotated[str, typer.Argument(help="ENCODER@VERSION; with only ENCODER, list its versions.")],
    latest: Annotated[bool, typer.Option("--latest", help="Unpin: the latest version goes into use again.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: Annotated[str | None, typer.Option("--by", help="Who decides; default: the user of this process.")] = None,
) -> None:
    """Make an earlier version of an encoder current again, and pin it.

    What becomes stale is said first. While a version is pinned, `cytonet run`, the schedule and jobs that are still
    running put no other one into use, and the encoder is not trained again. `cytonet use ENCODER --latest` unpins.
    Who decided, and when, is kept in encoders/ENCODER/use.json.
    """
    from cytonet_pipeline.stages.use import apply, plan_pin, plan_unpin, stale_results
    from cytonet_pipeline.store.decisions import user_name

    settings = Settings.from_environment()
    name, _, version = encoder.partition("@")
    if not version and not latest:
        _show_versions(settings, name)
        return
    if version and latest:
        raise ConfigurationError("--latest takes no version.", to_fix=f"cytonet use {name} --latest")
    change = plan_unpin(settings, name) if latest else plan_pin(settings, name, version)
    after = change.after or change.before
    out.print(f"{name}: {change.before or 'none'} is in use; then it is {after}", soft_wrap=True)
    for line in change.consequences:
        out.print(f"* {line}", soft_wrap=True)
    if not yes and not typer.confirm("change it?"):
        out.print("nothing is changed")
        raise typer.Exit(1)
    decision = apply(settings, change, by or user_name(), latest=latest)
    done = f"{name}: {after} is in use, " + ("unpinned" if latest else "pinned")
    out.print(f"{done}, by {decision.by} on {decision.date}", soft_wrap=True)
    stale = stale_results(settings, name)
    out.print(f"stale now: {', '.join(stale)}. Next: cytonet run" if stale else "nothing is stale", soft_wrap=True)


def _show_versions(settings: Settings, encoder: str) -> None:
    import pandas as pd

    from cytonet_pipeline.lineage import folder_of
    from cytonet_pipeline.store import Store, read_record, verdict_on_encoder
    from cytonet_pipeline.store.pins import decisions_on_use, pin_of

    store = Store(settings.store)
    folder_of(encoder, store)
    pinned, current = pin_of(store, encoder), store.current_version(encoder)
    rows = []
    for version in store.encoder_versions(encoder):
        folder = store.encoder(encoder, version)
        trained = (folder / "encoder.json").exists()
        state = verdict_on_encoder(folder).status if trained else "not trained"
        in_use = "" if version != current else "pinned" if pinned is not None else "in use"
        record = folder / "training_set.json"
        decided = read_record(record)["created"] if record.exists() else ""
        rows.append({"version": version, "decided": decided, "state": state, "use": in_use})
    show(pd.DataFrame(rows).sort_values("decided"), title=encoder)
    for decision in decisions_on_use(store, encoder):
        what = f"pinned {decision.pinned}" if decision.pinned else "unpinned"
        out.print(f"{decision.date}: {decision.by} {what}; until then {decision.before}", soft_wrap=True)
