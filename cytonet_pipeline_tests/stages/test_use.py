"""An earlier version is made current again: it stays in use until a person decides otherwise, and nothing flips it."""

import json
import shutil

import pytest
import yaml
from typer.testing import CliRunner

from cytonet_pipeline.cli import app
from cytonet_pipeline.errors import ConfigurationError, StoreError, TrainingError
from cytonet_pipeline.lineage import examine_members
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import ENCODER, TRAINING_SET
from cytonet_pipeline.stages.pending import encoders_to_train
from cytonet_pipeline.stages.stage import store_of
from cytonet_pipeline.stages.use import apply, plan_pin, plan_unpin
from cytonet_pipeline.store import read_record, write_record
from cytonet_pipeline.store.pins import decisions_on_use, pin_of
from cytonet_pipeline_tests.stages.test_waiting import NAMES

# One worker builds the finished run that these tests copy.
pytestmark = pytest.mark.xdist_group("ran")
# It has no weights: what a training run leaves is a record, and tests can leave it.
ENCODER_NAME = "tiny_position"


@pytest.fixture
def settings(ran, tmp_path, monkeypatch) -> Settings:
    """What training needs of the finished store, copied, and an experiments file to change."""
    (tmp_path / "store").mkdir()
    for name in NAMES:
        source, target = ran.settings.store / name, tmp_path / "store" / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
    content = yaml.safe_load(ran.settings.experiments_file.read_text())
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content))
    own = ran.settings.model_copy(update={"store": tmp_path / "store", "experiments_file": tmp_path / "tiny.yaml"})
    for name, value in own.environment().items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment()


def change(settings: Settings, seed: int) -> Settings:
    """Another seed: another version."""
    content = yaml.safe_load(settings.experiments_file.read_text())
    content["encoders"][ENCODER_NAME]["seed"] = seed
    settings.experiments_file.write_text(yaml.safe_dump(content))
    return Settings.from_environment()


def train(settings: Settings) -> str:
    """Do what a run does, with the record of the version in use for that of the training run."""
    store = store_of(settings)
    record = read_record(store.current_encoder(ENCODER_NAME) / "encoder.json")
    TRAINING_SET.run(settings, ENCODER_NAME)
    folder = ENCODER.prepare(settings, ENCODER_NAME)
    if not (folder / "encoder.json").exists():
        write_record(folder / "encoder.json", record)
    ENCODER.collect(settings, ENCODER_NAME)
    return folder.name


@pytest.fixture
def two(settings) -> tuple[Settings, str, str]:
    """An encoder with an earlier version and the latest one."""
    earlier = store_of(settings).current_version(ENCODER_NAME)
    settings = change(settings, 5)
    return settings, earlier, train(settings)


def test_a_pinned_version_stays_in_use_whatever_runs(two):
    settings, earlier, latest = two
    store = store_of(settings)
    assert store.current_version(ENCODER_NAME) == latest

    apply(settings, plan_pin(settings, ENCODER_NAME, earlier), "Ada")

    assert TRAINING_SET.is_current(settings, ENCODER_NAME)
    assert ENCODER.is_current(settings, ENCODER_NAME)
    assert train(settings) == earlier
    shutil.rmtree(store.training_set(earlier))
    assert train(settings) == earlier, "what was decided is written down again"
    # A job that was on its way when somebody pinned: its version is trained, and not put into use.
    store.point_wanted(ENCODER_NAME, latest)
    ENCODER.collect(settings, ENCODER_NAME)
    assert store.current_version(ENCODER_NAME) == earlier
    with pytest.raises(ConfigurationError, match="pinned, by Ada"):
        plan_pin(settings, ENCODER_NAME, earlier)


def test_a_pin_is_named_wherever_somebody_would_wonder(two):
    settings, earlier, _ = two
    apply(settings, plan_pin(settings, ENCODER_NAME, earlier), "Ada")

    held_back = encoders_to_train(settings).faults[ENCODER_NAME]
    notes = [text for level, text in examine_members(settings, store_of(settings)) if level == "note"]
    pages = [stage.summary(settings, ENCODER_NAME).reasons for stage in (TRAINING_SET, ENCODER)]

    for text in (held_back, *notes, *(reason for page in pages for reason in page)):
        assert f"version {earlier} is pinned, by Ada" in text
        assert f"cytonet use {ENCODER_NAME} --latest" in text
    assert len(notes) == 1
    assert [len(page) for page in pages] == [1, 1]
    planned = CliRunner().invoke(app, ["plan", "--encoders", ENCODER_NAME])
    assert f"version {earlier} is pinned" in planned.output


def test_unpinning_puts_the_latest_into_use_and_the_history_stays(two):
    settings, earlier, latest = two
    store = store_of(settings)
    apply(settings, plan_pin(settings, ENCODER_NAME, earlier), "Ada")

    apply(settings, plan_unpin(settings, ENCODER_NAME), "Ben", latest=True)

    assert pin_of(store, ENCODER_NAME) is None
    assert store.current_version(ENCODER_NAME) == latest
    assert [(d.pinned, d.before, d.by) for d in decisions_on_use(store, ENCODER_NAME)] == [
        (earlier, latest, "Ada"),
        ("", earlier, "Ben"),
    ]
    assert train(settings) == latest
    with pytest.raises(ConfigurationError, match="no version is pinned"):
        plan_unpin(settings, ENCODER_NAME)


@pytest.mark.long
def test_unpinning_keeps_the_version_until_the_latest_is_trained(two):
    settings, earlier, _ = two
    apply(settings, plan_pin(settings, ENCODER_NAME, earlier), "Ada")
    settings = change(settings, 6)

    planned = plan_unpin(settings, ENCODER_NAME)
    apply(settings, planned, "Ben", latest=True)

    assert "next cytonet run trains" in planned.consequences[0]
    assert store_of(settings).current_version(ENCODER_NAME) == earlier
    assert ENCODER_NAME in encoders_to_train(settings).inputs
    assert train(settings) not in two[1:]


def test_what_cannot_be_used_is_refused_and_nothing_changes(two):
    settings, earlier, latest = two
    store = store_of(settings)
    folder = store.encoder(ENCODER_NAME, earlier)
    with pytest.raises(StoreError, match="no version 1234"):
        plan_pin(settings, ENCODER_NAME, "1234")
    with pytest.raises(StoreError, match="near it: tiny_position"):
        plan_pin(settings, "tiny_positon", earlier)

    (folder / "sections.parquet").write_bytes(b"short")
    with pytest.raises(StoreError, match=r"damaged or incomplete \(sections.parquet\)|sections.parquet"):
        plan_pin(settings, ENCODER_NAME, earlier)
    (folder / "inputs.json").unlink()
    write_record(folder / "encoder.json", {"problems": ["collapsed"]})
    with pytest.raises(TrainingError, match="failed its check"):
        plan_pin(settings, ENCODER_NAME, earlier)

    assert store.current_version(ENCODER_NAME) == latest
    assert decisions_on_use(store, ENCODER_NAME) == []


@pytest.mark.long
def test_a_pinned_version_is_never_thrown_away_by_recompute(two):
    """Brains and settings of today give another version: what was removed could not be made again."""
    settings, earlier, _ = two
    apply(settings, plan_pin(settings, ENCODER_NAME, earlier), "Ada")

    with pytest.raises(TrainingError, match="cytonet reproduce"):
        ENCODER.prepare(settings, ENCODER_NAME, recompute=True)

    assert (store_of(settings).encoder(ENCODER_NAME, earlier) / "encoder.json").exists()


def test_the_command_says_what_follows_asks_and_keeps_who_decided(two):
    settings, earlier, latest = two
    run = CliRunner().invoke

    declined = run(app, ["use", f"{ENCODER_NAME}@{earlier}"], input="n\n")
    assert declined.exit_code == 1
    assert f"{latest} is in use; then it is {earlier}" in declined.output
    assert "setting encoder.seed: 5" in declined.output
    assert "table of results is stale" in declined.output
    assert store_of(settings).current_version(ENCODER_NAME) == latest

    done = run(app, ["use", f"{ENCODER_NAME}@{earlier}", "--yes", "--by", "Ada"])
    assert done.exit_code == 0, done.output
    assert "pinned, by Ada" in done.output
    assert "stale now: patch_embeddings" in done.output
    listed = run(app, ["use", ENCODER_NAME]).output
    assert "pinned" in listed
    assert f"Ada pinned {earlier}; until then {latest}" in listed
    undone = run(app, ["use", ENCODER_NAME, "--latest", "--yes", "--by", "Ben"])
    assert "unpinned, by Ben" in undone.output
    assert json.loads((settings.store / "encoders" / ENCODER_NAME / "use.json").read_text())["seal"]
