"""What the pages of encoders and brains say of lineage, and the lineage page in the store."""

import shutil

import pytest

from cytonet_pipeline.dataset.withdrawals import Withdrawal, add_withdrawals, withdrawals_path
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import ENCODER, SECTION_SCANS
from cytonet_pipeline.stages.holdings import holdings
from cytonet_pipeline.stages.lineage_page import make_page, models_text
from cytonet_pipeline.stages.stage import store_of
from cytonet_pipeline.store import read_table

# One worker builds the finished run that these tests copy.
pytestmark = pytest.mark.xdist_group("ran")
NAME = "tiny_cytonet"


@pytest.fixture
def settings(ran, small_brains, tmp_path) -> Settings:
    """Copies of the data set and the finished store, with a training section withdrawn since."""
    shutil.copytree(small_brains / "brains", tmp_path / "brains")
    shutil.copytree(ran.settings.store, tmp_path / "store", ignore=shutil.ignore_patterns("packed", "checkpoints"))
    own = ran.settings.model_copy(update={"data": tmp_path / "brains", "store": tmp_path / "store"})
    add_withdrawals(withdrawals_path(own.data, "B01"), [Withdrawal(training_sample(own), "torn", "Ada", "2026-01-02")])
    return own


def training_sample(settings: Settings) -> str:
    rows = read_table(store_of(settings).current_encoder(NAME) / "sections.parquet", "training_sections")
    return str(rows.loc[(rows["brain"] == "B01") & (rows["role"] == "train"), "sample"].iloc[0])


def test_pages_say_which_sections_made_a_model_and_which_models_saw_a_brain(settings):
    sections = ENCODER.summary(settings, NAME).texts["sections"]
    models = SECTION_SCANS.summary(settings, "B01").texts["models"]

    (row,) = [line for line in sections.splitlines() if line.startswith("| B01 |")]
    assert row.count("🟥") == 1, "withdrawn since"
    assert "🟩" in row
    assert row.split("|")[6].strip() == "1"
    for encoder in ("tiny_cytonet", "tiny_scratch", "tiny_position"):
        assert f"| {encoder} | {store_of(settings).current_version(encoder)} | yes |" in models
    learned = {line.split("|")[1].strip(): line.split("|")[5].strip() for line in models.splitlines() if "yes" in line}
    assert learned["tiny_position"] == "nothing"
    assert "patches of" in learned["tiny_cytonet"]
    assert models_text(settings, "B99") == "no trained encoder knows this brain"


def test_the_page_has_pictures_what_follows_and_what_happened_and_goes_with_a_forgotten_brain(settings):
    path = make_page(settings, NAME)

    text = path.read_text()
    assert text.count("data:image/jpeg;base64,") == 18
    assert "withdrawn: torn" in text
    assert "linear_E5" in text
    assert "sub-B20" in text
    assert "not computed" not in text.partition('id="data"')[0]
    assert path in [holding.path for holding in holdings(store_of(settings), "B01")]
