"""What has happened to sections since an encoder learned from them."""

import shutil

import pytest
from typer.testing import CliRunner

from cytonet_pipeline.cli import app
from cytonet_pipeline.lineage import happened_since, sections_of
from cytonet_pipeline.store import Store


@pytest.fixture
def moved(ran, tmp_path):
    """The settings of a finished run, with a data set of its own: every file has another path and is the same."""
    shutil.copytree(ran.settings.data, tmp_path / "brains")
    return ran.settings.model_copy(update={"data": tmp_path / "brains"})


@pytest.fixture
def since(moved):
    store = Store(moved.store)
    sections = sections_of("tiny_cytonet", store)

    def ask():
        texts = happened_since(sections, moved, store)
        keys = zip(sections["brain"], sections["sample"], strict=True)
        return {f"{brain}/{sample}": text for (brain, sample), text in zip(keys, texts, strict=True) if text}

    return ask


def scan_of(settings, section):
    brain, sample = section.split("/")
    (path,) = (settings.data / f"sub-{brain}/micr").glob(f"*sample-{sample}_*.tif")
    return path


def some_sections(settings):
    sections = sections_of("tiny_cytonet", Store(settings.store))
    return [f"B01/{sample}" for sample in sections.loc[sections["brain"] == "B01", "sample"]]


def test_nothing_has_happened_to_files_that_were_only_moved(since):
    assert since() == {}


def test_withdrawn_deleted_and_changed_sections_are_told_apart(since, moved):
    withdrawn, deleted, changed, unchanged, *_ = some_sections(moved)
    table = moved.data / "derivatives/sections/sub-B01/sub-B01_withdrawn.tsv"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(f"sample_id\treason\n{withdrawn.split('/')[1]}\ttorn apart\n")
    scan_of(moved, deleted).unlink()
    shutil.copyfile(scan_of(moved, unchanged), scan_of(moved, changed))

    assert since() == {
        withdrawn: "withdrawn: torn apart",
        deleted: "deleted: the data set does not have it any more",
        changed: "scan changed",
    }


def test_a_brain_that_is_not_released_any_more_is_said_of_each_of_its_sections(since, moved):
    path = moved.data / "participants.tsv"
    path.write_text(path.read_text().replace("ready", "withdrawn"))

    changes = since()

    assert {section.split("/")[0] for section in changes} == {"B01", "B02", "B20"}
    assert all("brain left out: not released" in text for text in changes.values())


def test_a_brain_that_left_the_data_set_is_said_to_have_left(since, moved):
    shutil.rmtree(moved.data / "sub-B02")
    (moved.data / "participants.tsv").unlink()

    changes = since()

    assert {section.split("/")[0] for section in changes} == {"B02"}
    assert all("the data set does not have it" in text for text in changes.values())


def test_the_command_says_what_was_learned_and_what_happened(moved, monkeypatch):
    for name, value in moved.environment().items():
        monkeypatch.setenv(name, value)
    withdrawn = some_sections(moved)[0]
    path = moved.data / "participants.tsv"
    path.write_text(path.read_text().replace("sub-B01\thomo sapiens\tready", "sub-B01\thomo sapiens\twithdrawn"))

    control = CliRunner().invoke(app, ["lineage", "encoder", "tiny_position"]).stdout
    section = CliRunner().invoke(app, ["lineage", "section", f"sub-{withdrawn}", "--json"]).stdout

    assert "learned nothing: its features are the positions" in control
    assert "brain left out: not released" in control
    assert section.count("not released") == section.count('"encoder"') == 3


def test_without_a_data_set_the_store_answers_and_says_what_it_cannot_know(moved, monkeypatch):
    for name, value in moved.environment().items():
        monkeypatch.setenv(name, value)
    section = some_sections(moved)[0]
    shutil.rmtree(moved.data)

    answer = CliRunner().invoke(app, ["lineage", "section", section, "--json"])

    assert answer.exit_code == 0
    assert '"since":"not known: ' in answer.stdout
