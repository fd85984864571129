"""`cytonet map`: points in both directions, and messages about files that it cannot use."""

import io

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from typer.testing import CliRunner

from cytonet_pipeline.cli.app import app
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.registration import load_plane_transform

STEM = "derivatives/registration/sub-B07/sub-B07"
PIXEL_MM = 0.1


@pytest.fixture
def brains(tmp_path, monkeypatch):
    """One brain of two sections, with an affine and a displacement field to the reference; the second is warped."""
    root = tmp_path / "brains"
    (root / "sub-B07/micr").mkdir(parents=True)
    (root / STEM).parent.mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "two sections", "BIDSVersion": "1.9.0"}')
    for sample in ("0010", "0020"):
        scan = root / f"sub-B07/micr/sub-B07_sample-{sample}_stain-merker_BF"
        tifffile.imwrite(scan.with_suffix(".tif"), np.full((64, 80), 200, np.uint8))
        scan.with_suffix(".json").write_text('{"PixelSize": [100, 100], "PixelSizeUnits": "um"}')
    rows = ["sample_id\t" + "\t".join(f"m{r}{c}" for r in range(3) for c in range(4)) + "\twarp"]
    for sample, y_mm, warp in (("0010", 5, "n/a"), ("0020", 15, "turn.tfm")):
        rows.append("\t".join(map(str, [f"sample-{sample}", 1, 0, 0, -40, 0, 0, -1, y_mm, 0, -1, 0, 30, warp])))
    (root / f"{STEM}_from-scan_to-brain_mode-points_xfm.tsv").write_text("\n".join(rows) + "\n")
    sitk.WriteTransform(sitk.Euler2DTransform((4, 3), 0.05, (0.5, -0.5)), str((root / STEM).parent / "turn.tfm"))
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(0, 1, (8, 8, 8, 3)), isVector=True)
    image.SetSpacing((20.0, 20.0, 20.0))
    image.SetOrigin((-70.0, -70.0, -70.0))
    field = sitk.DisplacementFieldTransform(sitk.Cast(image, sitk.sitkVectorFloat64))
    affine = sitk.AffineTransform([1.1, 0, 0, 0, 0.9, 0.1, 0, 0, 1], [1, 2, 3])
    path = root / f"{STEM}_from-brain_to-MNIColin27_mode-points_xfm.h5"
    sitk.WriteTransform(sitk.CompositeTransform([affine, field]), str(path))
    monkeypatch.setenv("CYTONET_DATA", str(root))
    monkeypatch.setenv("CYTONET_STORE", str(tmp_path / "store"))
    return root


def mapped(*arguments):
    result = CliRunner().invoke(app, ["map", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return pd.read_csv(io.StringIO(result.stdout), sep="\t", dtype={"sample": str})


def refused(*arguments):
    result = CliRunner().invoke(app, ["map", *map(str, arguments)])
    assert isinstance(result.exception, CytonetError), result.output
    return str(result.exception)


def test_points_of_the_brain_go_to_the_reference_and_back(brains, tmp_path):
    points = pd.DataFrame(np.random.default_rng(0).uniform(-40, 40, (200, 3)), columns=["x_mm", "y_mm", "z_mm"])
    points.insert(0, "name", [f"p{i}" for i in range(200)])
    points.round(4).to_csv(tmp_path / "points.tsv", sep="\t", index=False)

    there = mapped("sub-B07", tmp_path / "points.tsv", "--to", "MNIColin27")
    there.to_csv(tmp_path / "there.tsv", sep="\t", index=False)
    back = mapped("B07", tmp_path / "there.tsv", "--to", "brain")

    theirs = sitk.ReadTransform(str(brains / f"{STEM}_from-brain_to-MNIColin27_mode-points_xfm.h5"))
    lps = np.array([-1.0, -1.0, 1.0])
    xyz = points[["x_mm", "y_mm", "z_mm"]].round(4).to_numpy()
    expected = np.array([theirs.TransformPoint(p) for p in (xyz * lps).tolist()]) * lps
    assert list(there["name"]) == list(points["name"])
    assert np.abs(there[["x_mm", "y_mm", "z_mm"]].to_numpy() - expected).max() < 1e-3
    assert np.abs(back[["x_mm", "y_mm", "z_mm"]].to_numpy() - xyz).max() < 1e-2


def test_pixels_of_scans_go_to_the_brain_and_on_to_the_reference(brains, tmp_path):
    """Before anything was ingested: the store is empty."""
    scan = pd.DataFrame({"sample": ["0010", "sample-0020"], "x_px": [10.0, 60.5], "y_px": [20.0, 5.0]})
    scan.to_csv(tmp_path / "scan.tsv", sep="\t", index=False)

    in_brain = mapped("B07", tmp_path / "scan.tsv", "--to", "brain")
    in_reference = mapped("B07", tmp_path / "scan.tsv")
    in_brain[["x_mm", "y_mm", "z_mm"]].to_csv(tmp_path / "brain.tsv", sep="\t", index=False)

    xy = scan[["x_px", "y_px"]].to_numpy() * PIXEL_MM
    xy[1] = load_plane_transform((brains / STEM).parent / "turn.tfm")(xy[1:])[0]
    expected = np.column_stack([xy[:, 0] - 40, [5.0, 15.0], 30 - xy[:, 1]])
    np.testing.assert_allclose(in_brain[["x_mm", "y_mm", "z_mm"]], expected, atol=1e-4)
    onward = mapped("B07", tmp_path / "brain.tsv")
    np.testing.assert_allclose(in_reference[["x_mm", "y_mm", "z_mm"]], onward, atol=1e-3)


def test_a_point_without_a_place_stays_in_its_line_and_is_counted(brains, tmp_path):
    (tmp_path / "p.tsv").write_text("x_mm\ty_mm\tz_mm\n1\t2\t3\nn/a\t2\t3\n")

    result = CliRunner().invoke(app, ["map", "B07", str(tmp_path / "p.tsv"), "--out", str(tmp_path / "out.tsv")])

    assert result.exit_code == 0
    assert "1 of 2 points have no image there" in result.stderr
    assert (tmp_path / "out.tsv").read_text().splitlines()[2] == "n/a\tn/a\tn/a"


@pytest.mark.parametrize("target", ["MNIColin27", "brain"])
def test_points_far_outside_the_brain_are_mapped_and_counted(brains, small_brains, tmp_path, monkeypatch, target):
    """Beyond its field a registration has its affine left, and nobody has registered anything there."""
    (tmp_path / "p.tsv").write_text("x_mm\ty_mm\tz_mm\n1\t2\t3\n500\t500\t500\n")
    monkeypatch.setenv("CYTONET_REFERENCE", str(small_brains / "tpl-MNIColin27"))

    result = CliRunner().invoke(app, ["map", "B07", str(tmp_path / "p.tsv"), "--to", target])

    assert "n/a" not in result.stdout
    assert "1 of 2 points lie outside of the volume of Colin-27" in result.stderr

    monkeypatch.setenv("CYTONET_REFERENCE", str(tmp_path / "nowhere"))
    unchecked = CliRunner().invoke(app, ["map", "B07", str(tmp_path / "p.tsv"), "--to", target])
    assert unchecked.stdout == result.stdout
    assert "was not checked" in unchecked.stderr


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "the file is empty"),
        ("x_mm\ty_mm\tz_mm\n", "has no point"),
        ("x\ty\tz\n1\t2\t3\n", "needs the columns x_mm y_mm z_mm, or sample x_px y_px; it has x y z"),
        ("x_mm,y_mm,z_mm\n1,2,3\n", "needs the columns"),
        ("x_mm\ty_mm\tz_mm\n1\t2\t3\n1\ttwo\t3\n", "column y_mm holds 'two' in line 3"),
        ("sample\tx_px\ty_px\n0099\t1\t1\n", "no usable section 0099"),
        ("sample\tx_px\ty_px\n0010\t1\t1\n\t1\t1\n", "line 3 names no sample"),
        ("sample\tx_px\ty_px\tx_mm\ty_mm\tz_mm\n0010\t1\t1\t1\t1\t1\n", "it is unclear which is meant"),
    ],
)
def test_a_table_that_cannot_be_mapped_is_refused_with_a_remedy(brains, tmp_path, content, expected):
    (tmp_path / "points.tsv").write_text(content)

    message = refused("B07", tmp_path / "points.tsv")

    assert expected in message
    assert "to fix" in message


def test_unknown_spaces_brains_and_files_are_named(brains, tmp_path):
    (tmp_path / "points.tsv").write_text("x_mm\ty_mm\tz_mm\n1\t2\t3\n")

    assert "--to Talairach: no such space" in refused("B07", tmp_path / "points.tsv", "--to", "Talairach")
    assert "no brain B99; it has B07" in refused("B99", tmp_path / "points.tsv")
    assert "gone.tsv: not a readable TSV" in refused("B07", tmp_path / "gone.tsv")


def test_a_real_brain_with_warps_goes_there_and_back(shared_data, tmp_path, monkeypatch):
    monkeypatch.setenv("CYTONET_DATA", str(shared_data / "colin27-brains"))
    scan = pd.DataFrame({"sample": ["7514", "1786"], "x_px": [900, 1200], "y_px": [800, 1000]})
    scan.to_csv(tmp_path / "scan.tsv", sep="\t", index=False)

    in_brain = mapped("B02", tmp_path / "scan.tsv", "--to", "brain")
    there = mapped("B02", tmp_path / "scan.tsv")[["x_mm", "y_mm", "z_mm"]]
    there.to_csv(tmp_path / "there.tsv", sep="\t", index=False)
    back = mapped("B02", tmp_path / "there.tsv", "--to", "brain")

    np.testing.assert_allclose(back, in_brain[["x_mm", "y_mm", "z_mm"]], atol=1e-2)
