"""A version is trained again from its record alone; before, what differs and what is missing is named."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from cytonet_pipeline.cli import app
from cytonet_pipeline.errors import ConfigurationError, TrainingError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.reproduce import read_stored, train_again
from cytonet_pipeline.stages.stage import store_of
from cytonet_pipeline.store import read_record, write_record

# One worker builds the finished run that these tests copy.
pytestmark = pytest.mark.xdist_group("ran")
NAME = "tiny_cytonet"


@pytest.fixture
def settings(ran, small_brains, tmp_path) -> Settings:
    """The encoders of the finished store, without anything else; no patch index, and scans that may be changed."""
    shutil.copytree(ran.settings.store / "encoders" / NAME, tmp_path / "store" / "encoders" / NAME)
    shutil.copytree(small_brains / "brains", tmp_path / "brains", copy_function=shutil.copy)
    return ran.settings.model_copy(update={"store": tmp_path / "store", "data": tmp_path / "brains"})


def changed(settings, **values):
    """Change the record, as an older program or another machine would have written it."""
    folder = store_of(settings).current_encoder(NAME)
    (folder / "inputs.json").unlink(missing_ok=True)
    write_record(folder / "encoder.json", {**read_record(folder / "encoder.json"), **values})
    return folder


def test_what_is_as_it_was_is_not_named(settings):
    """But for uncommitted changes, which a checkout may have while tests run."""
    stored = read_stored(settings, NAME)

    assert stored.missing == ()
    assert [line for line in stored.differing if "commit" not in line] == []
    assert (stored.ranks, stored.threads) == (1, read_record(stored.folder / "encoder.json")["runs"][-1]["threads"])


def test_other_code_packages_and_scans_are_named(settings, small_brains):
    folder = changed(settings, environment={"packages": {"torch": "1.0", "gone": "2"}, "git": {"commit": "abc"}})
    write_record(folder / "training_set.json", {**read_record(folder / "training_set.json"), "code_version": "0"})
    scans = sorted((settings.data / "sub-B01/micr").glob("*.tif"))
    others = sorted((settings.data / "sub-B02/micr").glob("*.tif"))
    for scan, other in zip(scans, others, strict=False):
        shutil.copyfile(other, scan)

    lines = "\n".join(read_stored(settings, NAME).differing)

    for expected in ("code version of training: 0 then", "commit: abc then", "package torch: 1.0 then", "gone: 2 then"):
        assert expected in lines
    assert "scans that are not as they were: B01/" in lines


def test_without_scans_or_files_of_the_record_nothing_is_trained(settings, tmp_path):
    folder = changed(settings)
    (folder / "patches.parquet").unlink()
    shutil.rmtree(settings.data / "sub-B02")

    stored = read_stored(settings, NAME)

    assert "patches.parquet of the record is not there" in stored.missing
    assert any(line.startswith("scans that cannot be read: B02/") for line in stored.missing)
    with pytest.raises(TrainingError, match="cannot be trained again"):
        train_again(settings, stored, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_it_is_never_trained_in_the_store(settings):
    stored = read_stored(settings, NAME)

    for place in (settings.store / "again", stored.folder, settings.data):
        with pytest.raises(ConfigurationError, match=r"lies in the store|is not empty"):
            train_again(settings, stored, place)


@pytest.mark.long
def test_the_weights_agree_bit_for_bit(settings, monkeypatch, tmp_path):
    """And nothing of the stored version is touched."""
    folder = changed(settings)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)

    done = CliRunner().invoke(app, ["reproduce", NAME, "--json", "--to", str(tmp_path / "again")])

    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [each["agrees"] for each in found["weights"]] == [True, True]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
