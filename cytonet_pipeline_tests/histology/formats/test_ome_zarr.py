"""OME-Zarr scans against what the library `zarr` reads from the same folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from cytonet_pipeline.dataset import Pick
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology import open_scan, scan_digest
from cytonet_pipeline_tests.histology.formats.pyramids import halved
from cytonet_pipeline_tests.histology.formats.test_dialects import whole
from cytonet_pipeline_tests.histology.formats.zarrs import write_ome_zarr

DIALECTS = {
    "0.4, Zstd": {"version": 2},
    "0.4, nothing": {"version": 2, "compressors": None},
    "0.4, Blosc": {"version": 2, "compressors": zarr.codecs.numcodecs.Blosc(cname="lz4", shuffle=2).codec_config},
    "0.4, columns first": {"version": 2, "order": "F"},
    "0.4, folders": {"version": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "0.5, Zstd": {"version": 3},
    "0.5, nothing": {"version": 3, "compressors": None},
    "0.5, Blosc": {"version": 3, "compressors": BloscCodec()},
    "0.5, Gzip": {"version": 3, "compressors": GzipCodec()},
    "0.5, checksums": {"version": 3, "compressors": [Crc32cCodec(), ZstdCodec(), Crc32cCodec()]},
    "0.5, big-endian": {"version": 3, "serializer": BytesCodec(endian="big")},
    "0.5, transposed": {"version": 3, "filters": [TransposeCodec(order=(1, 0))]},
    "0.5, shards": {"version": 3, "shards": (128, 192)},
    "0.5, dots": {"version": 3, "chunk_key_encoding": {"name": "default", "separator": "."}},
}


@pytest.fixture
def picture() -> np.ndarray:
    """Not a whole number of chunks, and 16 bit."""
    return np.random.default_rng(0).integers(0, 65536, (200, 330), dtype=np.uint16)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_pixels_are_those_that_zarr_reads(dialect, picture, tmp_path):
    path = write_ome_zarr(tmp_path / "scan.ome.zarr", [picture], **DIALECTS[dialect])
    read = zarr.open_group(path, mode="r")["0"][:]

    assert np.abs(whole(path) - read * (255 / 65535)).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("version", [2, 3])
def test_a_pyramid_of_one_plane_is_read_at_the_next_finer_level(version, section_picture, tmp_path):
    levels = [section_picture, halved(section_picture)]
    path = write_ome_zarr(
        tmp_path / "scan.ome.zarr", [level[None, None, None] for level in levels], version=version, um=0.5
    )

    with open_scan(path) as scan:
        assert scan.pixel_um == 0.5
        assert scan.levels == [(300, 420), (150, 210)]
        assert (scan.bits, scan.background) == (8, 240)
        patch = scan.read_patch(200, 150, 64, 1.0)
        outside = scan.read_patch(-100, -100, 8, 0.5)
    np.testing.assert_array_equal(patch, levels[1][43:107, 68:132])
    assert (outside == 240).all()


@pytest.mark.parametrize("together", [False, True])
def test_three_channels_become_luminance(together, tmp_path):
    colours = np.random.default_rng(1).integers(0, 256, (3, 90, 70), dtype=np.uint8)
    path = tmp_path / "scan.ome.zarr"
    write_ome_zarr(path, [colours])
    if together:
        group = zarr.open_group(path, mode="r+")
        del group["0"]
        group.create_array("0", shape=(3, 90, 70), chunks=(3, 64, 64), dtype="u1")[:] = colours

    expected = np.moveaxis(colours, 0, -1) @ [0.299, 0.587, 0.114]
    assert np.abs(whole(path) - expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(("unit", "um"), [("millimeter", 2000.0), ("nanometer", 0.002), ("micrometer", 2.0)])
def test_pixel_size_comes_from_scale_and_unit(unit, um, tmp_path):
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [np.zeros((8, 8), np.uint8)], um=2.0, unit=unit)

    assert open_scan(path).pixel_um == pytest.approx(um)


def test_without_a_unit_the_pixel_size_comes_from_the_sidecar_alone(tmp_path):
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [np.zeros((8, 8), np.uint8)], um=None)
    with pytest.raises(ScanError, match="nothing says how large its pixels are"):
        open_scan(path)

    (tmp_path / "a.json").write_text(json.dumps({"PixelSize": 3, "PixelSizeUnits": "um"}))

    assert open_scan(path).pixel_um == 3.0


def test_a_chunk_that_is_left_out_has_the_fill_value(section_picture, tmp_path):
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [section_picture], fill_value=77)
    (path / "0" / "0.0").unlink()

    np.testing.assert_array_equal(whole(path), zarr.open_group(path, mode="r")["0"][:])
    assert whole(path)[0, 0] == 77


def test_the_digest_follows_the_content_and_not_the_name(section_picture, tmp_path):
    one, two = (write_ome_zarr(tmp_path / name, [section_picture]) for name in ("a.ome.zarr", "b.ome.zarr"))
    assert scan_digest(one) == scan_digest(two)

    zarr.open_group(two, mode="r+")["0"][150, 200] += 1

    assert scan_digest(one) != scan_digest(two)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        (".zattrs", {"multiscales": []}, "no OME-Zarr"),
        (".zattrs", {"multiscales": [{"datasets": 7}]}, "cannot be read"),
        (".zattrs", {"multiscales": [{"axes": ["x", "y"], "datasets": [{"path": "0"}]}]}, "axes"),
        (".zattrs", {"multiscales": [{"axes": ["y", "x"], "datasets": [{"path": "../../other"}]}]}, "outside"),
        ("0/.zarray", {"shape": [2**40, 2**40]}, "announces"),
        ("0/.zarray", {"chunks": [2**20, 2**20]}, "announces chunks"),
        ("0/.zarray", {"chunks": [64, 0]}, "announces"),
        ("0/.zarray", {"shape": "wide"}, "shape"),
        ("0/.zarray", {"dtype": "<f8"}, "samples"),
        ("0/.zarray", {"compressor": {"id": "pickle"}}, "codec pickle"),
        ("0/.zarray", {"filters": [{"id": "pickle"}]}, "filters"),
    ],
)
def test_metadata_are_not_trusted(file, changes, message, section_picture, tmp_path):
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [section_picture])
    content = json.loads((path / file).read_text()) | changes
    (path / file).write_text(json.dumps(content))

    with pytest.raises(ScanError, match=message) as fault:
        open_scan(path, 1.0)

    assert str(path) in fault.value.what


def test_an_image_announced_larger_than_it_is_costs_nothing(section_picture, tmp_path):
    """A Zarr may leave chunks out, so it may have any size; reading a patch costs as much as the patch."""
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [section_picture], fill_value=200)
    content = json.loads((path / "0/.zarray").read_text()) | {"shape": [2**30, 2**30]}
    (path / "0/.zarray").write_text(json.dumps(content))

    with open_scan(path, 1.0) as scan:
        assert (scan.read_patch(2**29, 2**29, 16, 1.0) == 200).all()


@pytest.mark.parametrize("compressor", ["zstd", "gzip", "blosc"])
def test_a_chunk_that_unpacks_to_more_than_its_size_is_refused(compressor, tmp_path):
    """A gigabyte of zeros compresses to less than a megabyte."""
    import imagecodecs

    path = write_ome_zarr(tmp_path / "a.ome.zarr", [np.zeros((64, 64), np.uint8) + 1])
    content = json.loads((path / "0/.zarray").read_text()) | {"compressor": {"id": compressor}}
    (path / "0/.zarray").write_text(json.dumps(content))
    packed = getattr(imagecodecs, f"{compressor}_encode")(bytes(1 << 26))
    (path / "0/0.0").write_bytes(packed)

    with pytest.raises(ScanError, match="row 0, column 0") as fault:
        open_scan(path, 1.0).read_patch(32, 32, 8, 1.0)

    assert str(path) in fault.value.what


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), version=st.sampled_from([2, 3]))
def test_no_flipped_byte_gets_anything_but_pixels_or_a_scan_error(data, version, section_picture, tmp_path):
    path = tmp_path / f"{version}.ome.zarr"
    if not path.exists():
        shards = {"shards": (128, 128)} if version == 3 else {}
        write_ome_zarr(path, [section_picture[60:188, 80:208]], version=version, **shards)
    files: list[Path] = sorted(file for file in path.rglob("*") if file.is_file() and "zgroup" not in file.name)
    file = data.draw(st.sampled_from(files))
    sound = file.read_bytes()
    place = data.draw(st.integers(0, len(sound) - 1))
    damaged = data.draw(
        st.one_of(
            st.just(sound[:place]), st.integers(0, 255).map(lambda v: sound[:place] + bytes([v]) + sound[place + 1 :])
        )
    )
    try:
        file.write_bytes(damaged)
        with open_scan(path, 1.0) as scan:
            assert scan.read_patch(64, 64, 16, 2.0).shape == (16, 16)
            scan.verify()
    except ScanError as error:
        assert str(path) in error.what  # noqa: PT017
    finally:
        file.write_bytes(sound)


def write_group_of(path: Path, *images: np.ndarray, um: float | None = 1.0) -> Path:
    """Write what bioformats2raw writes: a group per image."""
    path.mkdir()
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    for number, image in enumerate(images):
        write_ome_zarr(path / str(number), [image], um=um)
    return path


def test_of_several_images_the_scan_is_found_and_a_label_is_said(section_picture, tmp_path):
    path = write_group_of(tmp_path / "a.ome.zarr", section_picture[:40, :50], section_picture, um=None)

    with open_scan(path, 3.0) as scan:
        assert scan.levels == [(300, 420)]
        assert scan.reader.doubts == ("series 0: 50 × 40 px is taken for a label or thumbnail and passed over",)
    # Of the same pixel size it could be a second, smaller section.
    with pytest.raises(ScanError, match="series 0: 420 × 300 px; series 1: 50 × 40 px"):
        open_scan(write_group_of(tmp_path / "b.ome.zarr", section_picture, section_picture[:40, :50]))


def test_a_series_is_picked_by_the_number_of_its_group(section_picture, tmp_path):
    path = write_group_of(tmp_path / "a.ome.zarr", section_picture, section_picture[:250])

    assert open_scan(path, pick=Pick(series=1)).levels == [(250, 420)]
    with pytest.raises(ScanError, match="has no series 2; it holds series 0: 420 × 300 px"):
        open_scan(path, pick=Pick(series=2))
    with pytest.raises(ScanError, match="has no page 1"):
        open_scan(path, pick=Pick(page=1))


def test_channels_with_other_names_than_the_colours_are_refused(section_picture, tmp_path):
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [np.stack([section_picture] * 3)])
    group = zarr.open_group(path, mode="r+")
    group.attrs["omero"] = {"channels": [{"label": name, "color": "FFFFFF"} for name in ("DAPI", "GFP", "Cy5")]}

    with pytest.raises(ScanError, match="DAPI, GFP, Cy5, not red, green and blue"):
        open_scan(path)


@pytest.mark.parametrize(("unit", "what"), [(None, "without a unit"), ("parsec", "'parsec', a unit that is not")])
def test_a_scale_that_is_not_understood_is_named(unit, what, section_picture, tmp_path):
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [section_picture], um=0.5, unit=unit)

    with pytest.raises(ScanError, match="nothing says how large") as fault:
        open_scan(path)

    assert "a scale of 0.5 × 0.5" in str(fault.value)
    assert what in str(fault.value)


@pytest.mark.parametrize("version", [2, 3])
def test_a_plate_of_wells_is_refused_and_its_images_are_read(version, tmp_path):
    plate = {"plate": {"rows": [{"name": "A"}], "columns": [{"name": "1"}], "wells": [{"path": "A/1"}]}}
    path, picture = tmp_path / "plate.ome.zarr", np.full((40, 50), 200, np.uint8)
    zarr.open_group(path, mode="w", zarr_format=version).attrs.update(plate if version == 2 else {"ome": plate})

    with pytest.raises(ScanError, match=r"plate\.ome\.zarr: is a plate of wells") as refused:
        open_scan(path, 1.0)
    assert "one of its images" in refused.value.to_fix
    field = write_ome_zarr(path / "A/1/0", [picture], version=version)
    assert whole(field).tolist() == picture.tolist()
