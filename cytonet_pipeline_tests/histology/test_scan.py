"""Patches of scans against the padded array that the scan was written from."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology import open_scan
from cytonet_pipeline.histology.pixels.averaging import Boxes
from cytonet_pipeline_tests.histology.formats.pyramids import halved, write_pages, write_subifds
from cytonet_pipeline_tests.histology.pixels.test_averaging import by_definition

LAYOUTS = {
    "tiles": {"tile": (64, 64)},
    "deflate tiles with a predictor": {"tile": (48, 80), "compression": "deflate", "predictor": True},
    "zstd tiles": {"tile": (64, 64), "compression": "zstd"},
    "lzw strips": {"rowsperstrip": 7, "compression": "lzw"},
    "one strip": {"rowsperstrip": 300},
    "one compressed strip": {"rowsperstrip": 300, "compression": "zstd"},
    "big-endian BigTIFF": {"bigtiff": True, "byteorder": ">", "tile": (64, 64)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pixels_are_those_that_were_written(layout, section_picture, write_scan):
    path = write_scan(section_picture, **LAYOUTS[layout])

    with open_scan(path, 1.0) as scan:
        patch = scan.read_patch(100, 80, 64, 1.0)

    np.testing.assert_array_equal(patch, section_picture[48:112, 68:132])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    x=st.floats(-60, 480),
    y=st.floats(-60, 360),
    size=st.integers(1, 12),
    pixel=st.one_of(st.sampled_from([1.0, 2.0, 3.0, 1.5]), st.floats(1, 9)),
)
def test_a_patch_is_the_area_average_of_the_scan_padded_with_its_background(
    x, y, size, pixel, section_picture, tmp_path
):
    import tifffile

    path = tmp_path / "scan.tif"
    if not path.exists():
        tifffile.imwrite(path, section_picture, tile=(64, 64))
    scan = open_scan(path, 1.0)
    down, right = (Boxes.snapped(centre - size * pixel / 2, pixel, size) for centre in (y, x))
    padded = np.full((down.last - down.first, right.last - right.first), scan.background, np.uint8)
    rows, columns = np.arange(down.first, down.last), np.arange(right.first, right.last)
    r, c = (rows >= 0) & (rows < 300), (columns >= 0) & (columns < 420)
    padded[np.ix_(r, c)] = section_picture[np.ix_(rows[r], columns[c])]

    patch = scan.read_patch(x, y, size, pixel)

    assert np.abs(patch.astype(float) - by_definition(padded, down, right)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("write", [write_subifds, write_pages])
def test_a_patch_comes_from_the_coarsest_level_that_is_fine_enough(write, section_picture, tmp_path):
    """Each level is marked, so that it shows where a patch came from."""
    levels = [section_picture * 0 + 10, halved(section_picture) * 0 + 20, halved(halved(section_picture)) * 0 + 30]
    path = write(tmp_path / "pyramid.tif", levels)

    with open_scan(path, 1.0) as scan:
        seen = {um: int(scan.read_patch(200, 150, 8, um)[0, 0]) for um in (1, 1.9, 2, 3.9, 4, 17)}

    assert scan.levels == [(300, 420), (150, 210), (75, 105)]
    assert seen == {1: 10, 1.9: 10, 2: 20, 3.9: 20, 4: 30, 17: 30}


def test_a_label_or_thumbnail_among_the_pages_is_no_level(section_picture, tmp_path):
    path = write_pages(
        tmp_path / "slide.tif", [section_picture, section_picture[:118, :163], section_picture[:90, :80]]
    )

    assert open_scan(path, 1.0).levels == [(300, 420)]


def test_a_level_whose_last_row_was_rounded_away_still_shows_the_whole_scan(tmp_path):
    full = np.full((301, 421), 100, np.uint8)
    path = write_pages(tmp_path / "odd.tif", [full, full[:150, :210]])

    with open_scan(path, 1.0) as scan:
        corner = scan.read_patch(417, 297, 4, 2.0)

    assert scan.levels[1] == (150, 210)
    assert (corner == 100).all()


def test_outside_of_the_scan_is_the_colour_of_the_slide(section_picture, write_scan):
    with open_scan(write_scan(section_picture, tile=(64, 64)), 1.0) as scan:
        assert scan.background == 240
        assert (scan.read_patch(-100, -100, 16, 1.0) == 240).all()
        half = scan.read_patch(0, 150, 16, 1.0)
    assert (half[:, :8] == 240).all()
    np.testing.assert_array_equal(half[:, 8:], section_picture[142:158, :8])


def test_many_patches_are_the_same_as_one_by_one_in_the_order_asked_for(section_picture, write_scan):
    centres = np.random.default_rng(2).uniform(-10, 430, (40, 2))
    scan = open_scan(write_scan(section_picture, tile=(32, 32)), 1.0)

    together = scan.read_patches(centres, 9, 2.5)

    for patch, (x, y) in zip(together, centres, strict=True):
        np.testing.assert_array_equal(patch, scan.read_patch(x, y, 9, 2.5))


def test_patches_go_into_the_array_that_is_given(section_picture, write_scan):
    scan = open_scan(write_scan(section_picture), 1.0)
    out = np.zeros((3, 8, 8), np.uint8)

    assert scan.read_patches(np.array([[200, 150]] * 3), 8, 2.0, out=out) is out
    assert scan.read_patch(200, 150, 8, 2.0, out=out[0]).base is out
    np.testing.assert_array_equal(out[0], out[2])


def test_nothing_is_enlarged(section_picture, write_scan):
    path = write_scan(section_picture)

    with pytest.raises(ScanError, match=r"asked for pixels of 0\.5 µm") as fault:
        open_scan(path, 1.0).read_patch(10, 10, 8, 0.5)

    assert str(path) in str(fault.value)


def test_threads_read_what_one_thread_reads(section_picture, write_scan):
    scan = open_scan(write_scan(np.tile(section_picture, (4, 4)), tile=(64, 64), compression="deflate"), 1.0)
    centres = np.random.default_rng(3).integers(0, 1200, (200, 2))
    expected = scan.read_patches(centres, 16, 2.0)

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda c: scan.read_patch(c[0], c[1], 16, 2.0), centres))

    np.testing.assert_array_equal(np.stack(got), expected)


def test_an_open_scan_can_be_sent_to_another_process(section_picture, write_scan):
    """Loading workers get scans by pickle; a file descriptor cannot travel."""
    scan = open_scan(write_scan(section_picture.astype(np.uint16) * 3), 1.0, window=(0, 765))

    twin = pickle.loads(pickle.dumps(scan))

    np.testing.assert_array_equal(twin.read_patch(99, 99, 8, 1.0), scan.read_patch(99, 99, 8, 1.0))


def test_a_thumbnail_shows_the_whole_scan(section_picture, write_scan):
    thumbnail = open_scan(write_scan(section_picture, tile=(64, 64)), 1.0).thumbnail(42)

    expected = section_picture.reshape(30, 10, 42, 10).mean((1, 3))
    assert np.abs(thumbnail - expected).max() <= 0.5
    assert open_scan(write_scan(section_picture[:5, :7]), 1.0).thumbnail(100).shape == (5, 7)


def test_a_tile_that_the_file_leaves_out_is_slide(section_picture, tmp_path):
    import tifffile

    path = tmp_path / "sparse.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(section_picture, tile=(64, 64), metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tif:
        page = tif.pages.first
        for code in (324, 325):
            tag = page.tags[code]
            tag.overwrite([0, *tag.value[1:]])

    with open_scan(path, 1.0) as scan:
        assert (scan.read_patch(32, 32, 64, 1.0) == 240).all()


def test_a_file_that_changes_under_an_open_scan_is_noticed(section_picture, write_scan):
    path = write_scan(section_picture)
    scan = open_scan(path, 1.0)
    scan.close()
    write_scan(section_picture[:200], name=path.name)

    with pytest.raises(ScanError, match="changed while it was being read"):
        scan.read_patch(100, 100, 8, 1.0)
