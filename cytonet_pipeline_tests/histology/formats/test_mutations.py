"""Bytes of small sound TIFFs changed at random: pixels of the right shape or a ScanError, fast, and nothing else."""

import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology import open_scan, scan_digest
from cytonet_pipeline_tests.histology.formats.pyramids import halved, write_pages, write_subifds

_SOON_S = 5.0


def _picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (96, 112), dtype=np.uint8)


@cache
def _sound(dialect: str, folder: Path) -> bytes:
    path, grey = folder / "sound.tif", _picture()
    colours = np.stack([grey, grey[::-1], 255 - grey], -1)
    plain = {
        "zstd tiles": (grey, {"tile": (32, 48), "compression": "zstd"}),
        "big-endian BigTIFF": (grey, {"tile": (32, 32), "bigtiff": True, "byteorder": ">", "compression": "lzw"}),
        "strips": (grey, {"rowsperstrip": 7}),
        "16 bit with a predictor": (
            grey.astype(np.uint16) * 257,
            {"tile": (32, 32), "compression": "deflate", "predictor": True},
        ),
        "colour JPEG": (colours, {"tile": (32, 32), "compression": "jpeg", "photometric": "rgb"}),
        "separate planes": (np.moveaxis(colours, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        "JPEG 2000": (grey, {"tile": (32, 32), "compression": "jpeg2000"}),
        "transparency": (
            np.dstack([colours, grey]),
            {"photometric": "rgb", "extrasamples": ["unassalpha"], "tile": (32, 32)},
        ),
    }
    if dialect == "SubIFDs":
        write_subifds(path, [grey, halved(grey), halved(halved(grey))], compression="deflate")
    elif dialect == "pages":
        write_pages(path, [grey, halved(grey)], compression="jpeg")
    elif dialect == "OME series":
        with tifffile.TiffWriter(path, ome=True) as writer:
            writer.write(grey[:20, :24], metadata={"axes": "YX", "Name": "label"})
            writer.write(np.stack([grey] * 3), tile=(32, 32), photometric="minisblack", metadata={"axes": "CYX"})
    elif dialect == "thumbnail first":
        write_pages(path, [grey[:40, :50], halved(grey), grey])
    else:
        pixels, options = plain[dialect]
        tifffile.imwrite(path, pixels, metadata=None, resolution=(1000, 1000), **options)
    return path.read_bytes()


DIALECTS = [
    "zstd tiles",
    "big-endian BigTIFF",
    "strips",
    "16 bit with a predictor",
    "colour JPEG",
    "separate planes",
    "JPEG 2000",
    "SubIFDs",
    "pages",
    "transparency",
    "OME series",
    "thumbnail first",
]


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes_give_pixels_or_a_scan_error(dialect, data, tmp_path):
    sound = _sound(dialect, tmp_path)
    damaged = bytearray(sound)
    # Header and directories matter more than pixels: tifffile writes them first, pages' at their ends.
    where = st.one_of(st.integers(0, 15), st.integers(0, min(600, len(sound) - 1)), st.integers(0, len(sound) - 1))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(where)] = data.draw(st.sampled_from([0, 1, 2, 7, 127, 128, 254, 255]))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(sound))))
    path = tmp_path / "scan.tif"
    path.write_bytes(damaged[:cut])

    began = time.perf_counter()
    try:
        with open_scan(path, 1.0) as scan:
            patch = scan.read_patch(48, 40, 24, 2.0)
            thumbnail = scan.thumbnail(64)
            assert patch.shape == (24, 24)
            assert patch.dtype == thumbnail.dtype == np.uint8
            assert 1 <= thumbnail.shape[1] <= 64
            scan.verify()
        scan_digest(path)
    except ScanError as error:
        assert str(path) in error.what  # noqa: PT017
    assert time.perf_counter() - began < _SOON_S


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=400),
    big=st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0" + b"\x10" + bytes(7), b""]),
)
def test_arbitrary_bytes_are_no_tiff_or_one_that_can_be_read(data, big, tmp_path):
    path = tmp_path / "scan.tif"
    path.write_bytes(big + data)
    try:
        with open_scan(path, 1.0) as scan:
            assert scan.read_patch(1, 1, 4, 1.0).shape == (4, 4)
    except ScanError as error:
        assert str(path) in error.what  # noqa: PT017
