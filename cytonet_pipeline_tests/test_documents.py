"""What the documents say is true of the program."""

import re

import pytest
import yaml

from cytonet_pipeline import settings
from cytonet_pipeline.settings import read_experiments
from cytonet_pipeline.store import table
from cytonet_pipeline_tests.conftest import PROJECT

BLOCKS = [
    settings.DatasetBlock,
    settings.EncoderBlock,
    settings.LossBlock,
    settings.AugmentationBlock,
    settings.OptimizerBlock,
    settings.EvaluationBlock,
    settings.IngestBlock,
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_every_key_of_the_experiments_file_is_documented(block):
    text = (PROJECT / "docs" / "experiments.md").read_text()
    assert {key for key in block.model_fields if f"`{key}`" not in text and f"`{key}:" not in text} == set()


def test_every_column_of_the_table_of_results_is_documented():
    text = (PROJECT / "docs" / "evaluation.md").read_text()
    tables = ("metrics", "comparisons", "border_distances", "retrieved")
    named = {column.name for column in table("metrics").columns} | {f"{name}.parquet" for name in tables}
    assert {name for name in named if f"`{name}`" not in text} == set()


def test_links_between_documents_lead_somewhere():
    for document in [PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_seeds_of_the_demo_differ_from_it_in_nothing_but_the_seed():
    """Otherwise the median over seeds would not be one of the demo's settings."""
    demo = read_experiments(PROJECT / "experiments" / "demo.yaml")
    seeds = read_experiments(PROJECT / "experiments" / "demo-seeds.yaml")

    assert seeds.dataset == demo.dataset
    assert seeds.evaluation == demo.evaluation
    for name, block in seeds.encoders.items():
        original = demo.encoders[re.sub(r"_seed\d+$", "", name)]
        assert block.model_copy(update={"seed": original.seed}) == original


def test_the_study_of_the_loss_changes_one_option_at_a_time():
    """Of two changes at once nobody could say which did it."""
    demo = read_experiments(PROJECT / "experiments" / "demo.yaml")
    study = read_experiments(PROJECT / "experiments" / "demo-loss.yaml")
    original = demo.encoders["demo_cytonet"]

    assert study.dataset == demo.dataset
    assert study.evaluation == demo.evaluation
    for block in study.encoders.values():
        assert block.model_copy(update={"loss": original.loss}) == original
        changed = {key for key, value in block.loss.model_dump().items() if value != getattr(original.loss, key)}
        assert len(changed) == 1


def test_the_changelog_has_the_current_version():
    from cytonet_pipeline import __version__

    assert f"## {__version__}" in (PROJECT / "CHANGELOG.md").read_text()
    assert yaml.safe_load((PROJECT / "CITATION.cff").read_text())["version"] == __version__
