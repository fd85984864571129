"""Names of brains, sections and files."""

from pathlib import Path

import pytest

from cytonet_pipeline.dataset.names import parse_image, section_number, sidecar_of


@pytest.mark.parametrize("extension", [".tif", ".tiff", ".ome.tif", ".ome.btf", ".ome.zarr"])
def test_all_entities_of_a_file_name_are_read(extension):
    name = parse_image(f"sub-B20_sample-1786_acq-fast_run-2_chunk-03_stain-merker_BF{extension}")

    assert name is not None
    assert (name.brain, name.sample, name.stain, name.suffix) == ("B20", "1786", "merker", "BF")
    assert name.variant == ("fast", "2", "03")
    assert name.extension == extension


@pytest.mark.parametrize(
    "name", ["sub-B20_BF.tif", "sample-1_BF.tif", "notes.txt", "scan.tif", "sub-B20_sample-1_BF.json"]
)
def test_other_files_are_no_images_of_a_sample(name):
    assert parse_image(name) is None


@pytest.mark.parametrize(
    ("sample", "number"), [("1786", 1786), ("0010", 10), ("PTM902-N120-0360", 360), ("A", None), ("9" * 12, None)]
)
def test_the_section_number_is_the_last_number_in_the_name(sample, number):
    assert section_number(sample) == number


def test_the_sidecar_stands_beside_the_scan_under_its_whole_extension():
    assert sidecar_of(Path("a/x_BF.ome.tif")) == Path("a/x_BF.json")
    assert sidecar_of(Path("a/PTM902-2021.05.27_0360.jpg")) == Path("a/PTM902-2021.05.27_0360.json")
