"""A brain that would shrink by more than a tenth, or has vanished, waits; what people decided before does not."""

import shutil

import pytest

from cytonet_pipeline.cli.doctor import examine
from cytonet_pipeline.dataset.withdrawals import Withdrawal, add_withdrawals, withdrawals_path
from cytonet_pipeline.errors import ConfigurationError, StoreError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import COLIN27_TRANSFORMS, SECTION_SCANS, TRAINING_SET
from cytonet_pipeline.stages.pending import brains_to_ingest
from cytonet_pipeline.stages.stage import store_of
from cytonet_pipeline.stages.waiting import accept, reason_not_to_train, settle_returned, waiting_brains
from cytonet_pipeline.store import Verdict, read_table

# One worker builds the finished run that these tests copy.
pytestmark = pytest.mark.xdist_group("ran")
NAMES = (
    "reference_space",
    "section_scans",
    "colin27_transforms",
    "patch_index",
    "training_sets",
    "encoders",
    "store.json",
)


@pytest.fixture
def settings(ran, small_brains, tmp_path) -> Settings:
    """Copies of the data set and of what training needs of the finished store."""
    shutil.copytree(small_brains / "brains", tmp_path / "brains")
    (tmp_path / "store").mkdir()
    for name in NAMES:
        source, target = ran.settings.store / name, tmp_path / "store" / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
    return ran.settings.model_copy(update={"data": tmp_path / "brains", "store": tmp_path / "store"})


def scans_of(settings: Settings, brain: str) -> list:
    return sorted((settings.data / f"sub-{brain}/micr").glob("*.tif"))


def sample_of(scan) -> str:
    return scan.name.split("_sample-")[1].split("_")[0]


def usable(settings: Settings, brain: str) -> list[str]:
    rows = read_table(store_of(settings).section_scans(brain) / "sections.parquet", "section_scans")
    return sorted(rows.loc[rows["status"].isin(["ok", "flagged"]), "sample"])


def write_section_table(settings: Settings, brain: str, scans: list) -> None:
    path = settings.data / f"derivatives/sections/sub-{brain}/sub-{brain}_sections.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{sample_of(scan)}\t{scan.relative_to(settings.data)}" for scan in scans]
    path.write_text("\n".join(["sample_id\tscan", *rows]) + "\n")


def vanish(settings: Settings, brain: str) -> None:
    table = settings.data / "participants.tsv"
    lines = [line for line in table.read_text().splitlines() if not line.startswith((f"sub-{brain}\t", f"{brain}\t"))]
    table.write_text("\n".join(lines) + "\n")
    shutil.rmtree(settings.data / f"sub-{brain}")


def test_a_section_table_of_one_row_does_not_drop_the_others_in_silence(settings):
    before = usable(settings, "B01")
    write_section_table(settings, "B01", scans_of(settings, "B01")[:1])

    assert list(waiting_brains(settings)) == ["B01"]
    with pytest.raises(StoreError, match=f"would lose {len(before) - 1} of {len(before)} sections") as waits:
        SECTION_SCANS.run(settings, "B01")
    assert "cytonet withdraw B01/" in str(waits.value)
    assert "cytonet accept B01" in str(waits.value)
    assert usable(settings, "B01") == before, "the earlier result stays in use"
    assert "B01" in reason_not_to_train(settings, "tiny_cytonet")
    assert TRAINING_SET.is_current(settings, "tiny_cytonet")


def test_after_a_person_s_word_it_is_ingested_once(settings):
    kept = scans_of(settings, "B01")[:2]
    write_section_table(settings, "B01", kept)

    accepted = accept(settings, "B01", "Ada")
    SECTION_SCANS.run(settings, "B01")

    assert accepted.by == "Ada"
    assert usable(settings, "B01") == sorted(sample_of(scan) for scan in kept)
    assert waiting_brains(settings) == {}
    write_section_table(settings, "B01", kept[:1])
    assert list(waiting_brains(settings)) == ["B01"], "the confirmation was for that loss, not for the next one"


def test_a_further_loss_is_not_covered_by_the_word(settings):
    scans = scans_of(settings, "B01")
    write_section_table(settings, "B01", scans[:3])
    accept(settings, "B01", "Ada")
    write_section_table(settings, "B01", scans[:1])

    assert set(waiting_brains(settings)["B01"].lost) == {sample_of(scan) for scan in scans[1:3]}


def test_withdrawn_sections_do_not_wait(settings):
    """Each is decided already, however many they are."""
    scans = scans_of(settings, "B01")
    listed = [Withdrawal(sample_of(scan), "torn", "Ada", "2026-11-28") for scan in scans[:2]]
    add_withdrawals(withdrawals_path(settings.data, "B01"), listed)

    assert waiting_brains(settings) == {}
    SECTION_SCANS.run(settings, "B01")

    rows = read_table(store_of(settings).section_scans("B01") / "sections.parquet", "section_scans")
    withdrawn = rows[rows["status"] == "withdrawn"]
    assert set(withdrawn["sample"]) == {w.sample for w in listed}
    assert set(withdrawn["reason"]) == {"torn (by Ada, 2026-11-28)"}


def test_losses_that_only_opening_the_scans_shows_wait_too(settings):
    """A disk that is half copied has all names, and scans that end in the middle."""
    scans = scans_of(settings, "B01")
    for scan in scans[1:]:
        scan.write_bytes(scan.read_bytes()[:2000])
    assert waiting_brains(settings) == {}, "names and sidecars are in order"

    with pytest.raises(StoreError, match="would lose"):
        SECTION_SCANS.run(settings, "B01")

    assert len(usable(settings, "B01")) == len(scans)
    assert set(waiting_brains(settings)["B01"].lost) == {sample_of(scan) for scan in scans[1:]}
    accept(settings, "B01", "Ada")
    SECTION_SCANS.run(settings, "B01")
    assert usable(settings, "B01") == [sample_of(scans[0])]


def test_the_tolerance_is_a_setting_and_no_part_of_what_results_are_made_from(settings, tmp_path):
    write_section_table(settings, "B01", scans_of(settings, "B01")[:-1])
    assert list(waiting_brains(settings)) == ["B01"], "one of a few is more than a tenth"
    inputs, version = SECTION_SCANS.inputs(settings, "B01"), TRAINING_SET.inputs(settings, "tiny_cytonet")

    file = tmp_path / "tolerant.yaml"
    file.write_text(settings.experiments_file.read_text() + "\ningest: {shrink_tolerance: 0.5}\n")
    tolerant = Settings(**{**settings.model_dump(), "experiments_file": file})

    assert waiting_brains(tolerant) == {}
    assert SECTION_SCANS.inputs(tolerant, "B01") == inputs
    assert TRAINING_SET.inputs(tolerant, "tiny_cytonet") == version


def test_a_vanished_brain_waits_and_its_encoders_are_not_trained_again(settings):
    vanish(settings, "B02")
    decided = TRAINING_SET.decided_version(settings, "tiny_cytonet")

    loss = waiting_brains(settings)["B02"]
    assert loss.whole
    assert "has vanished" in reason_not_to_train(settings, "tiny_cytonet")
    TRAINING_SET.run(settings, "tiny_cytonet")
    assert TRAINING_SET.decided_version(settings, "tiny_cytonet") == decided

    accept(settings, "B02", "Ada")
    assert waiting_brains(settings) == {}
    assert reason_not_to_train(settings, "tiny_cytonet") == ""
    assert not TRAINING_SET.is_current(settings, "tiny_cytonet")
    TRAINING_SET.run(settings, "tiny_cytonet")
    sections = read_table(TRAINING_SET.folder(settings, "tiny_cytonet") / "sections.parquet", "training_sections")
    assert "B02" not in set(sections["brain"])


def test_a_brain_that_returned_waits_again_when_it_vanishes_again(settings):
    """Nothing is ingested when it returns unchanged, so no ingestion notes that the confirmation is used up."""
    saved = shutil.copytree(settings.data, settings.data.with_name("saved"))
    vanish(settings, "B02")
    accept(settings, "B02", "Ada")
    settle_returned(settings)
    assert waiting_brains(settings) == {}, "it is still gone"
    shutil.rmtree(settings.data)
    shutil.copytree(saved, settings.data)
    pending = brains_to_ingest(settings)
    assert "B02" not in pending.inputs | pending.faults

    vanish(settings, "B02")

    assert list(waiting_brains(settings)) == ["B02"]
    pending = brains_to_ingest(settings)
    assert "has vanished" in pending.faults["B02"]
    assert "B02" not in pending.not_released, "the sensor says it once"
    said = [each.text for each in examine(settings) if "B02" in each.text and "passed over" not in each.text]
    assert len(said) == 1, "and so does doctor"


def test_the_brain_s_page_says_that_it_waits(settings):
    write_section_table(settings, "B01", scans_of(settings, "B01")[:1])

    for stage in (SECTION_SCANS, COLIN27_TRANSFORMS):
        summary = stage.summary(settings, "B01")
        assert "waits for confirmation" in summary.reasons[0]
    assert Verdict.read(SECTION_SCANS.folder(settings, "B01")).ok


def test_there_is_nothing_to_accept_of_a_brain_that_does_not_wait(settings):
    with pytest.raises(ConfigurationError, match="does not wait"):
        accept(settings, "B01", "Ada")
