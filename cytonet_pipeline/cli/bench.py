"""The command that runs the benchmarks."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from cytonet_pipeline.cli.app import app
from cytonet_pipeline.cli.console import out
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import project_file

# Imported by the benchmarks.
_NOT_BENCHMARKS = {"report"}


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Benchmark to run; without a name they are listed.")] = None,
) -> None:
    """Run a benchmark: it prints both sides and their ratio. Further options are passed on to the benchmark."""
    folder = project_file("benchmarks")
    scripts = {path.stem: path for path in sorted(folder.glob("*.py")) if path.stem not in _NOT_BENCHMARKS}
    if name is None:
        for stem, path in scripts.items():
            out.print(f"{stem:12} {_first_line_of(path)}", soft_wrap=True)
        return
    if name not in scripts:
        raise ConfigurationError(
            f"{name!r}: no such benchmark.",
            looked_for=str(folder / f"{name}.py"),
            to_fix=f"one of {', '.join(scripts)}",
        )
    raise typer.Exit(subprocess.run([sys.executable, str(scripts[name]), *context.args], check=False).returncode)


def _first_line_of(script: Path) -> str:
    """Return the first line of a script's docstring."""
    return (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").partition("\n")[0]
