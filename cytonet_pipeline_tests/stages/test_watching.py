"""Looks at a data set that take as long for a hundred brains as for one: what they find, and when."""

import os
import shutil
import time
from pathlib import Path

import pytest

from cytonet_pipeline.dataset import data
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import SECTION_SCANS
from cytonet_pipeline.stages.histology import _READ_AS_NOW
from cytonet_pipeline.stages.watching import BRAIN_STAGES, Watch
from cytonet_pipeline.store import write_stamp

BRAINS = ("B01", "B02", "B03", "B04")
EXPERIMENTS = """
dataset: {{density_per_mm3: 1, held_out: B01, quiet_minutes: {quiet}, allowed_roots: [{elsewhere}]}}
encoders: {{one: {{method: position, working_pixel_um: 64, steps: 0}}}}
"""
OLD = time.time() - 86400


def write_brain(root: Path, brain: str) -> None:
    """Write a brain of three sections whose scans nobody opens here."""
    micr, masks = root / f"sub-{brain}/micr", root / f"derivatives/segmentation/sub-{brain}/micr"
    registration = root / f"derivatives/registration/sub-{brain}"
    for folder in (micr, masks, registration):
        folder.mkdir(parents=True)
    rows = ["\t".join(["sample_id", *(f"m{row}{column}" for row in range(3) for column in range(4))])]
    for number in (10, 20, 30):
        (micr / f"sub-{brain}_sample-{number:04}_stain-merker_BF.tif").write_bytes(b"scan")
        (masks / f"sub-{brain}_sample-{number:04}_desc-cortex_mask.tif").write_bytes(b"mask")
        rows.append(f"sample-{number:04}\t1\t0\t0\t0\t0\t0\t1\t{number}\t0\t1\t0\t0")
    matrices = registration / f"sub-{brain}_from-scan_to-brain_mode-points_xfm.tsv"
    matrices.write_text("\n".join(rows) + "\n")
    (registration / f"sub-{brain}_from-brain_to-MNIColin27_mode-points_xfm.mat").write_bytes(b"transform")


class Watched:
    """A data set of four brains that the store has, and what looks at it find."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, quiet: float = 0.0) -> None:
        self.root, self.elsewhere = folder / "brains", folder / "elsewhere"
        for brain in BRAINS:
            write_brain(self.root, brain)
        participants = self.root / "participants.tsv"
        rows = [f"sub-{brain}\tready" for brain in BRAINS]
        participants.write_text("\n".join(["participant_id\tingest", *rows]) + "\n")
        if quiet:
            participants.unlink()
        self.elsewhere.mkdir()
        experiments = folder / "experiments.yaml"
        experiments.write_text(EXPERIMENTS.format(quiet=quiet, elsewhere=self.elsewhere))
        self.settings = Settings(
            data=self.root, reference=folder / "reference", store=folder / "store", experiments_file=experiments
        )
        self.watch = Watch()
        self.read: list[str] = []
        read_brain = data.read_brain

        def counted(root, brain, block):
            self.read.append(brain)
            return read_brain(root, brain, block)

        monkeypatch.setattr(data, "read_brain", counted)

    def take_in(self, *brains: str) -> None:
        """Let the store have brains as they are now, by the stamps of their results."""
        for brain in brains:
            for stage in BRAIN_STAGES:
                folder = stage.folder(self.settings, brain)
                folder.mkdir(parents=True, exist_ok=True)
                write_stamp(folder, stage.inputs(self.settings, brain))
            (SECTION_SCANS.folder(self.settings, brain) / _READ_AS_NOW).touch()

    def look(self, budget_s: float = 60.0) -> dict[str, str]:
        """Look once, as another process would with the cursor of this one; return the answers."""
        self.watch, self.read[:] = Watch.from_text(self.watch.as_text()), []
        return {brain: found.answer for brain, found in self.watch.look(self.settings, budget_s).items()}

    def scan(self, brain: str) -> Path:
        return sorted((self.root / f"sub-{brain}" / "micr").glob("*.tif"))[0]


@pytest.fixture
def watched(tmp_path, monkeypatch):
    made = Watched(tmp_path, monkeypatch)
    made.take_in(*BRAINS)
    assert made.look() == dict.fromkeys(BRAINS, "current")
    return made


def overwrite(path: Path) -> None:
    """Change the bytes of a file and not its folder: as an editor, a scanner or rsync --inplace does."""
    before = path.parent.stat().st_mtime_ns
    with path.open("ab") as stream:
        stream.write(b"\n")
    os.utime(path, (OLD, OLD))
    assert path.parent.stat().st_mtime_ns == before


def test_of_brains_in_which_nothing_has_changed_none_is_read(watched):
    assert watched.look() == dict.fromkeys(BRAINS, "current")
    assert watched.read == []


def add_scan(watched):
    shutil.copy2(watched.scan("B02"), watched.scan("B02").with_name("sub-B02_sample-0099_stain-merker_BF.tif"))


def remove_scan(watched):
    watched.scan("B02").unlink()


def replace_scan(watched):
    new = watched.scan("B02").with_name(".new")
    new.write_bytes(b"another scan")
    new.replace(watched.scan("B02"))


def edit_matrices(watched):
    overwrite(next(watched.root.glob("derivatives/registration/sub-B02/*xfm.tsv")))


def edit_transform(watched):
    overwrite(next(watched.root.glob("derivatives/registration/sub-B02/*to-MNIColin27*")))


def withdraw_section(watched):
    from cytonet_pipeline.dataset.withdrawals import Withdrawal, add_withdrawals, withdrawals_path

    sample = watched.scan("B02").name.split("_sample-")[1].split("_")[0]
    add_withdrawals(withdrawals_path(watched.root, "B02"), [Withdrawal(sample, "torn", "Ada", "2026-11-28")])


def lose_result(watched):
    shutil.rmtree(SECTION_SCANS.folder(watched.settings, "B02"))


@pytest.mark.parametrize(
    "change",
    [add_scan, remove_scan, replace_scan, edit_matrices, edit_transform, withdraw_section, lose_result],
    ids=lambda change: change.__name__,
)
def test_what_changes_a_folder_a_table_or_the_store_is_found_at_once_in_that_brain_alone(watched, change):
    change(watched)

    assert watched.look(budget_s=0.0) == {**dict.fromkeys(BRAINS, "current"), "B02": "pending"}
    assert set(watched.read) == {"B02"}, "a changed section re-ingests that brain and only that"


def test_a_scan_that_is_overwritten_in_place_is_found_when_its_brain_has_its_turn(watched):
    """No folder changes: one brain per look is looked at as a whole, here the smallest time allows no more."""
    overwrite(watched.scan("B03"))
    looks = 0
    while watched.look(budget_s=0.0)["B03"] == "current":
        looks += 1
        assert looks < len(BRAINS)

    assert watched.read == ["B03"], "the files of the others are compared without reading the brain"


def test_a_brain_that_changes_all_the_time_keeps_no_other_from_its_turn(watched):
    overwrite(watched.scan("B04"))
    for look in range(2 * len(BRAINS)):
        (watched.scan("B01").parent / f"note{look}.txt").touch()
        (watched.scan("B02").parent / f"note{look}.txt").touch()
        answers = watched.look(budget_s=0.0)

    assert answers["B01"] == answers["B02"] == "current", "a note is nothing that a brain is ingested from"
    watched.look()
    assert watched.watch.findings["B04"].answer == "pending"


def test_a_large_data_set_is_examined_over_several_looks_and_the_rest_is_named(tmp_path, monkeypatch):
    new = Watched(tmp_path, monkeypatch)
    for number in range(1, len(BRAINS) + 1):
        assert new.look(budget_s=0.0) == dict.fromkeys(BRAINS[:number], "pending")
        assert new.watch.unexamined == list(BRAINS[number:])
        assert new.read == [BRAINS[number - 1]], "one reading answers all questions about a brain"


def test_other_settings_and_another_store_let_every_brain_be_examined_again(watched, tmp_path):
    experiments = watched.settings.experiments
    ingest = experiments.ingest.model_copy(update={"shrink_tolerance": 0.5})
    for changed in (
        watched.settings.model_copy(update={"store": tmp_path / "other"}),
        watched.settings.model_copy(update={"reference": tmp_path / "other"}),
    ):
        changed.__dict__["experiments"] = experiments.model_copy(update={"ingest": ingest})
        watched.settings = changed
        watched.look()
        assert set(watched.read) == set(BRAINS)


def test_a_brain_that_is_still_being_written_is_named_with_the_time_at_which_it_is_taken(tmp_path, monkeypatch):
    writing = Watched(tmp_path, monkeypatch, quiet=60)
    for place, folders, names in os.walk(writing.root):
        for name in ("", *folders, *names):
            os.utime(os.path.join(place, name), (OLD, OLD))
    os.utime(writing.scan("B01"), (1_900_000_000, 1_900_000_000))
    monkeypatch.setattr(time, "time", lambda: 1_900_000_000 + 59 * 60)

    assert writing.look() == {**dict.fromkeys(BRAINS, "pending"), "B01": "writing"}
    text = writing.watch.findings["B01"].text
    assert f"last change 2030-03-17 17:46 UTC, {writing.scan('B01')}; taken on 2030-03-17 18:46 UTC" in text
    assert writing.look()["B01"] == "writing"
    monkeypatch.setattr(time, "time", lambda: 1_900_000_000 + 60 * 60)
    assert writing.look(budget_s=0.0)["B01"] == "pending"


def test_a_file_of_the_future_is_named(tmp_path, monkeypatch):
    """A scanner's clock is wrong: the brain would wait for years, and nobody would know for what."""
    writing = Watched(tmp_path, monkeypatch, quiet=60)
    os.utime(writing.scan("B01"), (4e9, 4e9))

    writing.look()

    assert "is dated in the future, 2096-10-02" in writing.watch.findings["B01"].text
    assert str(writing.scan("B01")) in writing.watch.findings["B01"].text


def test_scans_on_another_disk_are_watched_through_the_link(watched):
    micr = watched.root / "sub-B02" / "micr"
    shutil.move(micr, watched.elsewhere / "micr")
    micr.symlink_to(watched.elsewhere / "micr")
    watched.take_in("B02")
    watched.look()
    overwrite(watched.scan("B02"))
    for _ in BRAINS:
        watched.look(budget_s=0.0)
    assert watched.watch.findings["B02"].answer == "pending"

    watched.take_in("B02")
    watched.look()
    add_scan(watched)
    assert watched.look(budget_s=0.0)["B02"] == "pending"


def test_scans_that_a_section_table_names_elsewhere_are_watched_there(watched):
    scan = watched.scan("B02")
    outside = watched.elsewhere / "one.tif"
    shutil.move(scan, outside)
    table = watched.root / "derivatives/sections/sub-B02/sub-B02_sections.tsv"
    table.parent.mkdir(parents=True, exist_ok=True)
    sample = scan.name.split("_sample-")[1].split("_")[0]
    table.write_text(f"sample_id\tsection\tscan\nsample-{sample}\t{int(sample)}\t{outside}\n")
    watched.take_in("B02")
    assert watched.look()["B02"] == "current"
    assert watched.watch.findings["B02"].elsewhere == (str(watched.elsewhere),)

    overwrite(outside)
    for _ in BRAINS:
        watched.look(budget_s=0.0)
    assert watched.watch.findings["B02"].answer == "pending", "overwritten: when its turn comes"

    watched.take_in("B02")
    watched.look()
    outside.unlink()
    assert watched.look(budget_s=0.0)["B02"] != "current", "gone: at once, by the folder"


def test_a_run_is_not_requested_for_files_that_are_being_changed(watched):
    add_scan(watched)
    watched.look()
    assert watched.watch.is_as_found(watched.settings, "B02")

    overwrite(watched.scan("B02"))

    assert not watched.watch.is_as_found(watched.settings, "B02")
    assert watched.look(budget_s=0.0)["B02"] == "pending"
    assert watched.watch.is_as_found(watched.settings, "B02")


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "7", '{"format": 0}', '{"format": 1, "brains": {"B01": [1]}}'])
def test_a_cursor_that_is_not_understood_is_nothing_known(watched, text):
    watched.watch = Watch.from_text(text)

    assert watched.watch == Watch()
    assert watched.look() == dict.fromkeys(BRAINS, "current")
