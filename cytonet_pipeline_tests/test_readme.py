"""The commands of the README and of the guides do what is written there."""

import re

import pytest
import typer
from typer.testing import CliRunner

from cytonet_pipeline.cli import app
from cytonet_pipeline.store import Store, read_table
from cytonet_pipeline_tests.conftest import PROJECT, cytonet
from cytonet_pipeline_tests.guides import DOCUMENTS, commands

pytestmark = pytest.mark.xdist_group("ran")

# What is too large here, changes the store, or needs files of its own: first words, and the tests that do it.
ELSEWHERE = {
    "accept": "cli/test_consent.py",
    "bench": "test_package.py",
    "demo": "test_package.py",
    "doctor --cluster": "cluster/slurm/test_checkup.py",
    "forget": "cli/test_consent.py",
    "map": "registration/test_map_points.py",
    "phantom poster": "phantom/test_poster.py",
    "run --encoders": "test_pipeline.py",
    "use demo_cytonet@VERSION": "stages/test_use.py",
    "use demo_cytonet --latest": "stages/test_use.py",
}


def where_tested(command) -> str | None:
    """Return where a command is tested at its size; None if it is executed here."""
    if command.environment and command.words[0] == "run":
        return "test_documents.py"  # minutes of training per encoder; what is in its experiments file is tested there
    line = " ".join(command.words)
    return next((tests for first, tests in ELSEWHERE.items() if f"{line} ".startswith(f"{first} ")), None)


def executed():
    """List the commands that are executed here; one that stands in several documents once."""
    here = {(command.words, command.environment): command for command in commands() if where_tested(command) is None}
    return [pytest.param(command, id=str(command)) for command in here.values()]


@pytest.mark.long
@pytest.mark.parametrize("command", executed())
def test_a_command_of_the_documents_works_as_written(command, ran, monkeypatch):
    """On the small brains: their encoders and sections have other names than those of the demo."""
    store = Store(ran.settings.store)
    seen = read_table(store.section_scans("B01") / "sections.parquet", "section_scans")
    maps = sorted(store.root.glob("area_maps/tiny_cytonet/*/*_desc-predicted_dseg.nii.gz"))
    names = {
        "demo_cytonet": "tiny_cytonet",
        "mine_mirrored": "tiny_cytonet",
        "demo_supcon": "tiny_scratch",
        "B01/2315": f"B01/{seen['sample'].iloc[0]}",
        "MAP": str(maps[0]),
    }
    words = [names.get(word, word) for word in command.words]
    if {"88", "93", "110"} <= {*words}:  # indices of a finer map than that of the small brains
        words = [{"88": "8", "93": "9", "110": "11"}.get(word, word) for word in words]
    if command.words[0] == "run":
        assert cytonet(*words, settings=ran.settings, home=ran.home).stdout.strip()
        return

    environment = {**ran.settings.environment(), "DAGSTER_HOME": str(ran.home), **dict(command.environment)}
    monkeypatch.chdir(PROJECT)
    done = CliRunner().invoke(app, words, env=environment, catch_exceptions=False)

    assert done.exit_code == 0, done.output
    assert done.stdout.strip()


def test_no_command_of_the_documents_is_left_out():
    """What is not executed here has tests that name its command."""
    for first, tests in ELSEWHERE.items():
        assert any(where_tested(command) == tests for command in commands()), f"{first}: in no document any more"
        assert first.split()[0] in (PROJECT / "cytonet_pipeline_tests" / tests).read_text(), tests
    assert {"doctor", "lineage", "plan", "run", "use"} <= {param.values[0].words[0] for param in executed()}


def test_every_command_has_a_help_that_says_what_it_does():
    listed = CliRunner().invoke(app, ["--help"]).stdout
    commands = typer.main.get_command(app).commands
    for command in (
        "demo",
        "phantom",
        "run",
        "doctor",
        "lineage",
        "map",
        "adopt",
        "plan",
        "export",
        "gc",
        "use",
        "withdraw",
        "accept",
        "forget",
        "study",
        "reproduce",
        "bench",
        "ui",
    ):
        assert command in commands
    for name, command in commands.items():
        assert f"\n  {name} " in listed
        first_words = command.help.split()[:3]
        assert len(first_words) == 3, name
        assert " ".join(first_words) in CliRunner().invoke(app, [name, "--help"]).stdout


def test_the_names_that_the_readme_imports_can_be_called():
    blocks = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.S)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)

    lists = [line for block in blocks for line in re.findall(r"^from \S+ import (.+)$", block, re.M)]
    imported = {name.strip() for line in lists for name in line.split(",")}
    assert {"open_scan", "load_transform", "load_encoder"} <= imported
    assert all(callable(names[name]) for name in imported)


@pytest.mark.long
def test_sections_that_the_documents_name_are_in_the_demo(tmp_path):
    """A reader types them after `make demo`. Only where the sections lie is planned here; nothing is painted."""
    from cytonet_pipeline.phantom.anatomy import build_anatomy
    from cytonet_pipeline.phantom.reference import Reference, write_reference
    from cytonet_pipeline.phantom.sections import Painter

    write_reference(tmp_path / "space", build_anatomy(0))
    plan = Painter(Reference.load(tmp_path / "space"), "B01", seed=0, pixel_um=64.0).plan(12)
    texts = [document.read_text() for document in DOCUMENTS]

    named = {sample for text in texts for sample in re.findall(r"\bB01/(\d+)\b", text)}

    assert named
    assert named <= {section.sample for section in plan}
