"""Which reader opens a scan: by its content first, by its name where the content is of no known format."""

import pytest

from cytonet_pipeline.dataset import SCAN_FORMATS
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology import open_scan
from cytonet_pipeline.histology.formats import registry
from cytonet_pipeline.histology.formats.reader import Reader
from cytonet_pipeline_tests.histology.formats.zarrs import write_ome_zarr


def test_every_format_that_discovery_knows_has_a_reader():
    assert registry.READERS.keys() == SCAN_FORMATS.keys()
    assert all(issubclass(reader, Reader) and reader.format == name for name, reader in registry.READERS.items())


def test_a_format_without_a_reader_is_an_error_that_names_both_lists(monkeypatch):
    monkeypatch.setitem(registry.SCAN_FORMATS, "CZI", (".czi",))

    with pytest.raises(LookupError, match=r"names OME-Zarr, TIFF, PNG and JPEG, CZI, but .* has readers of OME-Zarr"):
        registry._collect()


def test_the_content_decides_and_not_the_name(section_picture, write_scan, tmp_path):
    """A section table may name any file, such as an .svs or a Zarr folder without .ome."""
    tiff = write_scan(section_picture, name="scan.svs")
    zarr = write_ome_zarr(tmp_path / "scan.tif", [section_picture])

    assert open_scan(tiff, 1.0).reader.format == "TIFF"
    assert open_scan(zarr, 1.0).reader.format == "OME-Zarr"


@pytest.mark.parametrize(
    ("name", "fault"),
    [("a.czi", "begins with b'PNG!'"), ("a.tif", "is no TIFF"), ("a.png", "is no PNG or JPEG"), ("dir", "folder")],
)
def test_what_is_of_no_known_format_is_refused_by_name(name, fault, tmp_path):
    path = tmp_path / name
    if name == "dir":
        path.mkdir()
    else:
        path.write_bytes(b"PNG!" * 8)

    with pytest.raises(ScanError, match=fault) as error:
        open_scan(path, 1.0)

    assert str(path) in error.value.what
