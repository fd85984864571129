"""Every kind of bad input is named with its file and a remedy, in the table and by a failed check; others go on.

One copy of the small brains is spoilt in many places at once: most sections of B01 and B02 have a fault of their own,
B20 is left as it is. A second copy has faults of whole brains.
"""

import json
import shutil

import dagster as dg
import nibabel
import numpy as np
import pandas as pd
import pytest
import tifffile

from cytonet_pipeline.definitions import build_defs
from cytonet_pipeline.store import Store, Verdict, read_table
from cytonet_pipeline_tests.conftest import settings_for

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("bad_input")]

FAULTS = {
    "mask": "B01",
    "empty": "B01",
    "singular": "B01",
    "size": "B01",
    "ids": "B01",
    "reflected": "B02",
    "tags": "B02",
    "outside": "B02",
    "contour": "B02",
}
REJECTED = {"mask", "empty", "singular", "reflected", "outside", "contour"}


class Spoilt:
    """The store after the runs, which section has which fault, and what Dagster's checks found."""

    def __init__(self, store, samples, checks):
        self.store, self.samples, self.checks = store, samples, checks

    def rows(self, brain):
        path = self.store.section_scans(brain) / "sections.parquet"
        return read_table(path, "section_scans").set_index("sample")

    def row(self, fault):
        return self.rows(FAULTS[fault]).loc[self.samples[fault]]


class Files:
    """Where the files of a section lie."""

    def __init__(self, root, brain, sample):
        self.root, self.brain, self.sample = root, brain, sample
        stem = f"sub-{brain}/micr/sub-{brain}_sample-{sample}"
        self.scan = root / f"{stem}_stain-merker_BF.tif"
        self.mask = root / f"derivatives/segmentation/{stem}_desc-cortex_mask.tif"
        self.annotation = root / f"derivatives/annotation/{stem}_desc-areas_dseg.tif"
        self.matrices = matrices_of(root, brain)


def matrices_of(root, brain):
    return root / f"derivatives/registration/sub-{brain}/sub-{brain}_from-scan_to-brain_mode-points_xfm.tsv"


@pytest.fixture(scope="module")
def spoilt(small_brains, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad_input")
    shutil.copytree(small_brains, folder / "phantom")
    samples = {}
    for fault, brain in FAULTS.items():
        root = folder / "phantom/brains"
        names = sorted(path.name.split("_")[1] for path in (root / f"sub-{brain}/micr").glob("*.tif"))
        number = [other for other, its in FAULTS.items() if its == brain].index(fault)
        samples[fault] = names[number + 1].removeprefix("sample-")
        globals()[f"spoil_{fault}"](Files(root, brain, samples[fault]))
    selection = [dg.AssetKey("section_scans")]
    return taken_in(folder / "phantom", folder / "store", samples, selection=selection)


def taken_in(brains, store, samples, names=("B01", "B02", "B20"), selection=None):
    settings = settings_for(brains, store)
    defs = build_defs({"settings": settings})
    checks = {}
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("brain", list(names))
        if selection is None:
            assert defs.resolve_job_def("reference").execute_in_process(instance=instance).success
        for brain in names:
            result = defs.resolve_job_def("ingest_brain").execute_in_process(
                instance=instance, partition_key=brain, raise_on_error=False, asset_selection=selection
            )
            assert result.success, "a data fault must not fail a run"
            checks[brain] = {e.asset_check_key.name: e for e in result.get_asset_check_evaluations()}
    return Spoilt(Store(settings.store), samples, checks)


def change_matrices(path, change, sample=None):
    """Change the rows of a table of matrices, or one row of it."""
    table = pd.read_csv(path, sep="\t", dtype={"sample_id": str})
    at = slice(None) if sample is None else table["sample_id"] == f"sample-{sample}"
    table.loc[at] = change(table.loc[at].copy())
    table.to_csv(path, sep="\t", index=False)


def spoil_mask(files):
    labels = tifffile.imread(files.mask)
    tifffile.imwrite(files.mask, labels[:, : labels.shape[1] // 2])


def spoil_empty(files):
    tifffile.imwrite(files.mask, tifffile.imread(files.mask) * 0)


def spoil_singular(files):
    parallel = {"m01": "m00", "m11": "m10", "m21": "m20"}
    change_matrices(files.matrices, lambda r: r.assign(**{a: r[b] for a, b in parallel.items()}), files.sample)


def spoil_reflected(files):
    names = ("m00", "m10", "m20")
    change_matrices(files.matrices, lambda row: row.assign(**{name: -row[name] for name in names}), files.sample)


def spoil_size(files):
    path = files.scan.with_suffix(".json")
    sidecar = json.loads(path.read_text())
    path.write_text(json.dumps(sidecar | {"PixelSize": [size * 1.02 for size in sidecar["PixelSize"]]}))


def spoil_tags(files):
    """OME metadata and sidecar agree, the resolution tags say something else."""
    ome = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
    pixels = tifffile.imread(files.scan)
    ome += f'SizeX="{pixels.shape[1]}" SizeY="{pixels.shape[0]}" '
    ome += 'PhysicalSizeX="128" PhysicalSizeY="128" PhysicalSizeXUnit="µm" PhysicalSizeYUnit="µm"/></Image></OME>'
    tags = {"resolution": (76.0, 76.0), "resolutionunit": "CENTIMETER", "tile": (256, 256)}
    tifffile.imwrite(files.scan, pixels, description=ome.encode(), metadata=None, **tags)


def spoil_ids(files):
    files.annotation.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(files.annotation, (tifffile.imread(files.mask) > 0) * np.uint16(999))


def spoil_outside(files):
    """A section table that names a file outside the data set and the allowed roots."""
    rows = []
    for path in sorted(files.scan.parent.glob("*.tif")):
        name = path.name.split("_")[1].removeprefix("sample-")
        scan = "/etc/hostname" if name == files.sample else path.relative_to(files.root).as_posix()
        rows.append({"sample_id": name, "scan": scan})
    table = files.root / f"derivatives/sections/sub-{files.brain}/sub-{files.brain}_sections.tsv"
    table.parent.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(table, sep="\t", index=False)


def spoil_contour(files):
    files.annotation.unlink(missing_ok=True)
    line = {"type": "LineString", "coordinates": [[1, 1], [2, 2]]}
    feature = {"type": "Feature", "geometry": line, "properties": {"index": 1}}
    files.annotation.with_suffix(".geojson").write_text(json.dumps({"features": [feature]}))


SAID = {
    "mask": ("desc-cortex_mask.tif", "proportions", "give the image of this section"),
    "empty": ("desc-cortex_mask.tif", "the mask is empty", "draw it, or leave it out"),
    "singular": ("from-scan_to-brain_mode-points_xfm.tsv", "singular", "correct the row"),
    "reflected": ("from-scan_to-brain_mode-points_xfm.tsv", "reflected", "correct the row"),
    "size": ("BF.tif", "µm a pixel, sidecar or table 130.56", "correct the wrong one"),
    "tags": ("BF.tif", "resolution tags", "correct the wrong one"),
    "ids": ("desc-areas_dseg.tif", "999", "add them to the table"),
    "outside": ("/etc/hostname", "outside the data set and the allowed roots", "allowed_roots"),
    "contour": ("desc-areas_dseg.geojson", "feature 1: is a LineString", "close the line"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_with_its_file_and_a_remedy(spoilt, fault):
    row = spoilt.row(fault)

    assert row["status"] == ("rejected" if fault in REJECTED else "flagged")
    for text in SAID[fault]:
        assert text in row["reason"]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_fails_the_check_as_an_error_that_blocks_nothing(spoilt, fault):
    evaluation = spoilt.checks[FAULTS[fault]]["scans_are_sound"]

    assert not evaluation.passed
    assert evaluation.severity == dg.AssetCheckSeverity.ERROR
    assert f"section {spoilt.samples[fault]}: " in evaluation.description
    assert SAID[fault][1] in evaluation.description


@pytest.mark.parametrize("brain", ["B01", "B02"])
def test_the_other_sections_of_a_brain_are_untouched(spoilt, brain):
    rows, faults = spoilt.rows(brain), [fault for fault, its in FAULTS.items() if its == brain]
    others = rows[~rows.index.isin([spoilt.samples[fault] for fault in faults])]

    assert len(others) == 6 - len(faults)
    assert (others["status"] == "ok").all()
    verdict = Verdict.read(spoilt.store.section_scans(brain))
    assert verdict.ok
    assert len(verdict.reasons) == len(faults)


def test_another_brain_is_untouched(spoilt):
    assert (spoilt.rows("B20")["status"] == "ok").all()
    assert Verdict.read(spoilt.store.section_scans("B20")).reasons == ()
    assert all(evaluation.passed for evaluation in spoilt.checks["B20"].values())


@pytest.fixture(scope="module")
def misplaced(small_brains, tmp_path_factory):
    """B01 has a displacement field with a hole, B02 lies half a metre outside the template; an area is listed twice."""
    folder = tmp_path_factory.mktemp("misplaced")
    shutil.copytree(small_brains, folder / "phantom")
    root = folder / "phantom/brains"
    areas = root / "derivatives/annotation/desc-areas_dseg.tsv"
    areas.write_text(areas.read_text() + areas.read_text().splitlines()[1] + "\n")
    far = ["m03", "m13", "m23"]
    change_matrices(matrices_of(root, "B02"), lambda rows: rows.assign(**{name: rows[name] + 500.0 for name in far}))
    for path in (root / "derivatives/registration/sub-B01").glob("*MNIColin27*"):
        path.unlink()
    values = np.zeros((4, 4, 4, 1, 3), np.float32)
    values[1, 2, 3] = np.nan
    field = nibabel.Nifti1Image(values, np.diag([40, 40, 40, 1.0]))
    field.header.set_intent("vector")
    stem = "sub-B01_from-brain_to-MNIColin27_mode-points_xfm.nii.gz"
    nibabel.save(field, root / "derivatives/registration/sub-B01" / stem)
    return taken_in(folder / "phantom", folder / "store", {}, names=("B01", "B02"))


@pytest.mark.parametrize(
    ("brain", "texts"),
    [
        # The NIfTI library under ITK reads NaN as 0: a displacement like any other.
        ("B01", ("sub-B01_from-brain_to-MNIColin27_mode-points_xfm.nii.gz", "not numbers", "to fix")),
        ("B02", ("sub-B02", "outside the template", "to fix")),
    ],
)
def test_a_brain_that_is_misplaced_fails_its_check_by_name(misplaced, brain, texts):
    evaluation = misplaced.checks[brain]["transforms_fit"]

    assert not evaluation.passed
    assert evaluation.severity == dg.AssetCheckSeverity.ERROR
    for text in texts:
        assert text in evaluation.description
    assert Verdict.read(misplaced.store.section_scans(brain)).ok
    assert Verdict.read(misplaced.store.colin27_transforms(brain)).status == "failed"
    assert not Verdict.read(misplaced.store.patch_index(brain)).ok


@pytest.mark.parametrize("brain", ["B01", "B02"])
def test_a_faulty_table_of_areas_fails_the_check_of_every_brain_and_stops_none(misplaced, brain):
    evaluation = misplaced.checks[brain]["scans_are_sound"]

    assert not evaluation.passed
    for text in ("desc-areas_dseg.tsv", "stands there twice", "number each area once"):
        assert text in evaluation.description
    assert Verdict.read(misplaced.store.section_scans(brain)).ok
