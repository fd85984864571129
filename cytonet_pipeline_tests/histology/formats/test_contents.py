"""Which of several images in a TIFF is the scan: found for sure, or the file is refused with what it holds."""

import numpy as np
import pytest
import tifffile

from cytonet_pipeline.dataset import Pick
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology import open_scan, scan_digest
from cytonet_pipeline.histology.formats.levels import whole_factor
from cytonet_pipeline_tests.histology.formats.pyramids import halved
from cytonet_pipeline_tests.histology.formats.test_dialects import whole
from cytonet_pipeline_tests.histology.formats.zarrs import write_ome_zarr

SCAN = np.random.default_rng(0).integers(20, 250, (256, 384), dtype=np.uint8)
SCAN[:, :100] = 240
QUARTER = halved(halved(SCAN))
OTHER = 255 - QUARTER


def write(path, *pages):
    """Write pages, each a picture or a picture with options."""
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            picture, options = page if isinstance(page, tuple) else (page, {})
            writer.write(picture, metadata=None, **{"tile": (64, 64), **options})
    return path


def read(path, **options):
    with open_scan(path, 1.0, **options) as scan:
        scan.verify()
        return scan.levels, scan.reader.doubts


@pytest.mark.parametrize("tag", [{}, {"subfiletype": 1}])
def test_a_thumbnail_that_comes_first_is_a_level_of_the_scan_behind_it(tag, tmp_path):
    """As QuPath and Aperio may order them; before, a section of 384 px was read as one of 96."""
    path = write(tmp_path / "a.tif", (QUARTER, tag), SCAN)

    assert read(path) == ([(256, 384), (64, 96)], ())
    np.testing.assert_array_equal(whole(path), SCAN)


def test_a_small_picture_of_another_size_is_passed_over_and_said(tmp_path):
    levels, doubts = read(write(tmp_path / "a.tif", SCAN[:90, :100], SCAN))

    assert levels == [(256, 384)]
    assert doubts == ("page 0: 100 × 90 px is taken for a label or thumbnail and passed over",)


@pytest.mark.parametrize("others", [[SCAN], [SCAN[:200]], [SCAN] * 5], ids=["twin", "second section", "stack"])
def test_several_images_of_like_size_are_refused_with_what_they_are(others, tmp_path):
    path = write(tmp_path / "a.tif", SCAN, *others)

    with pytest.raises(ScanError, match=r"page 0: 384 × 256 px; page 1: 384") as fault:
        open_scan(path, 1.0)

    assert "column page of a section table" in fault.value.to_fix


def test_a_pick_decides_and_two_picks_are_two_scans(tmp_path):
    path = write(tmp_path / "a.tif", SCAN, SCAN[:200])

    assert read(path, pick=Pick(page=1))[0] == [(200, 384)]
    assert read(path, pick=Pick(page=0))[0] == [(256, 384)]
    digests = {open_scan(path, 1.0, pick=Pick(page=page)).reader.digest() for page in (0, 1)}
    assert len(digests) == 2
    with pytest.raises(ScanError, match=r"has no page 7; it holds page 0: 384 × 256 px"):
        open_scan(path, 1.0, pick=Pick(page=7))
    with pytest.raises(ScanError, match="has no series 0"):
        open_scan(path, 1.0, pick=Pick(series=0))


@pytest.mark.parametrize("before", [[], [(halved(SCAN), {"subfiletype": 1})]], ids=["macro alone", "after a level"])
def test_a_macro_of_exactly_a_quarter_is_no_level_if_a_tag_says_so(before, tmp_path):
    kind = {} if before else {"subfiletype": 9}
    levels, _ = read(write(tmp_path / "a.tif", SCAN, *before, (OTHER, kind)))

    assert levels == [(256, 384), (128, 192)][: 1 + len(before)]


def test_a_macro_of_exactly_a_quarter_that_no_tag_marks_is_seen_in_its_pixels(tmp_path):
    path = write(tmp_path / "a.tif", SCAN, OTHER)

    with pytest.raises(ScanError, match="shows something else"):
        read(path)
    # A level that was made by leaving out pixels is one all the same.
    assert read(write(tmp_path / "b.tif", SCAN, SCAN[::4, ::4]))[0] == [(256, 384), (64, 96)]


def write_series(path):
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(QUARTER[:50], metadata={"axes": "YX", "Name": "macro image"})
        sized = {"PhysicalSizeX": 2.0, "PhysicalSizeY": 2.0}
        writer.write(SCAN, tile=(64, 64), subifds=1, metadata={"axes": "YX", **sized})
        writer.write(halved(SCAN), tile=(64, 64), subfiletype=1)
        if "two" in path.name:
            writer.write(SCAN[:80, :90], metadata={"axes": "YX", "Name": "pole", **sized})
    return path


def test_ome_metadata_tell_the_macro_from_the_scan(tmp_path):
    path = write_series(tmp_path / "a.ome.tif")

    assert read(path) == ([(256, 384), (128, 192)], ())
    assert open_scan(path).pixel_um == 2.0


def test_a_second_section_of_the_same_pixel_size_must_be_picked_however_small(tmp_path):
    path = write_series(tmp_path / "two.ome.tif")

    with pytest.raises(ScanError, match=r"series 1: 384 × 256 px .*; series 2: 90 × 80 px \(pole\)") as fault:
        open_scan(path)

    assert "column series" in fault.value.to_fix
    assert read(path, pick=Pick(series=2))[0] == [(80, 90)]


@pytest.mark.parametrize(("axes", "what"), [("ZYX", "3 planes in depth"), ("TYX", "3 times")])
def test_stacks_are_refused_unless_a_page_is_picked(axes, what, tmp_path):
    stack, path = np.stack([SCAN, SCAN // 2, SCAN]), tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stack, ome=True, metadata={"axes": axes}, photometric="minisblack")

    with pytest.raises(ScanError, match=what):
        open_scan(path, 1.0)

    with open_scan(path, 1.0, pick=Pick(page=1)) as scan:
        np.testing.assert_array_equal(scan.read_patch(64, 64, 64, 1.0), (SCAN // 2)[32:96, 32:96])


def test_an_imagej_stack_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([SCAN] * 3), imagej=True)

    with pytest.raises(ScanError, match="ImageJ stack of 3 images"):
        open_scan(tmp_path / "a.tif", 1.0)


def test_three_grey_pages_are_the_luminance_that_an_ome_zarr_of_the_same_data_is(tmp_path):
    """Before, channel 0 was the image in the one and the luminance in the other."""
    colours = np.stack([SCAN, SCAN[::-1], 255 - SCAN])
    tiff, packed = tmp_path / "a.ome.tif", tmp_path / "b.tif"
    tifffile.imwrite(tiff, colours, ome=True, metadata={"axes": "CYX"}, photometric="minisblack", tile=(64, 64))
    tifffile.imwrite(packed, np.moveaxis(colours, 0, -1), photometric="rgb", metadata=None)
    zarr = write_ome_zarr(tmp_path / "a.ome.zarr", [colours])

    np.testing.assert_array_equal(whole(tiff), whole(zarr))
    np.testing.assert_array_equal(whole(tiff), whole(packed))
    read(tiff)
    assert scan_digest(tiff) != scan_digest(packed)


def test_channels_of_fluorescence_are_no_colours(tmp_path, shared_data):
    stack, path = np.stack([SCAN] * 3), tmp_path / "a.ome.tif"
    channels = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP", "Cy5"]}}
    tifffile.imwrite(path, stack, ome=True, metadata=channels, photometric="minisblack")

    with pytest.raises(ScanError, match="DAPI, GFP, Cy5, not red, green and blue"):
        open_scan(path, 1.0)
    with pytest.raises(ScanError, match="2 channels are not read"):
        open_scan(shared_data / "tiff_ok" / "ometypes_ome.tiff", 1.0)


@pytest.mark.parametrize(
    ("full", "part", "factor"),
    [
        ((3000, 2000), (46, 31), 64),
        ((3000, 2000), (47, 32), 64),
        ((300, 420), (150, 210), 2),
        ((301, 421), (100, 140), 3),
        ((300, 420), (118, 163), 0),
        ((300, 420), (150, 105), 0),
        ((8, 8), (1, 1), 8),
        ((100000, 80000), (97, 78), 1024),
        ((100000, 80000), (48, 39), 2048),
    ],
)
def test_the_factor_is_the_one_that_both_edges_allow(full, part, factor):
    """46 of 3000 px is 1/64 and 1/65: by 65 a line at 2592 px would be read at 2632."""
    found = whole_factor(full, part)

    assert found == factor
    if found:
        assert all(f // found <= p <= -(-f // found) for f, p in zip(full, part, strict=True))


def test_aperio_scans_have_the_levels_and_the_pixel_size_that_openslide_gives(shared_data):
    openslide = pytest.importorskip("openslide")
    paths = sorted((shared_data / "tiff_ok").glob("*.svs"))
    assert len(paths) == 3
    for path in paths:
        with openslide.OpenSlide(path) as slide, open_scan(path, 1.0) as scan:
            assert [(width, height) for height, width in scan.levels] == list(slide.level_dimensions), path
            mpp = slide.properties.get("openslide.mpp-x")
            assert (scan.reader.file_pixel_um or (None,))[0] == (None if mpp is None else pytest.approx(float(mpp)))


def test_a_scan_of_ventana_is_refused_whatever_its_name(tmp_path):
    """Tiles of BIF overlap: laid side by side they would put pixels into the wrong place."""
    picture = np.full((96, 128), 230, np.uint8)
    xmp = b'<EncodeInfo Ver="2"><SlideInfo><iScan Magnification="20"/></SlideInfo></EncodeInfo>'
    path = write(tmp_path / "scan.tif", (picture, {"extratags": [(700, 1, len(xmp), xmp, True)]}))

    with pytest.raises(ScanError, match=r"scan\.tif: is a Ventana \(BIF\) file") as refused:
        open_scan(path, 1.0)
    assert "OME-TIFF" in refused.value.to_fix
    # Other programs write XMP too.
    other = write(tmp_path / "other.tif", (picture, {"extratags": [(700, 1, 5, b"<xmp>", True)]}))
    assert whole(other).tolist() == picture.tolist()
