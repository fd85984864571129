"""Resources that a process spends on its scans: few decoded tiles, few open files, little memory per handle."""

import os
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cytonet_pipeline.histology import open_scan
from cytonet_pipeline.histology.formats.files import OPEN_FILES
from cytonet_pipeline.histology.formats.tiff.levels import TiffLevel
from cytonet_pipeline.histology.pixels.tiles import DEFAULT_BYTES, TileCache, set_tile_budget, tile_cache
from cytonet_pipeline.patches.ids import morton_of
from cytonet_pipeline_tests.histology.formats.announced import write_announced


@pytest.fixture
def budget():
    """Set the budget of decoded tiles for one test."""
    yield set_tile_budget
    set_tile_budget(DEFAULT_BYTES)


@pytest.fixture
def decoded(monkeypatch) -> Counter:
    """Count how often each tile is read and decoded."""
    count: Counter = Counter()
    read = TiffLevel._read

    def counted(level, run, row):
        count.update((row, column) for column, *_ in run)
        return read(level, run, row)

    monkeypatch.setattr(TiffLevel, "_read", counted)
    return count


def test_decoded_tiles_of_all_scans_together_stay_in_the_budget(write_scan, budget):
    budget(100_000)
    scans = [open_scan(write_scan(np.zeros((1000, 1000), np.uint8), tile=(64, 64)), 1.0) for _ in range(3)]

    for scan in scans:
        scan.read_patch(500, 500, 100, 10.0)
        assert 0 < tile_cache().held_bytes <= 100_000


def test_tiles_that_are_never_needed_again_are_not_cached_and_others_are():
    cache = TileCache(budget_bytes=100 * 64)
    new = iter(range(10**6))
    while cache.worth_keeping:
        keys = [next(new) for _ in range(20)]
        assert cache.find(keys) == [None] * 20
        cache.pass_by(keys, 64)

    for _ in range(60):
        cache.find(range(40))
        cache.pass_by(range(40), 64)

    assert cache.worth_keeping


def test_a_tile_makes_room_for_newer_ones_unless_it_is_used():
    cache = TileCache(budget_bytes=3 * 64)
    for key in range(3):
        cache.keep(key, np.full((8, 8), key, np.uint8))
    cache.find([0])
    cache.keep(3, np.full((8, 8), 3, np.uint8))

    kept = [tile is not None for tile in cache.find([0, 1, 2, 3])]

    assert kept == [True, False, True, True]
    assert cache.held_bytes == 3 * 64


@pytest.mark.parametrize("batch", [1, 64, 10_000])
def test_a_section_read_in_index_order_decodes_tiles_once_and_seldom_twice(batch, tmp_path, decoded, budget):
    """A sixteenth of a section of 100,000 × 80,000 px in all lengths, patches of 2048 px, cache and tiles alike."""
    budget(DEFAULT_BYTES // 256)
    with open_scan(write_announced(tmp_path / "s.tif", 100_000 // 16, 80_000 // 16, 32), 1.0) as scan:
        inside = np.random.default_rng(0).uniform(0, 1, (30_000, 2))
        radius = np.hypot((inside[:, 0] - 0.5) / 0.46, (inside[:, 1] - 0.5) / 0.45)
        centres = (inside[(radius < 1) & (radius > 0.8)][:2400] * [scan.width_px, scan.height_px]).astype(int)
        centres = centres[np.argsort(morton_of(*centres.T))]
        scan.background  # noqa: B018
        decoded.clear()
        for begin in range(0, len(centres), batch):
            scan.read_patches(centres[begin : begin + batch], 2048 // 16, 1.0)

    assert len(decoded) > 5000
    assert sum(decoded.values()) <= 1.2 * len(decoded)


def test_a_handle_of_a_scan_of_the_posters_size_costs_little(tmp_path):
    """100,000 × 80,000 px in tiles of 256 px: 120,000 offsets, which would take 8 MiB as Python objects."""
    path = write_announced(tmp_path / "s.tif", 100_000, 80_000, 256)
    open_scan(path, 1.0).read_patch(50_000, 40_000, 64, 1.0)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        scan = open_scan(path, 1.0)
        scan.read_patch(50_000, 40_000, 64, 1.0)
        held, peak = (size - before for size in tracemalloc.get_traced_memory())
    finally:
        tracemalloc.stop()

    assert scan.width_px == 100_000
    assert held < 4 << 20
    assert peak < 8 << 20


def test_tables_too_long_to_be_held_are_read_where_they_are_needed(tmp_path):
    path = write_announced(tmp_path / "s.tif", 100_000, 80_000, 128)
    scan = open_scan(path, 1.0)

    here, there = (scan.read_patch(*centre, 128, 1.0) for centre in ((64, 64), (64 + 128 * 600, 64 + 128 * 400)))

    np.testing.assert_array_equal(here, there)
    assert here.std() > 0


def test_open_files_are_bounded_and_every_scan_still_reads(section_picture, write_scan):
    path = write_scan(section_picture)
    scans = []
    for number in range(OPEN_FILES + 20):
        link = path.with_name(f"link{number}.tif")
        link.symlink_to(path)
        scans.append(open_scan(link, 1.0))
    before = len(os.listdir("/proc/self/fd"))

    patches = [scan.read_patch(200, 150, 8, 1.0) for scan in (*scans, *scans)]

    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert all((patch == patches[0]).all() for patch in patches)


def test_threads_with_a_small_budget_read_what_one_thread_reads(write_scan, budget):
    """Tiles are evicted while other threads read; each thread has scratch memory of its own."""
    budget(50_000)
    picture = np.random.default_rng(5).integers(0, 256, (900, 1100), dtype=np.uint8)
    options = [{"compression": "zstd"}, {}, {"compression": "jpeg2000"}]
    scans = [open_scan(write_scan(picture, tile=(64, 64), **option), 1.0) for option in options]
    centres = np.random.default_rng(3).integers(-20, 1000, (240, 2)).tolist()
    pixels = [1.0, 2.0, 1.7]
    jobs = [(scans[i % 3], x, y, pixels[i % 2 + (i % 5 == 0)]) for i, (x, y) in enumerate(centres)]
    expected = [scan.read_patch(x, y, 90, um) for scan, x, y, um in jobs]

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda job: job[0].read_patch(job[1], job[2], 90, job[3]), jobs))

    np.testing.assert_array_equal(np.stack(got), np.stack(expected))
