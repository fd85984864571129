"""Scans that use a part of their range, or are light on dark: noticed, with the settings that help."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.histology import open_scan, survey
from cytonet_pipeline.histology.quality.intensity import is_light_on_dark, used_values
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline_tests.dataset.tiny import PIXEL_UM, SAMPLES, TinyDataset, ring, section_picture


@pytest.fixture
def tiny(tmp_path) -> TinyDataset:
    return TinyDataset(tmp_path / "brains").write()


def surveyed(tiny, **options):
    block = DatasetBlock(density_per_mm3=1, held_out="B01", **options)
    return survey(Dataset(tiny.root, block).brain("B01"), block).set_index("sample")


def write_as(tiny, change, **options):
    for sample in SAMPLES:
        picture = change(section_picture(seed=int(sample)))
        tifffile.imwrite(tiny.scan(sample), picture, tile=(64, 64), **{"metadata": None, **options})


def of_bits(bits):
    return lambda picture: (picture.astype(np.float64) * (2**bits - 1) / 255).round().astype(np.uint16)


SAME = ["background", "tissue_fraction", "staining"]


@pytest.mark.parametrize("bits", [10, 12])
def test_a_camera_of_few_bits_in_16_is_refused_with_the_window_that_helps(bits, tiny):
    as_bytes = surveyed(tiny)
    write_as(tiny, of_bits(bits))

    refused = surveyed(tiny)

    assert set(refused["status"]) == {"rejected"}
    assert f"of 0 to 65535, {235 * 2**bits // 65536} of 256 levels" in refused["reason"].iloc[0]
    assert f"set `window: {{B01: [0, {2**bits - 1}]}}`" in refused["reason"].iloc[0]
    assert "another section" not in refused["reason"].iloc[0]
    helped = surveyed(tiny, window={"B01": (0, 2**bits - 1)})
    assert set(helped["status"]) == {"ok"}
    np.testing.assert_allclose(helped[SAME].astype(float), as_bytes[SAME].astype(float), atol=0.01)


def test_14_bits_in_16_are_flagged_with_the_window_that_helps(tiny):
    write_as(tiny, of_bits(14))

    row = surveyed(tiny).loc["0010"]

    assert row["status"] == "flagged"
    assert "set `window: {B01: [0, 16383]}`" in row["reason"]


def test_the_whole_range_stated_in_the_settings_is_taken_as_it_is(tiny):
    write_as(tiny, of_bits(14))

    assert set(surveyed(tiny, window=(0, 65535))["status"]) == {"ok"}


def test_a_window_beside_the_grey_values_is_refused(tiny):
    write_as(tiny, of_bits(10))

    assert "lie outside of the window [2000, 4000]" in surveyed(tiny, window=(2000, 4000))["reason"].iloc[0]


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_light_on_dark_is_refused_and_read_as_dark_on_light_with_invert(bits, tiny):
    as_bytes = surveyed(tiny)
    write_as(tiny, lambda picture: 255 - picture if bits == 8 else of_bits(bits)(255 - picture))
    window = {} if bits != 12 else {"window": {"B01": (0, 4095)}}

    refused, helped = surveyed(tiny, **window), surveyed(tiny, **window, invert={"B01": True})

    assert set(refused["status"]) == {"rejected"}
    assert "light on dark" in refused["reason"].iloc[0]
    assert "`invert: {B01: true}`" in refused["reason"].iloc[0]
    assert set(helped["status"]) == {"ok"}, helped["reason"].tolist()
    np.testing.assert_allclose(helped[SAME].astype(float), as_bytes[SAME].astype(float), atol=0.01)


def test_a_section_that_is_right_and_inverted_by_the_settings_is_pointed_out(tiny):
    for sample in SAMPLES:
        tiny.mask(sample).unlink()
    tiny.annotation("0010").unlink()

    found = surveyed(tiny, invert=True)

    assert set(found["status"]) == {"flagged"}
    assert "although `invert` is true" in found["reason"].iloc[0]


def test_min_is_white_is_not_light_on_dark_and_has_a_window_of_its_own(tiny):
    as_bytes = surveyed(tiny)
    write_as(tiny, lambda picture: of_bits(12)(255 - picture), photometric="miniswhite")

    refused = surveyed(tiny)
    helped = surveyed(tiny, window=(61440, 65535))

    assert "set `window: {B01: [61440, 65535]}`" in refused["reason"].iloc[0]
    assert set(helped["status"]) == {"ok"}
    np.testing.assert_allclose(helped[SAME].astype(float), as_bytes[SAME].astype(float), atol=0.01)


def test_an_inverted_scan_is_the_mirror_of_its_grey_values(tmp_path):
    """Against a loop in float64."""
    picture = np.random.default_rng(0).integers(0, 4096, (40, 60), dtype=np.uint16)
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, picture, metadata=None)
    expected = np.clip(np.floor((3000.0 - picture) * 255 / 2900 + 0.5), 0, 255)

    for scan in (open_scan(path, 1.0, (100, 3000), invert=True), open_scan(path, 1.0, (3000, 100))):
        np.testing.assert_array_equal(scan.read_patch(30, 20, 40, 1.0), expected[:, 10:50])
        copied = scan.__reduce__()
        np.testing.assert_array_equal(copied[0](*copied[1]).read_patch(30, 20, 40, 1.0), expected[:, 10:50])
    assert used_values(scan)[1] <= 4095


def test_real_sections_are_dark_on_light_and_their_negatives_are_not(shared_data):
    files = sorted((shared_data / "nissl_mouse_serial").glob("*.jpg"))[::4]
    pictures = [np.asarray(Image.open(path)) for path in files]
    greys = [
        np.asarray(picture if picture.ndim == 2 else picture.mean(axis=2)).astype(np.uint8) for picture in pictures
    ]

    assert not any(is_light_on_dark(grey) for grey in greys)
    assert all(is_light_on_dark(255 - grey) for grey in greys)


@pytest.mark.parametrize("kind", ["full of tissue", "black frame", "one grey value", "noise"])
def test_pictures_without_a_dark_slide_are_not_light_on_dark(kind):
    cells = np.random.default_rng(0).integers(60, 200, (120, 160)).astype(np.uint8)
    framed = np.zeros((160, 200), np.uint8)
    framed[20:-20, 20:-20] = section_picture()
    picture = {
        "full of tissue": cells,
        "black frame": framed,
        "one grey value": np.full((50, 60), 7, np.uint8),
        "noise": np.random.default_rng(1).integers(230, 240, (120, 160)).astype(np.uint8),
    }[kind]

    assert not is_light_on_dark(picture)


def test_a_plain_png_is_taken_in_as_a_tiff_is(tiny):
    as_tiff = surveyed(tiny)
    for kind, write in {"scan": section_picture(seed=20), "mask": ring() * 255}.items():
        path = getattr(tiny, kind)("0020")
        path.unlink()
        Image.fromarray(write).save(path.with_suffix(".png"))

    row, before = surveyed(tiny).loc["0020"], as_tiff.loc["0020"]

    assert (row["status"], row["reason"], row["pixel_um"]) == ("ok", "", PIXEL_UM)
    assert row[SAME].tolist() == before[SAME].tolist()
    assert row["mask_path"].endswith("_mask.png")
