"""The data set obeys BIDS and the input contract, by the judgement of programs that did not write it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK
import tifffile

from cytonet_pipeline.phantom.deform import Bend
from cytonet_pipeline.phantom.draws import stream
from cytonet_pipeline_tests.phantom.conftest import SMALL


def test_the_bids_validator_finds_no_error(brains):
    validator = Path(sys.executable).with_name("bids-validator-deno")
    if not validator.exists():
        pytest.skip("bids-validator-deno is not installed")

    ran = subprocess.run([validator, brains, "--format", "json"], capture_output=True, text=True, check=False)

    report = json.loads(ran.stdout)
    errors = [issue for issue in report["issues"]["issues"] if issue.get("severity") == "error"]
    assert errors == []
    assert report["summary"]["totalFiles"] > 8
    assert set(report["summary"]["modalities"]) == {"micr"}


def test_everything_says_that_it_is_synthetic(brains, template):
    assert "synthetic" in json.loads((brains / "dataset_description.json").read_text())["Name"].lower()
    assert json.loads((template / "template_description.json").read_text())["Synthetic"] is True
    assert "No tissue was ever cut" in (brains / "README").read_text()


def test_scans_are_tiled_pyramids_in_subifds_with_their_pixel_size(brains):
    for path in brains.glob("sub-*/micr/*_BF.tif"):
        sidecar = json.loads(path.with_suffix(".json").read_text())
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            assert file.is_bigtiff
            assert page.is_tiled
            assert page.dtype == np.uint8
            assert len(page.subifds) == 2
            heights = [level.shape[0] for level in file.series[0].levels]
            assert heights == [heights[0], heights[0] // 2, heights[0] // 4]
            pixel_um = 1e4 * page.tags["XResolution"].value[1] / page.tags["XResolution"].value[0]
        assert sidecar["PixelSize"] == [pytest.approx(pixel_um)] * 2 == [128.0, 128.0]


def test_two_thirds_of_the_sections_are_annotated_within_their_cortex(brains):
    names = pd.read_csv(brains / "derivatives/annotation/desc-areas_dseg.tsv", sep="\t")
    masks = sorted(brains.glob("derivatives/segmentation/sub-*/micr/*_mask.tif"))
    annotations = sorted(brains.glob("derivatives/annotation/sub-*/micr/*_dseg.tif"))
    assert len(masks) == len(SMALL["brains"]) * SMALL["sections"]
    assert len(annotations) == len(masks) * 2 // 3  # of every three sections the second is not

    for path in annotations:
        labels = tifffile.imread(path)
        mask = tifffile.imread(
            brains
            / "derivatives/segmentation"
            / path.parent.relative_to(brains / "derivatives/annotation")
            / path.name.replace("desc-areas_dseg", "desc-cortex_mask")
        )
        assert labels.shape == mask.shape
        assert set(np.unique(labels)) <= {0, *names["index"]}
        assert (mask[labels > 0] == 255).all()
        assert (labels > 0).sum() > 0.8 * (mask > 0).sum()


def test_masks_and_annotations_cover_the_field_of_view_of_their_scan(brains):
    for mask in brains.glob("derivatives/segmentation/sub-*/micr/*_mask.tif"):
        subject, sample = mask.name.split("_")[:2]
        scan = brains / subject / "micr" / f"{subject}_{sample}_stain-merker_BF.tif"
        assert tifffile.TiffFile(scan).pages[0].shape == tuple(2 * n for n in tifffile.imread(mask).shape)


def test_cortex_is_darker_than_white_matter_and_glass(brains):
    for mask_path in brains.glob("derivatives/segmentation/sub-*/micr/*_mask.tif"):
        subject, sample = mask_path.name.split("_")[:2]
        scan = tifffile.imread(brains / subject / "micr" / f"{subject}_{sample}_stain-merker_BF.tif")
        cortex = np.kron(tifffile.imread(mask_path), np.ones((2, 2))) > 0
        assert scan[cortex].mean() < np.median(scan) - 10


def test_itk_maps_points_as_the_painter_does(brains, reference):
    """ITK reads LPS, wants its own order of transforms and interpolates itself: an independent check of all three."""
    extent = reference.extent_mm()
    bend = Bend.draw(stream(SMALL["seed"], "B20", "bend"), extent)
    points = stream(0, "test").uniform(*extent, size=(200, 3))
    flip = np.array([-1.0, -1.0, 1.0])
    transform = SimpleITK.ReadTransform(
        str(brains / "derivatives/registration/sub-B20/sub-B20_from-brain_to-MNIColin27_mode-points_xfm.h5")
    )

    by_itk = np.array([transform.TransformPoint((p * flip).tolist()) for p in points]) * flip

    np.testing.assert_allclose(by_itk, bend(points), atol=1e-4)
    assert np.linalg.norm(by_itk - points, axis=1).max() > 3


def test_the_given_inverse_leads_back(brains, reference):
    folder = brains / "derivatives/registration/sub-B20"
    forth, back = (
        SimpleITK.ReadTransform(str(folder / f"sub-B20_from-{way}_mode-points_xfm.h5"))
        for way in ("brain_to-MNIColin27", "MNIColin27_to-brain")
    )
    points = reference.pial.points_mm[::2000] * (-1, -1, 1)

    returned = np.array([forth.TransformPoint(back.TransformPoint(p.tolist())) for p in points])

    assert np.linalg.norm(returned - points, axis=1).max() < 0.3
    assert not list((folder.parent / "sub-B01").glob("*from-MNIColin27*"))


def test_masks_lie_on_the_cortex_of_the_reference(brains, reference):
    """From the pixel of a mask through matrix and transform into the atlas: everything must fit together."""
    for brain in ("B01", "B20"):
        folder = brains / f"derivatives/registration/sub-{brain}"
        matrices = pd.read_csv(folder / f"sub-{brain}_from-scan_to-brain_mode-points_xfm.tsv", sep="\t", index_col=0)
        bend = Bend.draw(stream(SMALL["seed"], brain, "bend"), reference.extent_mm())
        for sample, row in matrices.iterrows():
            mask = tifffile.imread(
                brains / f"derivatives/segmentation/sub-{brain}/micr/sub-{brain}_{sample}_desc-cortex_mask.tif"
            )
            rows, columns = np.nonzero(mask)
            xy = np.stack([columns + 0.5, rows + 0.5], axis=1)[::50] * 0.256
            matrix = row.to_numpy(float).reshape(3, 4)
            found = reference.atlas_at(bend(xy @ matrix[:, :2].T + matrix[:, 3]))
            assert (found > 0).mean() > 0.97
