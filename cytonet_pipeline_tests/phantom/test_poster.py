"""Brains of the poster's size: as large as announced to any reader, small on disk, the same at each level."""

import json
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.histology import open_scan, survey
from cytonet_pipeline.phantom import write_phantom
from cytonet_pipeline.phantom.poster import brains as poster
from cytonet_pipeline.phantom.poster.shared_tiles import TiledLevel, write_shared_tiles
from cytonet_pipeline.registration import resolve_chain
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline_tests.phantom.test_write import digests

pytestmark = pytest.mark.long

BLOCK = DatasetBlock(density_per_mm3=1, held_out="B20")
SMALL = {"brains": ("B01", "B20"), "sections": 9, "scale": "poster"}


@pytest.fixture(scope="module")
def written(tmp_path_factory, template) -> Path:
    """Nine sections of two brains; distances on a coarse grid, to be quick."""
    folder = tmp_path_factory.mktemp("poster") / "phantom"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(poster, "GRID_MM", 3.0)
        write_phantom(folder, reference=template, **SMALL)
        write_phantom(folder.parent / "again", reference=template, **SMALL)
    return folder


@pytest.fixture(scope="module")
def scans(written) -> list[Path]:
    return sorted(written.rglob("*_BF.tif"))


def test_scans_announce_the_posters_size_and_take_some_hundred_kilobytes(scans):
    assert len(scans) == 9
    for path in scans:
        with tifffile.TiffFile(path) as tif:
            assert tif.is_bigtiff
            assert tif.series[0].levels[0].shape == (80_000, 100_000)
        scan = open_scan(path)
        assert scan.pixel_um == 1.0
        assert scan.levels == [(80_000, 100_000), (20_000, 25_000), (5_000, 6_250), (1_250, 1_562)]
        assert path.stat().st_size < 250_000


def test_any_place_reads_as_tifffile_reads_it(scans):
    path = scans[2]
    places = np.random.default_rng(0).integers([256, 256], [99_700, 79_700], (25, 2))
    scan = open_scan(path)
    view = zarr.open(tifffile.imread(path, aszarr=True, level=0), mode="r")

    for x, y in places.tolist():
        expected = view[y - 128 : y + 128, x - 128 : x + 128]
        assert np.array_equal(scan.read_patch(x, y, 256, 1.0), expected)


def test_every_level_shows_the_same_section(scans):
    """A coarser level is the finer one averaged down: the reader may take either."""
    path = scans[2]
    levels = [zarr.open(tifffile.imread(path, aszarr=True, level=k), mode="r") for k in range(4)]
    small = np.asarray(levels[3][:], dtype=float)
    tissue = np.argwhere(small < small.max())

    for row, column in tissue[:: len(tissue) // 40]:
        for factor, level in ((64, levels[0]), (16, levels[1]), (4, levels[2])):
            block = level[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            assert abs(block.mean() - small[row, column]) <= 1


def test_the_survey_sees_tissue_and_finds_every_section_sound(written):
    brain = Dataset(written / "brains", BLOCK).brain("B01")

    sections = survey(brain, BLOCK)

    assert len(sections) == 5
    assert (sections["status"] != "rejected").all(), sections["reason"].tolist()
    assert sections["tissue_fraction"].iloc[1:-1].between(0.1, 0.9).all()
    assert sections["annotation_path"].notna().sum() == 1


def test_masks_lie_on_the_tissue_of_their_scans(written):
    brain = Dataset(written / "brains", BLOCK).brain("B01")
    section = brain.sections[2]
    mask = tifffile.imread(section.mask) > 0
    picture = open_scan(section.scan).thumbnail(mask.shape[1])

    dark = picture < open_scan(section.scan).background
    assert 0.02 < mask.mean() < 0.3
    assert dark[mask].mean() > 0.85


def test_gaps_between_sections_are_unequal_and_sections_cover_the_brain(written):
    chain = resolve_chain(Dataset(written / "brains", BLOCK).brain("B01"))
    y_mm = np.sort([placement.matrix[1, 3] for placement in chain.sections.values()])

    assert y_mm[-1] - y_mm[0] > 80
    assert np.ptp(np.diff(y_mm)) > 5


def test_nine_brains_share_four_thousand_sections_evenly():
    shares = poster.sections_by_brain(poster.BRAINS, poster.SECTIONS)

    assert sum(shares.values()) == 4128
    assert set(shares.values()) == {458, 459}


def test_the_same_arguments_give_the_same_bytes(written):
    assert digests(written / "brains") == digests(written.parent / "again" / "brains")
    assert json.loads((written / "phantom.json").read_text())["scale"] == "poster"


def test_fewer_sections_than_brains_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="at least one section per brain"):
        write_phantom(tmp_path / "p", brains=("B01", "B20"), sections=1, scale="poster")


@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(1, 100),
    height=st.integers(1, 100),
    tile=st.sampled_from([16, 32]),
    kinds=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_tiles_that_share_their_bytes_read_as_if_each_had_its_own(tmp_path_factory, width, height, tile, kinds, seed):
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (kinds, tile, tile), dtype=np.uint8)
    grid = rng.integers(0, kinds, (-(-height // tile), -(-width // tile)))
    tiles = [imagecodecs.zstd_encode(picture.tobytes()) for picture in pictures]
    path = tmp_path_factory.mktemp("tiles") / "shared.tif"

    write_shared_tiles(path, [TiledLevel(width, height, tile, grid, tiles)], 2.0)

    whole = pictures[grid].transpose(0, 2, 1, 3).reshape(grid.shape[0] * tile, grid.shape[1] * tile)
    assert np.array_equal(tifffile.imread(path), whole[:height, :width])
    assert path.stat().st_size < 600 + 8 * grid.size + len(np.unique(grid)) * (2 * tile * tile)
