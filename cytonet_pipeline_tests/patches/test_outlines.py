"""Outlines of masks, for the picture of a chain."""

import numpy as np
import pandas as pd
import tifffile

from cytonet_pipeline.dataset import Brain, Section
from cytonet_pipeline.patches.outlines import cortex_outlines
from cytonet_pipeline.registration import Affine, BrainChain, SectionPlacement


def test_an_outline_runs_along_the_border_of_the_mask(tmp_path):
    """A disk of 8 mm about the middle of a scan of 40 × 20 mm, on masks of two resolutions."""
    sections, placements, rows = [], {}, []
    for number, factor in enumerate((4, 20)):
        sample = f"{number:04d}"
        y, x = (np.indices((20 * factor, 40 * factor)) + 0.5) / factor
        mask = ((x - 20) ** 2 + (y - 10) ** 2 < 64).astype(np.uint8)
        tifffile.imwrite(tmp_path / f"{sample}.tif", mask)
        sections.append(Section("B07", sample, number, None, mask=tmp_path / f"{sample}.tif", pixel_um=100.0))
        placements[sample] = SectionPlacement(
            sample, np.array([[1.0, 0, 0, -20], [0, 0, 0, 5.0 * number], [0, -1, 0, 10]])
        )
        rows.append({"sample": sample, "section": number, "width_px": 400, "height_px": 200, "pixel_um": 100.0})
    table = pd.DataFrame(rows).assign(
        status="ok", mask_path="m.tif", annotation_path=None, mask_digest="d", annotation_digest=None
    )
    chain = BrainChain("B07", placements, Affine(np.eye(4)), Affine(np.eye(4)))

    outlines = cortex_outlines(Brain("B07", tmp_path, tuple(sections)), table, chain)

    assert list(outlines) == ["0000", "0001"]
    for number, lines in enumerate(outlines.values()):
        assert len(lines) == 1
        assert (lines[0][:, 1] == 5.0 * number).all()
        assert np.abs(np.hypot(lines[0][:, 0], lines[0][:, 2]) - 8).max() < 0.3
        np.testing.assert_array_equal(lines[0][0], lines[0][-1])
