"""Commands around a training: what it will need, its weights for other programs, benchmarks, and tidying the store."""

import ast
import subprocess
import sys
from typing import Annotated

import typer

from cytonet_pipeline import __version__
from cytonet_pipeline.cli.app import app
from cytonet_pipeline.console import out
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import PROJECT

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
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _first_line(source: str) -> str:
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
