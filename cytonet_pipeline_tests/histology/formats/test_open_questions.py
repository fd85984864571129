"""What a TIFF may leave open: transparency, left-out tiles, no PhotometricInterpretation, another orientation."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology import open_scan
from cytonet_pipeline_tests.histology.formats.pyramids import halved, write_subifds
from cytonet_pipeline_tests.histology.formats.test_damage import with_tag
from cytonet_pipeline_tests.histology.formats.test_dialects import whole


def transparent(seed=0):
    rgba = np.random.default_rng(seed).integers(0, 256, (48, 64, 4), dtype=np.uint8)
    rgba[:20, :, 3], rgba[20:30, :, 3] = 0, 255
    # Behind what is transparent many programs store black.
    rgba[:20, :, :3] = 0
    return rgba


def on_white(rgba, largest=255):
    opacity = rgba[..., 3:].astype(float) / largest
    return (rgba[..., :3] * opacity + largest * (1 - opacity)) @ [0.299, 0.587, 0.114]


def test_transparency_shows_white_as_pillow_composes_it(tmp_path):
    path = tmp_path / "rgba.tif"
    Image.fromarray(transparent()).save(path)
    light = Image.new("RGBA", (64, 48), "white")
    light.alpha_composite(Image.open(path))

    pixels = whole(path)

    assert np.abs(pixels - on_white(transparent())).max() <= 1.1
    assert np.abs(pixels.astype(int) - np.asarray(light.convert("L"))).max() <= 1
    assert (pixels[:20] == 255).all()


def test_colours_that_are_stored_multiplied_by_their_opacity_are_not_multiplied_again(write_scan):
    rgba = transparent(1)
    stored = rgba.copy()
    stored[..., :3] = np.round(rgba[..., :3] * (rgba[..., 3:] / 255))
    path = write_scan(stored, photometric="rgb", extrasamples=["assocalpha"], tile=(32, 32), compression="deflate")

    assert np.abs(whole(path) - on_white(rgba)).max() <= 1.1


def test_transparency_of_16_bit_and_of_grey_values(write_scan):
    rgba = transparent(2).astype(np.uint16) * 257
    path = write_scan(rgba, photometric="rgb", extrasamples=["unassalpha"])
    assert np.abs(whole(path) - on_white(rgba, 65535) / 257).max() <= 1.1

    grey = transparent(3)[..., [0, 3]]
    path = write_scan(grey, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    three = np.concatenate([grey[..., :1].repeat(3, 2), grey[..., 1:]], 2)
    assert np.abs(whole(path) - on_white(three)).max() <= 1.1


def test_transparency_of_a_scan_that_is_light_on_dark_shows_its_dark_slide(write_scan):
    path = write_scan(transparent(), photometric="rgb", extrasamples=["unassalpha"])

    with open_scan(path, 1.0, invert=True) as scan:
        assert (scan.read_patch(8, 8, 8, 1.0) == 255).all()


def test_a_fourth_sample_of_unknown_meaning_is_refused(write_scan):
    path = write_scan(transparent(), photometric="rgb", extrasamples=["unspecified"])

    with pytest.raises(ScanError, match="ExtraSamples does not say") as fault:
        open_scan(path, 1.0)

    assert "without transparency" in fault.value.to_fix


def test_without_photometric_interpretation_black_is_zero_as_in_libtiff(section_picture, write_scan):
    path = write_scan(section_picture, tile=(64, 64))
    # A code that nobody knows takes the place of the tag.
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\x06\x01\x03\x00\x01\x00\x00\x00", b"\x07\x01\x03\x00\x01\x00\x00\x00", 1))

    np.testing.assert_array_equal(whole(path), section_picture)
    assert "PhotometricInterpretation is missing" in open_scan(path, 1.0).reader.doubts[0]


def test_another_orientation_is_said(section_picture, write_scan):
    path = write_scan(section_picture, extratags=[(274, "H", 1, 6, False)])

    assert "Orientation is 6" in open_scan(path, 1.0).reader.doubts[0]
    assert open_scan(write_scan(section_picture, extratags=[(274, "H", 1, 1, False)]), 1.0).reader.doubts == ()


@pytest.mark.parametrize("empty", [{273: 0}, {279: 0}, {273: 0, 279: 0}], ids=["offset", "count", "both"])
@pytest.mark.parametrize("rows", [300, 8000], ids=["small", "more than 4 MiB"])
def test_a_strip_that_is_left_out_is_slide_however_large(empty, rows, write_scan):
    """Beyond 4 MiB strips are read in pieces; from offset 0 on these were the header of the file."""
    path = with_tag(write_scan(np.full((rows, 700), 99, np.uint8), rowsperstrip=rows), empty)

    with open_scan(path, 1.0) as scan:
        scan.verify()
        assert (scan.read_patch(32, 32, 64, 1.0) == 255).all()


@pytest.mark.parametrize("offset", [1, 7, 8])
def test_pixels_that_would_lie_in_the_header_or_the_directory_are_damage(offset, write_scan):
    path = with_tag(write_scan(np.full((8000, 700), 99, np.uint8), rowsperstrip=8000), {273: offset})

    with pytest.raises(ScanError, match="where no pixels can be"), open_scan(path, 1.0) as scan:
        scan.verify()


def test_a_tile_that_only_a_reduced_level_lacks_is_named(section_picture, tmp_path):
    path = write_subifds(tmp_path / "a.tif", [section_picture, halved(section_picture)])
    with tifffile.TiffFile(path, mode="r+") as tif:
        for code in (324, 325):
            tag = tif.pages.first.pages[0].tags[code]
            tag.overwrite([*tag.value[:4], 0, *tag.value[5:]])

    with open_scan(path, 1.0) as scan, pytest.raises(ScanError, match="1 tiles of the level of 210 × 150 px are miss"):
        scan.verify()


def test_a_tile_that_no_level_has_is_slide(section_picture, tmp_path):
    path = write_subifds(tmp_path / "a.tif", [section_picture[:128, :128], halved(section_picture[:128, :128])])
    with tifffile.TiffFile(path, mode="r+") as tif:
        for page in (tif.pages.first, tif.pages.first.pages[0]):
            page.tags[325].overwrite([0] * len(page.databytecounts))

    with open_scan(path, 1.0) as scan:
        scan.verify()
        assert (scan.read_patch(64, 64, 32, 2.0) == 255).all()
