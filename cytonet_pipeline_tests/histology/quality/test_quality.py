"""Each fault planted into real sections is named, and hardly any untouched section is."""

import io
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.histology import gaps, open_scan, survey, take_inventory
from cytonet_pipeline.histology.inventory.outliers import expected_from_neighbours
from cytonet_pipeline.histology.quality.damage import measure_damage
from cytonet_pipeline.histology.quality.measures import measure_quality
from cytonet_pipeline.histology.quality.overview import Overview
from cytonet_pipeline.histology.quality.picture_hash import hash_distances, picture_hash
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline_tests.histology.inventory.serial import (
    Serial,
    blurred,
    clipped,
    slide_of,
    stained,
    torn_off,
    with_line,
)

PLANTED = {
    "0365": ("blurred", blurred),
    "0372": ("overstained", lambda p: stained(p, 3.0)),
    "0380": ("saturated", clipped),
    "0395": ("folded", lambda p: with_line(p, slide_of(p) / 4, 3.5)),
    "0400": ("torn", lambda p: with_line(p, slide_of(p), 6.0)),
    "0408": ("tissue missing", torn_off),
}


def findings(root, brain, **options):
    block = DatasetBlock(density_per_mm3=1, held_out=brain, **options)
    rows = survey(Dataset(root, block).brain(brain), block).set_index("sample")
    return rows, {sample: names.split(", ") for sample, names in rows["findings"].items() if names}


@pytest.fixture(scope="module")
def serial(shared_data, tmp_path_factory):
    return Serial(shared_data / "nissl_mouse_serial", tmp_path_factory.mktemp("serial") / "brains")


def test_hardly_any_section_of_a_real_series_is_named(serial):
    """Section 388 was resampled before it was published, and is softer than any other."""
    rows, found = findings(serial.root, "M01", stain="nissl")

    assert found == {"0388": ["blurred"]}
    assert len(rows) == 67
    assert gaps(rows.reset_index()) == ["gap of 0.08 mm before section 0424 (usual: 0.02 mm)."]


def test_each_planted_fault_is_named_and_no_neighbour_of_it(shared_data, tmp_path):
    serial = Serial(shared_data / "nissl_mouse_serial", tmp_path / "brains")
    for sample, (_, spoil) in PLANTED.items():
        serial.write(sample, spoil(serial.pictures[sample]))
    serial.write("0384", np.asarray(Image.open(io.BytesIO(as_jpeg(serial.pictures["0413"])))))

    rows, found = findings(serial.root, "M01", stain="nissl")

    for sample, (name, _) in PLANTED.items():
        assert name in found[sample], (sample, found.get(sample))
        assert rows.loc[sample, "status"] == "flagged"
        assert name.split()[0] in rows.loc[sample, "reason"]
    assert found["0384"] == found["0413"] == ["duplicate"]
    assert "0413" in rows.loc["0384", "reason"]
    assert set(found) - set(PLANTED) - {"0384", "0413"} <= {"0388"}


def as_jpeg(picture):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="JPEG", quality=92)
    return stream.getvalue()


def test_faults_in_sparse_sections_of_human_anatomy_are_named(shared_data, tmp_path):
    """Twelve sections 12.7 mm apart: neighbours predict area and sulci badly, focus and stain well."""
    block = DatasetBlock(density_per_mm3=1, held_out="B20")
    brain = Dataset(shared_data / "colin27-brains", block).brain("B02")
    spoilt = {
        "2423": ("blurred", blurred),
        "4968": ("overstained", lambda p: stained(p, 1.6)),
        "7514": ("saturated", clipped),
        "3059": ("folded", lambda p: with_line(p, 60, 24)),
    }
    sections = []
    for section in brain.sections:
        if section.sample in spoilt:
            path = tmp_path / f"{section.sample}.tif"
            tifffile.imwrite(path, spoilt[section.sample][1](tifffile.imread(section.scan)), tile=(256, 256))
            section = replace(section, scan=path, mask=None, annotation=None)
        sections.append(section)

    rows = take_inventory(replace(brain, sections=tuple(sections)), block).rows.set_index("sample")

    found = {sample: names.split(", ") for sample, names in rows["findings"].items() if names}
    assert set(found) == set(spoilt)
    for sample, (name, _) in spoilt.items():
        assert name in found[sample]


def overview(picture, background=240):
    return Overview(picture.astype(np.uint8), background, 1.0, 1.0)


def disc(light=240, tissue=140, edge=200):
    y, x = np.mgrid[:edge, :edge] - edge / 2
    return np.where(np.hypot(x, y) < 0.4 * edge, tissue, light)


@pytest.mark.parametrize("angle", [0, 30, 45, 77, 90, 140])
def test_a_line_is_seen_in_any_direction(angle):
    y, x = np.mgrid[:200, :200] - 100
    across = x * np.sin(np.radians(angle)) - y * np.cos(np.radians(angle))
    line = (np.abs(across) < 1.5) & (np.hypot(x, y) < 60)

    plain = measure_damage(overview(disc()))
    folded = measure_damage(overview(np.where(line, 50, disc())))
    torn = measure_damage(overview(np.where(line, 240, disc())))

    assert folded.folds > plain.folds + 0.5
    assert max(torn.tears, torn.wide_tears) > 0.01
    assert folded.tears == plain.tears == plain.wide_tears == 0


def test_the_staining_is_the_optical_density():
    view = overview(disc(light=240, tissue=24))

    assert np.median(view.density[view.tissue]) == pytest.approx(1.0)


def test_a_copy_has_nearly_the_same_hash_and_another_picture_differs_in_half_of_it():
    rng = np.random.default_rng(0)
    cells = np.kron(rng.integers(60, 200, (25, 25)), np.ones((8, 8)))
    other = np.kron(rng.integers(60, 200, (25, 25)), np.ones((8, 8)))
    tissue = disc() < 200
    picture, another = (np.where(tissue, c, 240) for c in (cells, other))
    moved = np.full_like(picture, 240)
    moved[5:, 8:] = picture[:-5, :-8]
    darker = picture * 0.9

    hashes = [picture_hash(overview(p)) for p in (picture, moved, another)] + [picture_hash(overview(darker, 216))]
    distances = hash_distances(hashes)

    assert distances[0, 1] == 0
    assert distances[0, 3] < 0.03
    assert 0.3 < distances[0, 2] < 0.7
    np.testing.assert_allclose(np.diag(distances), 0)


def test_the_hash_distance_counts_bits():
    distances = hash_distances(["00" * 64, "ff" * 64, "0f" * 64])

    np.testing.assert_allclose(distances, [[0, 1, 0.5], [1, 0, 0.5], [0.5, 0.5, 0]])


def test_one_bad_neighbour_does_not_bend_the_expected_line():
    positions = np.arange(20.0)
    figures = 3 + 0.5 * positions
    figures[7] = 1000

    expected = expected_from_neighbours(figures, positions)

    np.testing.assert_allclose(expected, 3 + 0.5 * positions)


def test_a_picture_without_tissue_has_no_figures(tmp_path):
    path = tmp_path / "empty.tif"
    tifffile.imwrite(path, np.full((200, 240), 240, np.uint8))

    with open_scan(path, 10.0) as scan:
        quality = measure_quality(scan)

    assert (quality.tissue_fraction, quality.folds, quality.tears) == (0, 0, 0)
    assert quality.focus is quality.staining is quality.saturation is quality.picture_hash is None
