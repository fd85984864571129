"""Masks and annotations over the field of view of a scan; those of another section are refused."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cytonet_pipeline.dataset import Dataset, Section
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology import LabelImage, open_mask, open_scan, read_annotation, read_mask
from cytonet_pipeline.histology.annotations.fit import fit_of
from cytonet_pipeline.histology.annotations.reading import mask_digest, mask_doubt
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline.store import digest_file
from cytonet_pipeline_tests.dataset.tiny import ring, section_picture


def section(**files: Path) -> Section:
    return Section("B01", "0010", 10, None, **files)


def write(path: Path, labels: np.ndarray, **options) -> Path:
    tifffile.imwrite(path, labels, **{"metadata": None, "compression": "deflate", **options})
    return path


@pytest.mark.parametrize("factor", [1, 2, 7])
def test_a_label_image_of_any_resolution_covers_the_same_field_of_view(factor, tmp_path):
    coarse = np.random.default_rng(0).integers(0, 9, (12, 16))
    path = write(tmp_path / "m.tif", np.kron(coarse, np.ones((factor, factor))).astype(np.uint8))
    image = LabelImage.open(path, 16.0, 12.0)
    x, y = np.random.default_rng(1).uniform(0, [[16], [12]], (2, 500))

    np.testing.assert_array_equal(image.at_mm(x, y), coarse[y.astype(int), x.astype(int)])
    assert image.pixel_mm == pytest.approx((1 / factor, 1 / factor))


def test_the_origin_is_the_outer_corner_of_the_first_pixel(tmp_path):
    image = LabelImage.open(write(tmp_path / "m.tif", np.array([[1, 2], [3, 4]], np.uint8)), 2.0, 2.0)

    assert image.at_mm([0.0, 0.999, 1.0, 0.5], [0.0, 0.999, 0.0, 1.5]).tolist() == [1, 1, 2, 3]
    assert image.at_mm([-0.001, 2.0, 0.5, 0.5], [0.5, 0.5, -0.001, 2.0]).tolist() == [0, 0, 0, 0]
    assert image.at_mm(1.5, 1.5) == 4


def test_numbers_beyond_255_are_kept(tmp_path):
    """Right-hemisphere areas are numbered left + 1000."""
    labels = np.array([[0, 255, 256, 1113, 65535]] * 5, np.uint16)

    assert LabelImage.open(write(tmp_path / "a.tif", labels), 1.0, 1.0).labels.tolist() == labels.tolist()


@pytest.mark.parametrize("shape", [(70, 90), (256, 300)])
@pytest.mark.parametrize("options", [{"tile": (32, 48)}, {"rowsperstrip": 9}])
def test_an_image_that_is_too_large_is_thinned_and_never_averaged(shape, options, tmp_path, monkeypatch):
    monkeypatch.setattr("cytonet_pipeline.histology.annotations.labels.LARGEST_LABEL_PX", shape[0] * shape[1] // 8)
    labels = np.random.default_rng(0).integers(0, 60000, shape, dtype=np.uint16)

    image = LabelImage.open(write(tmp_path / "m.tif", labels, **options), shape[1] / 10, shape[0] / 10)

    rows, columns = (edge // 3 for edge in shape)
    np.testing.assert_array_equal(image.labels, labels[1::3, 1::3][:rows, :columns])
    assert image.pixel_mm == pytest.approx((0.3, 0.3))


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), {"photometric": "rgb"}, "colours or fractions"),
        (np.zeros((8, 8), np.float32), {}, "colours or fractions"),
        (np.zeros((16, 16), np.uint8), {"compression": "jpeg"}, "JPEG changes the numbers"),
        (np.full((8, 8), 2**31, np.uint32), {}, "labels below 0 or above"),
        (np.full((8, 8), -1, np.int16), {}, "labels below 0 or above"),
        (np.zeros((8, 16), np.uint8), {}, "proportions"),
    ],
)
def test_an_image_that_is_no_label_image_of_the_scan_is_refused(labels, options, message, tmp_path):
    path = write(tmp_path / "m.tif", labels, **options)

    with pytest.raises(ScanError, match=message) as fault:
        LabelImage.open(path, 1.0, 1.0)

    assert str(path) in fault.value.what
    assert fault.value.to_fix


def test_rounding_to_whole_pixels_is_no_other_proportion(tmp_path):
    path = write(tmp_path / "m.tif", np.zeros((33, 50), np.uint8))
    assert LabelImage.open(path, 10.0, 6.66).labels.shape == (33, 50)


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, section_picture(), tile=(64, 64), metadata=None)
    with open_scan(path, 100.0) as opened:
        yield opened


def test_the_mask_of_this_section_is_taken(scan, tmp_path):
    mask = read_mask(section(mask=write(tmp_path / "m.tif", ring())), scan)

    assert mask.at_mm(7.0, 2.5) == 1
    assert mask.at_mm(7.0, 6.0) == 0


def test_the_mask_of_another_section_is_refused_though_its_size_is_right(scan, tmp_path):
    path = write(tmp_path / "m.tif", ring(shift=35))

    with pytest.raises(ScanError, match="another section") as fault:
        read_mask(section(mask=path), scan)
    assert str(path) in fault.value.what
    with pytest.raises(ScanError, match="another section"):
        read_annotation(section(annotation=path), scan)


def test_an_empty_mask_or_annotation_is_refused(scan, tmp_path):
    path = write(tmp_path / "m.tif", ring() * 0)

    with pytest.raises(ScanError, match="the mask is empty"):
        read_mask(section(mask=path), scan)
    with pytest.raises(ScanError, match="the annotation has no area"):
        read_annotation(section(annotation=path), scan)


def test_a_mask_of_half_the_cortex_is_still_this_sections(scan, tmp_path):
    half = ring()
    half[:, :35] = 0

    assert read_mask(section(mask=write(tmp_path / "m.tif", half)), scan).labels.any()


def test_swapped_masks_of_real_anatomy_are_caught(shared_data):
    """Every section of a brain is given the mask of every other one, at least 12.7 mm away and of the same size."""
    data = Dataset(shared_data / "colin27-brains", DatasetBlock(density_per_mm3=1, held_out="B20"))
    sections = data.brain("B02").sections[::2]
    refused, doubted, wrong = 0, 0, 0
    for one, other in itertools.product(sections, repeat=2):
        with open_scan(one.scan, one.pixel_um) as scan:
            width_mm, height_mm = scan.width_px * 0.064, scan.height_px * 0.064
            fit = fit_of(LabelImage.open(other.mask, width_mm, height_mm), scan)
        if one is other:
            assert not fit.doubtful, one.sample
        else:
            wrong, refused, doubted = wrong + 1, refused + fit.wrong, doubted + fit.doubtful
    assert doubted == wrong
    assert refused >= 0.95 * wrong


@pytest.mark.parametrize("offset", [0, 3_000_000])
def test_numbers_that_are_not_known_become_nothing_and_are_listed(offset, tmp_path):
    labels = np.array([[0, 1, 5], [7, 7, 1]], np.uint32) + np.array([[0, 0, offset], [offset, 0, 0]], np.uint32)
    image = LabelImage.open(write(tmp_path / "a.tif", labels), 3.0, 2.0)

    kept = image.only({1, 5 + offset})

    assert kept.labels.tolist() == [[0, 1, 5 + offset], [0, 0, 1]]
    assert set(kept.unknown) == {"7", str(7 + offset)}
    assert image.only(set(labels.ravel().tolist())) is image


def test_a_mask_without_zeros_is_refused_until_somebody_says_which_number_is_cortex(scan, tmp_path):
    """Ilastik exports the numbers 1 and 2; all of the field would be cortex."""
    path = write(tmp_path / "m.tif", ring() + 1)

    with pytest.raises(ScanError, match="no pixel is 0, so all of the scan would be cortex; it holds 1, 2") as fault:
        read_mask(section(mask=path), scan)
    assert "mask_value" in fault.value.to_fix

    mask = read_mask(section(mask=path, mask_value=2), scan)
    np.testing.assert_array_equal(mask.labels, ring())
    with pytest.raises(ScanError, match="no pixel has the mask_value 3; it holds 1, 2"):
        read_mask(section(mask=path, mask_value=3), scan)


def test_a_whole_field_of_cortex_is_taken_if_somebody_says_so(scan, tmp_path):
    path = write(tmp_path / "m.tif", ring() * 0 + 255)

    assert open_mask(section(mask=path, mask_value=255), 16.0, 12.0).labels.all()


def test_a_mask_of_several_numbers_is_doubtful(tmp_path):
    layers = ring() * (1 + np.arange(60)[:, None] // 20).astype(np.uint8)

    assert "holds the numbers 1, 2, 3" in mask_doubt(open_mask(section(mask=write(tmp_path / "m.tif", layers)), 16, 12))
    assert mask_doubt(open_mask(section(mask=write(tmp_path / "n.tif", ring() * 255)), 16, 12)) == ""


def test_the_digest_of_a_mask_follows_the_number_that_is_cortex(tmp_path):
    path = write(tmp_path / "m.tif", ring())

    assert mask_digest(section(mask=path)) == digest_file(path)
    assert len({mask_digest(section(mask=path, mask_value=value)) for value in (None, 1, 2)}) == 3
    assert mask_digest(section()) is None
