"""What is printed is what it is: names and paths are never markup."""

import io
import subprocess
import sys

import pandas as pd
import pytest
from rich.console import Console

from cytonet_pipeline import progress
from cytonet_pipeline.cli import console, doctor

AWKWARD = "/data[old]/[/x] :smile: [red]ü"


@pytest.fixture
def printed(monkeypatch):
    """Both consoles as terminals of 200 columns that write to memory."""
    stream = io.StringIO()
    for name in ("out", "err"):
        made = getattr(console, name)
        # The options under test stay; only where it writes is changed.
        copy = Console(
            file=stream, width=200, force_terminal=True, highlight=False, markup=made._markup, emoji=made._emoji
        )
        for module in (console, doctor):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, copy)
    return stream


def test_a_line_keeps_brackets_and_colons(printed):
    console.err.print(f"failed: {AWKWARD}", style="red", soft_wrap=True)

    assert f"failed: {AWKWARD}" in printed.getvalue()


def test_cells_and_titles_of_a_table_keep_them(printed):
    console.show(pd.DataFrame({"brain": [AWKWARD], "[b]": [1.0]}), title=AWKWARD)

    assert printed.getvalue().count(AWKWARD) == 2
    assert "[b]" in printed.getvalue()


def test_progress_keeps_them(printed):
    with progress.shown_on(console.Terminal()), progress.task(f"reading {AWKWARD}", 2) as task:
        task.to(1, AWKWARD)
        task.to(2, AWKWARD)

    assert f"reading {AWKWARD}" in printed.getvalue()


def test_doctor_keeps_them(printed, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda settings: [doctor.Observation("bad", AWKWARD)])

    with pytest.raises(doctor.typer.Exit):
        doctor.doctor(cluster=False)

    assert AWKWARD in printed.getvalue()


def test_help_waits_for_no_library_of_tables_networks_or_runs():
    """Every command imports the whole command line; each of these takes as long as the rest of it together."""
    heavy = ("pandas", "pyarrow", "scipy", "torch", "dagster")
    code = f"import sys, cytonet_pipeline.cli; print(*(name for name in {heavy} if name in sys.modules))"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert loaded == []
