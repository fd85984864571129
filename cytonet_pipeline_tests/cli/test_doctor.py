"""What `cytonet doctor` finds before a run would fail of it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

from cytonet_pipeline.cli.doctor import examine
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import SECTION_SCANS
from cytonet_pipeline_tests.conftest import PROJECT, settings_for
from cytonet_pipeline_tests.dataset.tiny import TinyDataset, ring


def bad_texts(settings) -> str:
    return "\n".join(each.text for each in examine(settings) if each.bad)


def test_a_file_of_another_kind_beside_the_experiments_is_found(tmp_path, small_brains):
    experiments = tmp_path / "experiments" / "mine.yaml"
    experiments.parent.mkdir()
    experiments.write_text((PROJECT / "experiments" / "demo.yaml").read_text())
    (experiments.parent / "cluster.yaml").write_text("nodes: 2\n")
    settings = settings_for(small_brains, tmp_path / "store").model_copy(update={"experiments_file": experiments})

    assert "cluster.yaml" in bad_texts(settings)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"cluster": "foo"}, "CYTONET_CLUSTER=foo: no such launcher"),
        ({"timezone": "Berlin"}, "CYTONET_TIMEZONE=Berlin: no such time zone"),
    ],
)
def test_a_setting_that_a_run_would_refuse_is_found_without_a_cluster(small_brains, tmp_path, changed, named):
    assert named in bad_texts(settings_for(small_brains, tmp_path / "store").model_copy(update=changed))


def test_a_time_at_which_nothing_can_be_scheduled_is_found(small_brains, tmp_path):
    experiments = tmp_path / "mine.yaml"
    experiments.write_text(
        f"{(PROJECT / 'experiments' / 'demo.yaml').read_text()}\nretrain: {{cron: 0 3 * * funday}}\n"
    )
    settings = settings_for(small_brains, tmp_path / "store").model_copy(update={"experiments_file": experiments})

    assert "mine.yaml: retrain.cron: '0 3 * * funday'" in bad_texts(settings)


def test_a_profile_that_cannot_be_read_is_found_without_asking_the_cluster(small_brains, tmp_path, monkeypatch):
    monkeypatch.setenv("CYTONET_CLUSTER_PROFILE", str(tmp_path / "gone.yaml"))
    settings = settings_for(small_brains, tmp_path / "store").model_copy(update={"cluster": "slurm"})

    assert "gone.yaml" in bad_texts(settings)


@pytest.mark.parametrize("place", ["/proc/store", "/etc/hostname", "/etc/hostname/store"])
def test_a_store_that_cannot_be_made_is_found(small_brains, place):
    assert f"{place}: " in bad_texts(settings_for(small_brains, Path(place)))


def spoiled(tmp_path) -> Settings:
    """Three sections of a tiny brain, of which one is in a format that is not read, and files that nobody reads."""
    tiny = TinyDataset(tmp_path / "brains").write()
    tiny.scan("0020").rename(tiny.scan("0020").with_suffix(".czi"))
    tiny.mask("0030").rename(tiny.mask("0030").with_suffix(".nii.gz"))
    (tiny.micr / "IMG_1.tif").write_bytes(b"")
    (tiny.root / "sub-B 21").mkdir()
    tiny.write_participants({"participant_id": ["B01", "a b", "y" * 300], "ingest": ["ready"] * 3})
    return settings_for(tmp_path, tmp_path / "store")


def test_a_file_of_the_future_is_named_where_it_keeps_its_brain_out(tmp_path):
    """The clock of a scanner is wrong, or this machine's was set back: the brain would not become quiet for years."""
    tiny = TinyDataset(tmp_path / "brains").write()
    tiny.write_participants({"participant_id": ["B01"]})
    os.utime(tiny.scan("0020"), (4e9, 4e9))
    settings = settings_for(tmp_path, tmp_path / "store")

    assert f"sub-B01: {tiny.scan('0020')} is dated in the future, 2096-10-02" in bad_texts(settings)
    tiny.write_participants({"participant_id": ["B01"], "ingest": ["ready"]})
    assert "dated in the future" not in bad_texts(settings)


def test_every_file_that_is_not_used_is_mentioned(tmp_path):
    levels = {each.text: each.level for each in examine(spoiled(tmp_path))}

    def level_of(*words):
        return next(level for text, level in levels.items() if all(word in text for word in words))

    assert level_of("sub-B01", "2 of 3 sections usable") == "ok"
    assert level_of("section 0020: rejected", "_BF.czi", "no format that is read") == "bad"
    assert level_of("section 0030: flagged", "mask.nii.gz is not taken as its mask") == "note"
    assert level_of("sub-B01/micr/IMG_1.tif is passed over") == "note"
    assert level_of("folder 'sub-B 21'") == level_of("row 'a b'") == level_of("has 300 characters") == "bad"


def test_what_the_inventory_found_in_the_files_is_mentioned_until_they_change(tmp_path):
    tiny = TinyDataset(tmp_path / "brains").write()
    tifffile.imwrite(tiny.mask("0020"), ring() + 1, metadata=None)
    settings = settings_for(tmp_path, tmp_path / "store")
    SECTION_SCANS.run(settings, "B01")

    assert "section 0020: rejected" in bad_texts(settings)
    assert "mask_value" in bad_texts(settings)

    tifffile.imwrite(tiny.mask("0020"), ring(), metadata=None)
    assert "section 0020" not in bad_texts(settings)


ELSEWHERE = """
import os

os.umask(0o077)
from cytonet_pipeline.cli import app
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import SECTION_SCANS

SECTION_SCANS.run(Settings.from_environment(), "B01")
app(["doctor", "--store"])
"""


@pytest.mark.long
def test_odd_paths_a_link_a_strict_umask_no_home_and_the_locale_c_make_no_difference(small_brains, tmp_path):
    """A job on a cluster has no home, a shared disk is reached by a link, and folders are named as people name them."""
    brains = tmp_path / "Gehirne für später" / "µ 1"
    shutil.copytree(small_brains, brains, copy_function=os.link)
    (tmp_path / "Platte 2 é").mkdir()
    (tmp_path / "store [old]").symlink_to(tmp_path / "Platte 2 é", target_is_directory=True)
    settings = settings_for(brains, tmp_path / "store [old]")
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS") if name in os.environ}

    ran = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        env={**environment, **settings.environment(), "LC_ALL": "C"},
        cwd=PROJECT,
        capture_output=True,
        encoding="utf-8",
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{settings.store}: " in ran.stdout
    assert f"{settings.data}: 3 brains, 3 released" in ran.stdout
    directly = settings.model_copy(update={"store": settings.store.resolve()})
    assert SECTION_SCANS.is_current(directly, "B01")
    assert {path.stat().st_mode & 0o077 for path in directly.store.rglob("*")} == {0}


def test_transforms_are_read_before_a_run_and_their_faults_and_notes_listed(small_brains, tmp_path):
    """A field whose header places it twice is a note; a matrix of FSL is a fault of its brain alone."""
    brains = tmp_path / "world"
    shutil.copytree(small_brains, brains, copy_function=os.link)
    folders = brains / "brains/derivatives/registration"
    stems = [folders / f"sub-{name}/sub-{name}_from-brain_to-MNIColin27_mode-points_xfm" for name in ("B01", "B02")]
    for stem in stems:
        stem.with_name(stem.name + ".h5").unlink()
    image = nibabel.Nifti1Image(np.zeros((5, 5, 5, 1, 3), np.float32), np.diag([40.0, 40, 40, 1]))
    image.header.set_intent(1007)
    image.header.set_qform(np.diag([40.0, 40, 50, 1]), 1)
    image.header.set_sform(np.diag([40.0, 40, 40, 1]), 1)
    image.to_filename(f"{stems[0]}.nii.gz")
    stems[1].with_name(stems[1].name + ".mat").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")

    found = examine(settings_for(brains, tmp_path / "store"))

    notes = [each.text for each in found if each.level == "note" and "sform and qform" in each.text]
    assert [note.split(":")[0] for note in notes] == ["sub-B01"]
    faults = [each.text for each in found if each.bad]
    assert len(faults) == 1
    assert "sub-B02" in faults[0]
    assert "bare matrix" in faults[0]


def test_a_scan_that_leaves_open_which_image_it_is_is_found_before_anything_is_ingested(tmp_path):
    tiny = TinyDataset(tmp_path / "brains").write()
    with tifffile.TiffWriter(tiny.scan("0020")) as writer:
        for _ in range(2):
            writer.write(np.full((700, 600), 200, np.uint8), metadata=None)
    settings = settings_for(tmp_path, tmp_path / "store")

    texts = [each.text for each in examine(settings)]

    assert any("2 of 3 sections usable" in text for text in texts)
    assert any("section 0020: rejected" in text and "page" in text for text in texts)
