"""Writing a phantom: the same bytes each time, all or nothing, and never over something else."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cytonet_pipeline.errors import ConfigurationError, ReferenceSpaceError
from cytonet_pipeline.phantom import sections, write_phantom
from cytonet_pipeline_tests.phantom.conftest import SMALL


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.long
def test_the_same_seed_gives_the_same_bytes_in_another_process_and_minute(phantom, tmp_path):
    """NIfTI, TIFF, HDF5 and GIFTI all have room for a time of writing; Python's hash differs from run to run."""
    again = tmp_path / "again"
    write = (
        "from pathlib import Path; from cytonet_pipeline.phantom import write_phantom;"
        f"write_phantom(Path({str(again)!r}), **{SMALL!r})"
    )
    subprocess.run([sys.executable, "-c", write], check=True, env={**os.environ, "PYTHONHASHSEED": "7"})

    assert digests(again) == digests(phantom)


def test_the_same_parameters_leave_a_finished_phantom_alone(phantom):
    before = {path: path.stat().st_mtime_ns for path in phantom.rglob("*")}

    write_phantom(phantom, **SMALL)

    assert {path: path.stat().st_mtime_ns for path in phantom.rglob("*")} == before


def test_a_phantom_of_other_parameters_is_not_overwritten(phantom):
    before = digests(phantom)

    with pytest.raises(ConfigurationError, match="not a phantom of these parameters"):
        write_phantom(phantom, **{**SMALL, "seed": 4})

    assert digests(phantom) == before


@pytest.mark.parametrize("stamp", [None, "not JSON", "[]"])
def test_a_folder_with_something_else_in_it_is_refused(tmp_path, stamp):
    (tmp_path / "thesis.tex").write_text("years of work")
    if stamp is not None:
        (tmp_path / "phantom.json").write_text(stamp)

    with pytest.raises(ConfigurationError, match="not empty"):
        write_phantom(tmp_path, **SMALL)

    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_run_that_fails_half_way_leaves_nothing(template, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sections.Painter, "paint", fail)

    with pytest.raises(Exception, match="disk is full"):
        write_phantom(tmp_path / "half", **{**SMALL, "brains": ("B01",)}, reference=template)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [{"brains": ()}, {"brains": ("B01", "B01")}, {"brains": ("sub-B01",)}, {"sections": 0}, {"pixel_um": 100.0}],
)
def test_impossible_parameters_are_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(ConfigurationError):
        write_phantom(tmp_path / "new", **{**SMALL, **wrong})

    assert not (tmp_path / "new").exists()


def test_a_reference_space_that_lacks_a_surface_is_named(template, tmp_path):
    incomplete = tmp_path / "tpl"
    incomplete.mkdir()
    for path in template.iterdir():
        if "hemi-R_white" not in path.name:
            (incomplete / path.name).symlink_to(path)

    with pytest.raises(ReferenceSpaceError, match="hemi-R_white"):
        write_phantom(tmp_path / "new", **SMALL, reference=incomplete)


def test_a_given_reference_is_used_where_it_lies(template, phantom, tmp_path):
    """Painted from the synthetic space by hand: the same sections, and no second copy of the space."""
    write_phantom(tmp_path / "new", **{**SMALL, "brains": ("B20",)}, reference=template)

    assert not (tmp_path / "new" / "tpl-MNIColin27").exists()
    assert str(template) in (tmp_path / "new" / "brains" / "README").read_text()
    scans = {name: digest for name, digest in digests(tmp_path / "new" / "brains").items() if "_BF.tif" in name}
    assert len(scans) == SMALL["sections"]
    assert scans.items() <= digests(phantom / "brains").items()


def test_brains_can_be_painted_from_a_real_reference_space(shared_data, tmp_path):
    write_phantom(
        tmp_path / "new", brains=("B01",), sections=2, pixel_um=256.0, reference=shared_data / "tpl-MNIColin27"
    )

    names = (tmp_path / "new/brains/derivatives/annotation/desc-areas_dseg.tsv").read_text()
    assert "Area 4p (PreCG)" in names
    assert json.loads((tmp_path / "new/phantom.json").read_text())["sections"] == 2
