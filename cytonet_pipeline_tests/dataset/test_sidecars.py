"""Pixel sizes in JSON sidecars: beside the scan, or inherited as in BIDS."""

import json

import pytest

from cytonet_pipeline.dataset.sidecars import sidecar_pixel_um, sidecars_of
from cytonet_pipeline.errors import DataFault

NAME = "sub-B20_sample-1786_stain-merker_BF"


@pytest.fixture
def scan(tmp_path):
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / "sub-B20/micr").mkdir(parents=True)
    return tmp_path / f"sub-B20/micr/{NAME}.ome.tif"


def give(path, size=None, unit="um", **more):
    size_keys = {} if size is None else {"PixelSize": [size, size]}
    path.write_text(json.dumps({**size_keys, **({"PixelSizeUnits": unit} if unit else {}), **more}))


@pytest.mark.parametrize(
    "place",
    ["BF.json", "stain-merker_BF.json", "sub-B20/sub-B20_BF.json", "sub-B20/micr/sub-B20_stain-merker_BF.json"],
)
def test_a_sidecar_of_a_higher_level_holds_for_every_scan_with_its_entities(place, scan, tmp_path):
    give(tmp_path / place, 64)

    assert sidecar_pixel_um(scan) == 64
    assert sidecars_of(scan) == [tmp_path / place]


@pytest.mark.parametrize("place", ["stain-nissl_BF.json", "PC.json", "sub-B21_BF.json", "sub-B20/micr/x_BF.json"])
def test_a_sidecar_of_other_scans_does_not(place, scan, tmp_path):
    give(tmp_path / place, 64)

    assert sidecar_pixel_um(scan) is None
    assert sidecars_of(scan) == []


def test_the_nearest_file_that_has_a_key_counts(scan, tmp_path):
    give(tmp_path / "BF.json", 64)
    give(tmp_path / "sub-B20/sub-B20_BF.json", 2, unit=None)
    assert sidecar_pixel_um(scan) == 2

    give(scan.with_name(f"{NAME}.json"), unit="mm", SliceThickness=20)
    assert sidecar_pixel_um(scan) == 2000

    give(scan.with_name(f"{NAME}.json"), 5)
    assert sidecar_pixel_um(scan) == 5
    assert sidecars_of(scan) == [scan.with_name(f"{NAME}.json")]


def test_two_files_of_equal_standing_that_differ_are_a_fault(scan, tmp_path):
    give(tmp_path / "sub-B20_BF.json", 1)
    give(tmp_path / "stain-merker_BF.json", 2)

    with pytest.raises(DataFault, match=r"stain-merker_BF\.json and sub-B20_BF\.json give different PixelSize"):
        sidecar_pixel_um(scan)


@pytest.mark.parametrize(
    "extension", [".tif", ".tiff", ".ome.tif", ".ome.tiff", ".ome.btf", ".btf", ".ome.zarr", ".png"]
)
def test_one_sidecar_serves_every_spelling_of_the_extension(extension, scan):
    give(scan.with_name(f"{NAME}.json"), 32)

    assert sidecar_pixel_um(scan.with_name(NAME + extension)) == 32


def test_a_sidecar_that_keeps_ome_in_its_name_is_read_too(scan):
    give(scan.with_name(f"{NAME}.ome.json"), 32)

    assert sidecar_pixel_um(scan) == 32


def test_outside_of_a_data_set_nothing_is_inherited_from_above(tmp_path):
    (tmp_path / "here").mkdir()
    give(tmp_path / "BF.json", 64)

    assert sidecar_pixel_um(tmp_path / f"here/{NAME}.tif") is None
