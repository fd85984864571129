"""Packs: patches read once from the scans, shared, whole or not there at all."""

import numpy as np
import pytest

from cytonet_pipeline.errors import ScanError, TrainingError
from cytonet_pipeline.histology import open_scan
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.packing import pack
from cytonet_pipeline.learning.scans import SectionScans, read_by_section


def test_a_pack_holds_what_the_scans_hold_row_by_row(tiny):
    folder = EncoderFolder(tiny.folder())
    packed = pack(folder, tiny.data)
    size = packed.read(np.array([0])).shape[1]

    for row in (0, 100, len(folder.patches) - 1):
        patch = folder.patches.iloc[row]
        section = folder.sections.query("brain == @patch.brain and sample == @patch['sample']").iloc[0]
        with open_scan(tiny.data / section["path"], pixel_um=64.0) as scan:
            direct = scan.read_patch(int(patch["x_px"]), int(patch["y_px"]), size, 64.0)
        assert (packed.read(np.array([row]))[0] == direct).all()


def test_encoders_with_the_same_patches_share_a_pack(tiny, tmp_path):
    pack(EncoderFolder(tiny.folder("one")), tiny.data)
    other = EncoderFolder(tiny.folder("two", method="supcon", seed=5))

    pack(other, tmp_path / "no scans are needed any more")

    assert len(list((tiny.store / "packed").glob("[!.]*"))) == 1


@pytest.mark.parametrize("change", [{"working_pixel_um": 128.0}, {"augmentation": {"crop_jitter_px": 6}}])
def test_another_pixel_size_or_margin_is_another_pack(tiny, change):
    pack(EncoderFolder(tiny.folder("one")), tiny.data)
    pack(EncoderFolder(tiny.folder("two", **change)), tiny.data)

    assert len(list((tiny.store / "packed").glob("[!.]*"))) == 2


def test_a_scan_that_cannot_be_read_leaves_no_pack(tiny):
    gone = tiny.sections.assign(path=tiny.sections["path"].replace(tiny.sections["path"].iloc[-1], "gone.tif"))
    folder = EncoderFolder(type(tiny)(tiny.data, tiny.store, gone, tiny.patches).folder())

    with pytest.raises(ScanError, match=r"gone\.tif"):
        pack(folder, tiny.data)

    assert list((tiny.store / "packed").iterdir()) == []


def test_a_damaged_pack_is_read_again(tiny):
    folder = EncoderFolder(tiny.folder())
    pack(folder, tiny.data)
    (file,) = (tiny.store / "packed").glob("*/patches.npy")
    whole = file.read_bytes()
    file.write_bytes(whole[:1000])

    pack(folder, tiny.data)

    assert file.read_bytes() == whole


def test_the_intensity_window_of_a_section_is_used(tiny):
    windowed = tiny.sections.assign(window_low=100.0, window_high=200.0)
    rows = tiny.patches.iloc[:5]

    ((_, plain),) = read_by_section(rows, SectionScans(tiny.data, tiny.sections), 8, 64.0)
    ((_, stretched),) = read_by_section(rows, SectionScans(tiny.data, windowed), 8, 64.0)
    ((_, by_brain),) = read_by_section(
        rows,
        SectionScans(tiny.data, tiny.sections.drop(columns=["window_low", "window_high"]), lambda _: (100, 200)),
        8,
        64.0,
    )

    expected = ((plain.astype(float) - 100) / 100 * 255).clip(0, 255)
    np.testing.assert_allclose(stretched, expected, atol=2)
    assert (by_brain == stretched).all()


def test_a_section_that_the_table_does_not_know_is_named(tiny):
    with pytest.raises(TrainingError, match="sub-B77, sample 0001"):
        SectionScans(tiny.data, tiny.sections)("B77", "0001")
