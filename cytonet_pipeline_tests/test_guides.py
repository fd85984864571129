"""The guides: every command is one that the program takes, and every message one that it gives."""

import re

import pytest
import typer
import yaml

from cytonet_pipeline.cli import app
from cytonet_pipeline.settings import read_experiments
from cytonet_pipeline_tests.conftest import PROJECT
from cytonet_pipeline_tests.guides import DOCUMENTS, commands
from cytonet_pipeline_tests.messages_in_code import occurs_in_the_code

GUIDES = PROJECT / "docs"
TROUBLES = re.findall(r"^\| `(.+?)` \|", (GUIDES / "troubleshooting.md").read_text(), re.MULTILINE)


def parse(words: tuple[str, ...]) -> None:
    """Let the command line read words as it would before it does anything; raises what it would print."""
    command, rest, context = typer.main.get_command(app), list(words), None
    while hasattr(command, "resolve_command"):
        context = typer.Context(command, parent=context, info_name="cytonet")
        _, command, rest = command.resolve_command(context, rest)
    command.make_context(command.name, rest, parent=context)


@pytest.mark.parametrize("command", commands(), ids=str)
def test_a_command_of_a_document_is_one_that_the_program_takes(command):
    parse(command.words)


def test_commands_are_found_in_every_kind_of_block():
    """Otherwise the tests above and in `test_readme.py` would pass over what they do not find."""
    found = {(command.document, command.words[0]) for command in commands()}
    assert found >= {
        ("README.md", "doctor"),
        ("docs/lineage.md", "use"),
        ("docs/scale.md", "bench"),
        ("docs/transforms.md", "map"),
        ("docs/consent.md", "forget"),
        ("docs/adding-an-encoder.md", "plan"),
    }
    for wrong in ("run --brain B01", "lineage section", "lineage sektion B01/2315", "runn"):
        with pytest.raises(Exception, match=r"(?i)no such|missing"):
            parse(tuple(wrong.split()))


def test_commands_named_in_a_sentence_exist():
    known = set(typer.main.get_command(app).commands)
    for document in DOCUMENTS:
        named = set(re.findall(r"`(?:\.venv/bin/)?cytonet\s+([a-z]+)\b", document.read_text()))
        assert named <= known, document.name


def test_every_guide_is_reached_from_the_index():
    """The index leads from the task to the page, and the README to the index."""
    index = (GUIDES / "README.md").read_text()
    assert "](docs/README.md)" in (PROJECT / "README.md").read_text()
    pages = {str(page.relative_to(GUIDES)) for page in GUIDES.rglob("*.md")} - {"README.md", "slurm-alternatives.md"}
    assert {page for page in pages if f"]({page})" not in index} == set()


def test_links_to_a_section_of_a_document_lead_to_one():
    for document in DOCUMENTS:
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", document.read_text()):
            page = document.parent / target if target else document
            titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
            assert anchor in {_anchor_of(title) for title in titles}, f"{document.name}: {target}#{anchor}"


def _anchor_of(title: str) -> str:
    shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower()
    return re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")


def test_messages_of_the_troubleshooting_page_are_those_of_the_code():
    assert [message for message in TROUBLES if not occurs_in_the_code(message)] == []


def test_messages_are_in_alphabetical_order_and_long_enough_to_be_found():
    letters = [re.sub(r"[^a-z ]", "", message.lower()).strip() for message in TROUBLES]
    assert len(letters) > 20
    assert letters == sorted(letters)
    assert all(len(text) >= 9 for text in letters)
    assert not occurs_in_the_code("the tissue is … of cheese")


def test_the_experiments_file_of_the_guide_is_one_for_the_store_of_the_demo(tmp_path):
    """A store refuses another `dataset:` block, so the guide's has to be that of the demo."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (GUIDES / "adding-an-encoder.md").read_text(), re.DOTALL)
    (tmp_path / "mine.yaml").write_text(block)

    mine = read_experiments(tmp_path / "mine.yaml")

    assert mine.dataset == read_experiments(PROJECT / "experiments" / "demo.yaml").dataset
    assert list(mine.encoders) == list(yaml.safe_load(block)["encoders"])


def test_the_code_of_the_guide_makes_a_transfer_function_and_a_backbone(monkeypatch):
    import torch

    from cytonet_pipeline.learning import DistanceWeightedContrastiveLoss
    from cytonet_pipeline.learning.backbones import backbones
    from cytonet_pipeline.learning.losses import transfer

    names = {"torch": torch, "TRANSFER_FUNCTIONS": dict(transfer.TRANSFER_FUNCTIONS), "BACKBONES": {}}
    names["ResNet"] = backbones.ResNet
    for snippet in re.findall(r"```python\n(.*?)```", (GUIDES / "adding-an-encoder.md").read_text(), re.DOTALL):
        exec(snippet, names)

    monkeypatch.setitem(transfer.TRANSFER_FUNCTIONS, "cauchy", names["TRANSFER_FUNCTIONS"]["cauchy"])
    z = torch.nn.functional.normalize(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    loss = DistanceWeightedContrastiveLoss(transfer="cauchy", length_mm=5.0)
    assert loss(z, torch.arange(24.0).reshape(8, 3)).isfinite()
    torch.testing.assert_close(names["cauchy"](torch.tensor([0.0, 1.0, 2.0])), torch.tensor([1.0, 0.5, 0.2]))
    with torch.device("meta"):
        network = names["BACKBONES"]["wide_resnet50_2"].network()
        assert network(torch.empty(1, 1, 64, 64)).shape == (1, 2048)
