"""The commands for decisions of people, as they are typed: they show first, name what is near, leave inputs alone."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from cytonet_pipeline.cli import app
from cytonet_pipeline.dataset.withdrawals import read_withdrawals, withdrawals_path
from cytonet_pipeline.defs.instance import STORE_NOTE
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import PATCH_INDEX
from cytonet_pipeline.stages.pending import brains_to_ingest, encoders_to_train
from cytonet_pipeline.store import Store, read_table

# One worker builds the finished run that these tests copy.
pytestmark = pytest.mark.xdist_group("ran")


@pytest.fixture
def settings(ran, small_brains, tmp_path, monkeypatch) -> Settings:
    """Copies of the data set, the finished store and its Dagster instance, named by the environment."""
    shutil.copytree(small_brains / "brains", tmp_path / "brains")
    shutil.copytree(ran.settings.store, tmp_path / "store")
    shutil.copytree(ran.home, tmp_path / "dagster", ignore=shutil.ignore_patterns(STORE_NOTE))
    own = ran.settings.model_copy(update={"data": tmp_path / "brains", "store": tmp_path / "store"})
    for name, value in {**own.environment(), "DAGSTER_HOME": str(tmp_path / "dagster")}.items():
        monkeypatch.setenv(name, value)
    return own


def typed(*words: str):
    return CliRunner().invoke(app, list(words))


def sample_of(settings: Settings, brain: str) -> str:
    rows = read_table(Store(settings.store).current_encoder("tiny_cytonet") / "sections.parquet", "training_sections")
    return str(rows.loc[(rows["brain"] == brain) & (rows["role"] == "train"), "sample"].iloc[0])


def test_a_section_is_withdrawn_and_the_encoders_that_saw_it_are_named(settings):
    sample = sample_of(settings, "B02")

    done = typed("withdraw", f"sub-B02/sample-{sample}", "--reason", "torn", "--by", "Ada")

    assert done.exit_code == 0, done.output
    assert "tiny_cytonet@" in done.output
    assert "other sections of B02 stay in use" in done.output
    (row,) = read_withdrawals(withdrawals_path(settings.data, "B02"))
    assert (row.sample, row.reason, row.by) == (sample, "torn", "Ada")
    assert "withdrawn already, torn" in typed("withdraw", f"B02/{sample}", "--reason", "again").output
    assert "B02" in brains_to_ingest(settings).inputs, "no loss to wait for: somebody has decided"


def test_a_section_that_there_is_not_is_refused_with_those_near_it(settings):
    sample = sample_of(settings, "B02")

    refused = typed("withdraw", f"B02/{sample}x", "--reason", "torn")

    assert isinstance(refused.exception, ConfigurationError)
    assert sample in str(refused.exception)
    assert not withdrawals_path(settings.data, "B02").exists()


def test_forgetting_shows_first_and_deletes_on_a_word(settings):
    shown = typed("forget", "sub-B02")
    assert shown.exit_code == 0, shown.output
    assert "patch_index/brain=B02" in shown.output
    assert "rests on it: tiny_cytonet@" in shown.output
    assert PATCH_INDEX.folder(settings, "B02").exists()

    done = typed("forget", "sub-B02", "--yes", "--by", "Ada")

    assert done.exit_code == 0, done.output
    assert "partition B02 removed" in done.output
    assert "is still in" in done.output, "the data set is for people to clear"
    assert not PATCH_INDEX.folder(settings, "B02").exists()
    assert json.loads((settings.store / "forgotten/B02.json").read_text())["by"] == "Ada"
    pending = brains_to_ingest(settings)
    assert "B02" not in pending.inputs
    assert "--undo" in pending.faults["B02"], "the sensor says so"
    refused = typed("run", "--brains", "B02")
    assert "forgotten" in str(refused.exception)


def test_dagster_keeps_no_partition_run_or_picture_of_a_forgotten_brain(settings):
    """Pictures are in the events of runs; SQLite leaves deleted bytes in its files until they are compacted."""
    from cytonet_pipeline.defs.instance import open_instance
    from cytonet_pipeline.reporting.markdown import picture
    from cytonet_pipeline.store import beside

    home = settings.store.parent / "dagster"
    drawn = picture(beside(Store(settings.store).section_scans("B02"), "contact_sheet.png")).encode()[2000:2400]
    assert files_with(home, drawn)

    typed("forget", "B02", "--yes")

    assert files_with(home, drawn) == []
    with open_instance(settings.store) as instance:
        assert "B02" not in instance.get_dynamic_partitions("brain")
        assert {run.tags.get("dagster/partition") for run in instance.get_runs()} >= {"B01", "B20"}
        assert "B02" not in {run.tags.get("dagster/partition") for run in instance.get_runs()}


def test_an_unknown_brain_is_not_forgotten(settings):
    refused = typed("forget", "b02", "--yes")

    assert "near it: B02" in str(refused.exception)
    assert not (settings.store / "forgotten").exists()


def test_a_vanished_brain_is_listed_held_back_and_accepted(settings):
    table = settings.data / "participants.tsv"
    table.write_text("\n".join(line for line in table.read_text().splitlines() if "B02" not in line) + "\n")
    shutil.rmtree(settings.data / "sub-B02")

    assert "sub-B02 has vanished" in typed("accept").output
    assert "has vanished" in brains_to_ingest(settings).faults["B02"]
    assert "not trained again" in encoders_to_train(settings).faults["tiny_cytonet"]
    assert typed("accept", "B02").exit_code == 0
    assert "tiny_cytonet" in encoders_to_train(settings).inputs
    assert "no brain waits" in typed("accept").output


def files_with(folder, content: bytes) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and content in path.read_bytes()]
