"""Files that are damaged, or made to break readers: tifffile's pixels or a ScanError, fast and in little memory."""

import resource
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology import open_scan, scan_digest
from cytonet_pipeline_tests.histology.formats.pyramids import halved, write_pages, write_subifds
from cytonet_pipeline_tests.histology.formats.test_dialects import as_grey, whole

_READ_IN_1_GIB = """
import logging, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]) + (1 << 30),) * 2)
logging.disable()
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline_tests.histology.formats.test_dialects import whole
for path in sys.argv[2:]:
    try:
        whole(path)
        print("pixels")
    except ScanError as error:
        print("ScanError" if path in error.what else f"names no file: {error.what}")
"""


def attempt(read: Callable[..., Any], *args: Any) -> tuple[Any, ScanError | None]:
    """Return the result of a function, or the ScanError that it raises."""
    try:
        return read(*args), None
    except ScanError as error:
        return None, error


@pytest.mark.filterwarnings("ignore")
def test_files_that_broke_other_readers_give_their_pixels_or_a_scan_error(shared_data):
    paths = sorted((shared_data / "tiff_bad").glob("*.*"))
    assert len(paths) > 15
    for path in paths:
        pixels, error = attempt(whole, path)
        if error is None:
            assert np.abs(pixels - as_grey(path)).max() <= 0.5 + 1e-6, path
        else:
            assert str(path) in error.what


def test_files_that_broke_other_readers_need_neither_time_nor_memory(shared_data):
    paths = sorted(map(str, (shared_data / "tiff_bad").glob("*.*")))
    # What the interpreter and its libraries map by themselves does not count.
    probe = "import cytonet_pipeline.histology; print(open('/proc/self/statm').read().split()[0])"
    pages = int(subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout)

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _READ_IN_1_GIB, str(pages * resource.getpagesize()), *paths],
        capture_output=True,
        text=True,
        timeout=5 * len(paths),
        cwd=Path(__file__).parents[3],
    )

    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split("\n")[:-1]) <= {"pixels", "ScanError"}
    assert len(done.stdout.splitlines()) == len(paths)


@pytest.mark.parametrize("layout", ["subifds", "pages", "jpeg", "strips"])
def test_no_flipped_byte_gets_anything_but_pixels_or_a_scan_error(layout, section_picture, tmp_path):
    """Every byte of the header and the directory, and some of the pixels, set to other values one at a time."""
    path = tmp_path / "scan.tif"
    small = section_picture[60:188, 80:208]
    if layout == "subifds":
        write_subifds(path, [small, halved(small)], compression="deflate")
    elif layout == "pages":
        write_pages(path, [small, halved(small)])
    elif layout == "jpeg":
        tifffile.imwrite(path, small, tile=(64, 64), compression="jpeg", metadata=None)
    else:
        tifffile.imwrite(path, small, rowsperstrip=10, compression="lzw", metadata=None)
    sound = path.read_bytes()
    places = [*range(0, 420, 5), *np.random.default_rng(0).integers(0, len(sound), 30).tolist()]
    refused = 0
    for place in places:
        for value in (0, 255, sound[place] ^ 1):
            path.write_bytes(sound[:place] + bytes([value]) + sound[place + 1 :])
            _, error = attempt(_look_at, path)
            if error is not None:
                assert str(path) in error.what
                refused += 1
    assert refused > 20


def _look_at(path: Path) -> None:
    with open_scan(path, 1.0) as scan:
        scan.read_patch(64, 64, 8, 1.0)
        scan.verify()
    scan_digest(path)


def test_pixels_that_are_read_from_a_damaged_file_are_those_that_tifffile_reads(section_picture, tmp_path):
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, section_picture[100:164, 100:164], tile=(32, 32), metadata=None)
    sound, compared = path.read_bytes(), 0
    for place in [*range(0, 400, 2), *range(400, len(sound), 301)]:
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 2]) + sound[place + 1 :])
        pixels, error = attempt(whole, path)
        if error is None:
            with tifffile.TiffFile(path) as tif:
                page = tif.pages.first
                # Without the tag tifffile assumes 0 as well, libtiff 1.
                inverted = page.photometric == 0 and 262 in page.tags
                tiles = zip(page.dataoffsets, page.databytecounts, strict=False)
                # A tile that the file leaves out is 0 to tifffile, and slide here.
                held = np.array([offset > 0 and count > 0 for offset, count in tiles])
            expected = as_grey(path)
            expected = 255 - expected if inverted else expected
            shown = held.reshape(2, 2).repeat(32, 0).repeat(32, 1) if held.size == 4 else np.ones_like(expected, bool)
            assert np.abs(pixels - expected)[shown].max(initial=0) <= 0.5 + 1e-6, place
            compared += 1
    assert compared > 50


@pytest.mark.parametrize("share", [0.1, 0.6, 0.97])
def test_a_truncated_scan_is_found_without_reading_it(share, section_picture, write_scan):
    """Copying was interrupted; the directory at the front of the file still lists all tiles."""
    path = write_scan(section_picture, tile=(64, 64), compression="deflate")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    with pytest.raises(ScanError, match=r"truncated|no TIFF") as fault:
        open_scan(path, 1.0).verify()

    assert str(path) in fault.value.what


def with_tag(path: Path, changes: dict[int, int]) -> Path:
    """Change the value of tags of a little-endian classic TIFF, without regard to the rest."""
    data = bytearray(path.read_bytes())
    (offset,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, offset)
    for entry in range(offset + 2, offset + 2 + 12 * entries, 12):
        code, _, _ = struct.unpack_from("<HHI", data, entry)
        if code in changes:
            struct.pack_into("<HHII", data, entry, code, 4, 1, changes[code])
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {256: 2**31, 257: 2**31},
        {256: 2**31 - 1, 257: 2**31 - 1, 278: 2**31 - 1},
        {257: 0},
        {279: 2**31},
        {273: 2**32 - 5},
    ],
)
def test_announced_sizes_are_not_trusted(changes, section_picture, write_scan):
    path = with_tag(write_scan(section_picture, rowsperstrip=300, compression="zstd"), changes)

    with pytest.raises(ScanError) as fault, open_scan(path, 1.0) as scan:
        scan.read_patch(100, 100, 8, 1.0)

    assert str(path) in fault.value.what


@pytest.mark.parametrize(
    "tag",
    [
        pytest.param((324, 16, 1 << 20, 16), id="offsets"),
        pytest.param((330, 16, 1 << 20, 16), id="SubIFDs"),
        pytest.param((270, 2, 8 << 20, 16), id="descriptions"),
        pytest.param((33629, 5, 1 << 20, 16), id="planes of a MetaMorph stack"),
    ],
)
def test_a_tag_that_is_repeated_many_times_is_not_read_many_times(tag, tmp_path):
    """tifffile alone reads each of them: 200 times 8 MB become 8 GB of Python objects."""
    path, tile = tmp_path / "repeated.tif", 4096
    tags = [(256, 64), (257, 64), (258, 8), (259, 1), (262, 1), (277, 1), (278, 64), (273, 16), (279, tile)]
    entries = [struct.pack("<HHQQ", code, 4, 1, value) for code, value in tags]
    entries += [struct.pack("<HHQQ", *tag)] * 200
    with path.open("wb") as stream:
        stream.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16 + (8 << 20)))
        stream.write(bytes(8 << 20))
        stream.write(struct.pack("<Q", len(entries)) + b"".join(entries) + bytes(8))

    tracemalloc.start()
    with open_scan(path, 1.0) as scan:
        assert scan.read_patch(32, 32, 8, 1.0).shape == (8, 8)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak_bytes < 64 << 20


def test_a_jpeg_that_announces_more_than_its_tile_is_not_decoded(section_picture, write_scan):
    """Image codecs allocate what the data announces: 65535 × 65535 px would be 4 GiB."""
    path = write_scan(section_picture, tile=(512, 512), compression="jpeg")
    data = path.read_bytes()
    frame = data.index(b"\xff\xc0")
    path.write_bytes(data[: frame + 5] + b"\xff\xff\xff\xff" + data[frame + 9 :])

    with pytest.raises(ScanError, match="announces 65535 × 65535 px"):
        open_scan(path, 1.0).read_patch(100, 100, 8, 1.0)


def test_a_missing_file_and_one_that_is_no_tiff_are_named(tmp_path):
    (tmp_path / "text.tif").write_text("not an image")
    (tmp_path / "empty.tif").touch()
    for name, message in (("missing.tif", "not there"), ("text.tif", "no TIFF"), ("empty.tif", "no TIFF")):
        with pytest.raises(ScanError, match=message) as fault:
            open_scan(tmp_path / name, 1.0)
        assert str(tmp_path / name) in fault.value.what


def test_a_huge_uncompressed_strip_is_read_in_pieces(tmp_path):
    """700 MiB in one strip, more than a decoded strip may have; a sparse file, so that it costs no disk."""
    path = tmp_path / "huge.tif"
    tifffile.imwrite(path, shape=(24000, 30000), dtype=np.uint8, rowsperstrip=24000, metadata=None)
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages.first.dataoffsets[0]
    with path.open("r+b") as stream:
        stream.seek(offset + 20000 * 30000 + 17000)
        stream.write(bytes([200] * 50))

    with open_scan(path, 1.0) as scan:
        assert scan.read_patch(17025, 20000.5, 1, 1.0)[0, 0] == 200
        assert scan.read_patch(17025, 20001.5, 1, 1.0)[0, 0] == 0
