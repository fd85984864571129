"""Points of annotations, by which left and right are judged."""

import numpy as np
import pandas as pd
import pytest
import tifffile

from cytonet_pipeline.dataset import Brain, Section
from cytonet_pipeline.patches.quality_points import annotated_points
from cytonet_pipeline.registration import Affine, BrainChain, SectionPlacement


@pytest.fixture
def annotated_brain(tmp_path):
    """Two sections of 40 × 20 mm; in the first the left half of the image is area 3, in the second nothing."""
    sections, placements, rows = [], {}, []
    for number, sample in enumerate(("0001", "0002")):
        annotation = tmp_path / f"{sample}.tif"
        labels = np.zeros((20, 40), dtype=np.uint16)
        labels[:, :20] = 3 if sample == "0001" else 0
        tifffile.imwrite(annotation, labels)
        sections.append(Section("B07", sample, number, None, annotation=annotation, pixel_um=100.0))
        matrix = np.array([[1.0, 0, 0, -20], [0, 0, 0, 5.0 * number], [0, -1, 0, 10]])
        placements[sample] = SectionPlacement(sample, matrix)
        rows.append({"sample": sample, "section": number, "width_px": 400, "height_px": 200, "pixel_um": 100.0})
    table = pd.DataFrame(rows).assign(
        status="ok", mask_path=None, annotation_path="a.tif", mask_digest=None, annotation_digest="d"
    )
    chain = BrainChain("B07", placements, Affine(np.eye(4)), Affine(np.eye(4)))
    return Brain("B07", tmp_path, tuple(sections)), table, chain


def test_points_lie_where_something_was_annotated(annotated_brain):
    sampled = annotated_points(*annotated_brain, n=400)

    assert len(sampled.areas) == 200
    assert set(sampled.areas) == {3}
    assert (sampled.points_mm[:, 0] < 0).all()
    assert (sampled.points_mm[:, 1] == 0).all()
    assert set(sampled.hemispheres) == {""}


def test_a_table_of_areas_may_distinguish_left_and_right(annotated_brain):
    brain = annotated_brain[0]
    (brain.root / "derivatives/annotation").mkdir(parents=True)
    (brain.root / "derivatives/annotation/desc-areas_dseg.tsv").write_text("index\tname\themisphere\n3\thOc1\tL\n")

    assert set(annotated_points(*annotated_brain, n=50).hemispheres) == {"L"}


def test_an_index_that_is_not_a_number_does_not_affect_the_other_areas(annotated_brain):
    brain = annotated_brain[0]
    (brain.root / "derivatives/annotation").mkdir(parents=True)
    table = brain.root / "derivatives/annotation/desc-areas_dseg.tsv"
    table.write_text("index\tname\themisphere\n3\thOc1\tL\nx\thOc2\tR\nn/a\thOc3\tR\n")

    assert set(annotated_points(*annotated_brain, n=50).hemispheres) == {"L"}


def test_a_broken_annotation_is_skipped(annotated_brain):
    annotated_brain[0].sections[0].annotation.write_bytes(b"not an image")

    assert len(annotated_points(*annotated_brain, n=50).areas) == 0
