"""The commands of the README and of the documents do what is written there."""

import re
import shlex

import pytest
import typer
from typer.testing import CliRunner

from cytonet_pipeline.cli import app
from cytonet_pipeline.store import Store, read_table
from cytonet_pipeline_tests.conftest import PROJECT, cytonet

pytestmark = pytest.mark.xdist_group("ran")

# `make demo`, `make test` and `cytonet ui` have tests of their own, or run these tests.
_ELSEWHERE = {"demo", "ui"}
# Minutes, and a cluster: `phantom/test_poster.py` and `cluster/test_checkup.py` do these at their size.
_TOO_LARGE = {"--scale", "--cluster"}


def commands():
    """Every `cytonet …` line of a shell block, without comments."""
    for document in ("README.md", "docs/lineage.md", "docs/own-brains.md"):
        for block in re.findall(r"```bash\n(.*?)```", (PROJECT / document).read_text(), re.S):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if not words or words[0] not in {"cytonet", ".venv/bin/cytonet"} or _TOO_LARGE & {*words}:
                    continue
                if words[1] not in _ELSEWHERE:
                    yield pytest.param(words[1:], id=f"{document}: {' '.join(words)}")


@pytest.mark.long
@pytest.mark.parametrize("words", list(commands()))
def test_a_command_of_the_documents_works_as_written(words, ran):
    """On the small brains: their encoders and sections have other names than those of the demo."""
    seen = read_table(Store(ran.settings.store).section_scans("B01") / "sections.parquet", "section_scans")
    names = {"demo_cytonet": "tiny_cytonet", "demo_supcon": "tiny_scratch", "B01/2315": f"B01/{seen['sample'].iloc[0]}"}

    done = cytonet(*(names.get(word, word) for word in words), settings=ran.settings, home=ran.home)

    assert done.stdout.strip()


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
    texts = [(PROJECT / name).read_text() for name in ("README.md", "docs/lineage.md")]

    named = {sample for text in texts for sample in re.findall(r"\bB01/(\d+)\b", text)}

    assert named
    assert named <= {section.sample for section in plan}
