"""Commands around a training: what it will need, its weights for other programs, benchmarks, and tidying the store."""

import ast
import json
import subprocess
import sys
from typing import Annotated

import typer

from cytonet_pipeline import __version__
from cytonet_pipeline.cli.app import AsJson, app
from cytonet_pipeline.console import out, show
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import PROJECT, Settings

_BENCHMARKS = PROJECT / "benchmarks"


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Which one; without a name they are listed.")] = None,
) -> None:
    """Run a benchmark: it prints both sides and their ratio. Further options are the benchmark's own."""
    scripts = {path.stem: path for path in sorted(_BENCHMARKS.glob("*.py")) if path.stem != "report"}
    if name is None:
        for stem, path in scripts.items():
            out.print(f"{stem:12} {_first_line(path.read_text(encoding='utf-8'))}", soft_wrap=True)
        return
    if name not in scripts:
        raise ConfigurationError(
            f"{name!r}: no such benchmark.",
            looked_for=str(_BENCHMARKS / f"{name}.py"),
            to_fix=f"one of {', '.join(scripts)}; they come with the source code, not with an installed package",
        )
    raise typer.Exit(subprocess.run([sys.executable, str(scripts[name]), *context.args], check=False).returncode)


@app.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete what is listed.")] = False, as_json: AsJson = False
) -> None:
    """List what no current encoder, table or lineage record needs; with --yes delete it. Never weights or records."""
    import pandas as pd

    from cytonet_pipeline.store import Store
    from cytonet_pipeline.tidy import unneeded

    store = Store(Settings.from_environment().store)
    found = unneeded(store)
    rows = [{"path": str(item.path.relative_to(store.root)), "MB": item.bytes / 1e6, "why": item.why} for item in found]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif rows:
        show(pd.DataFrame(rows), title=str(store.root))
    for item in found if yes else []:
        item.delete()
    if not as_json:
        total = f"{sum(item.bytes for item in found) / 1e6:.1f} MB in {len(found)} places"
        out.print(f"deleted {total}" if yes else f"{total}; delete them with: cytonet gc --yes" if found else "nothing")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _first_line(source: str) -> str:
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
