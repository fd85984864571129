"""Variants of TIFF, compared with the pixels that tifffile reads from the same file."""

import json
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology import open_scan
from cytonet_pipeline_tests.histology.formats.pyramids import halved, write_subifds

REAL_SCANS = "colin27-brains/sub-*/micr/*_sample-1150_*.tif"


def whole(path: Path, **options) -> np.ndarray:
    """Read every pixel of a scan, by one patch that covers it."""
    with open_scan(path, 1.0, **options) as scan:
        edge = max(scan.width_px, scan.height_px) + 1 & ~1
        return scan.read_patch(edge // 2, edge // 2, edge, 1.0)[: scan.height_px, : scan.width_px]


def as_grey(path: Path) -> np.ndarray:
    """Read a file with tifffile, as grey values of 8 bit before rounding: Rec. 601, full range of the bits."""
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        pixels = page.asarray()
    if pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1) if page.planarconfig == 2 else pixels
        red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
        pixels = (299 * red + 587 * green + 114 * blue) / 1000
    return pixels * (255 / (2**page.bitspersample - 1))


def test_real_tiffs_of_other_programs_give_the_pixels_that_tifffile_gives(shared_data):
    paths = sorted([*(shared_data / "tiff_ok").iterdir(), *shared_data.glob(REAL_SCANS)])
    # Two channels of something: see test_ome.
    paths.remove(shared_data / "tiff_ok" / "ometypes_ome.tiff")
    assert len(paths) >= 12
    for path in paths:
        assert np.abs(whole(path) - as_grey(path)).max() <= 0.5 + 1e-6, path


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "rgb"},
        {"photometric": "rgb", "planarconfig": "separate", "tile": (32, 32)},
        {"photometric": "rgb", "tile": (32, 32), "compression": "jpeg"},
        {"photometric": "rgb", "tile": (32, 32), "compression": "jpeg2000"},
        {"photometric": "rgb", "rowsperstrip": 11, "compression": "lzw", "predictor": True},
    ],
)
def test_colours_become_luminance(options, write_scan):
    y, x = np.mgrid[:90, :70]
    colours = np.stack([y * 2, x * 3, (x + y) % 256], -1).astype(np.uint8)
    if options.get("planarconfig"):
        path = write_scan(np.moveaxis(colours, -1, 0), **options)
    else:
        path = write_scan(colours, **options)

    assert np.abs(whole(path) - as_grey(path)).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_more_than_8_bit_go_through_the_full_range_of_their_bits(bits, write_scan):
    values = np.random.default_rng(bits).integers(0, 2**bits, (60, 64), dtype=np.uint16)
    path = write_scan(values, rowsperstrip=60)
    if bits != 16:
        _write_packed(path, imagecodecs.packints_encode(values, bits, runlen=64), values.shape, bits)

    assert np.abs(whole(path) - values * (255 / (2**bits - 1))).max() <= 0.5 + 1e-6


def _write_packed(path: Path, packed: bytes, shape: tuple[int, int], bits: int) -> None:
    """Write a minimal TIFF of packed samples, which tifffile reads but does not write: one strip, nine tags."""
    tags = {256: shape[1], 257: shape[0], 258: bits, 259: 1, 262: 1, 273: 8 + 2 + 9 * 12 + 4, 277: 1, 278: shape[0]}
    tags[279] = len(packed)
    data = b"II*\0" + (8).to_bytes(4, "little") + len(tags).to_bytes(2, "little")
    for code, value in sorted(tags.items()):
        data += code.to_bytes(2, "little") + (4).to_bytes(2, "little") + (1).to_bytes(4, "little")
        data += value.to_bytes(4, "little")
    path.write_bytes(data + bytes(4) + packed)


def test_a_window_stretches_grey_values_and_cuts_the_rest(write_scan):
    path = write_scan(np.array([[0, 1000, 1500, 2000, 65535]], np.uint16))

    assert whole(path, window=(1000, 2000)).tolist() == [[0, 0, 128, 255, 255]]


def test_an_image_stored_with_white_as_zero_is_turned_dark_on_light(write_scan):
    """The stain is dark on light; tifffile returns the numbers as stored, where white is 0."""
    stored = np.array([[0, 10, 255]], np.uint8)

    assert whole(write_scan(stored, photometric="miniswhite")).tolist() == [[255, 245, 0]]


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (np.zeros((8, 8), np.float32), {}, "32 bit"),
        (np.zeros((8, 8), np.int16), {}, "INT"),
        (np.zeros((8, 8), bool), {}, "1 bit"),
        (np.zeros((8, 8), np.uint8), {"compression": "lzma"}, "LZMA"),
        (np.zeros((8, 8), np.uint8), {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)}, "PALETTE"),
    ],
)
def test_samples_that_are_not_supported_are_refused_by_name(pixels, options, message, write_scan):
    path = write_scan(pixels, **options)

    with pytest.raises(ScanError, match=message) as fault:
        open_scan(path, 1.0)

    assert str(path) in fault.value.what
    assert fault.value.to_fix


def test_the_sidecar_wins_over_the_metadata_of_the_file(write_scan):
    path = write_scan(np.zeros((8, 8), np.uint8), name="a.tif", resolution=(10000, 10000), resolutionunit="CENTIMETER")
    assert open_scan(path).pixel_um == 1.0

    path.with_suffix(".json").write_text(json.dumps({"PixelSize": [2, 2], "PixelSizeUnits": "um"}))

    assert open_scan(path).pixel_um == 2.0
    assert open_scan(path).file_pixel_um == 1.0
    assert open_scan(path, 3.0).pixel_um == 3.0


@pytest.mark.parametrize(
    ("options", "um"),
    [
        ({"resolution": (254, 254), "resolutionunit": "INCH"}, 100.0),
        ({"resolution": (5000, 5000), "resolutionunit": "CENTIMETER"}, 2.0),
        ({"metadata": {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}, "ome": True}, 0.5),
        ({"metadata": {"axes": "YX", "PhysicalSizeX": 700, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.7}}, 0.7),
    ],
)
def test_pixel_size_comes_from_ome_metadata_or_resolution_tags(options, um, write_scan):
    path = write_scan(np.zeros((8, 8), np.uint8), name="scan.ome.tif" if "metadata" in options else "", **options)

    assert open_scan(path).pixel_um == pytest.approx(um)


def test_resolution_without_unit_is_no_size(write_scan):
    path = write_scan(np.zeros((8, 8), np.uint8), resolution=(5000, 5000), resolutionunit="NONE")

    with pytest.raises(ScanError, match="nothing says how large its pixels are"):
        open_scan(path)
    assert open_scan(path, 1.0).file_pixel_um is None


def test_pixels_that_are_not_square_are_refused(write_scan):
    path = write_scan(np.zeros((8, 8), np.uint8), resolution=(5000, 4000), resolutionunit="CENTIMETER")

    with pytest.raises(ScanError, match=r"2 × 2\.5 µm"):
        open_scan(path)


def test_a_16_bit_pyramid_in_subifds_is_read_through_its_window(tmp_path):
    full = np.random.default_rng(4).integers(0, 4096, (128, 192), dtype=np.uint16)
    path = write_subifds(tmp_path / "p.tif", [full, halved(full)], compression="deflate")

    patch = open_scan(path, 1.0, window=(0, 4095)).read_patch(96, 64, 64, 2.0)

    np.testing.assert_array_equal(patch, np.floor(halved(full)[:, 16:80] * (255 / 4095) + 0.5))
