"""Packs: patches read once from the scans, shared, whole or not there at all."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from cytonet_pipeline.errors import ScanError, StoreError, TrainingError
from cytonet_pipeline.histology import open_scan
from cytonet_pipeline.learning.data.packing import open_pack, pack
from cytonet_pipeline.learning.data.scans import SectionScans, read_by_section
from cytonet_pipeline.learning.data.sources import SectionPatches
from cytonet_pipeline.learning.folder import EncoderFolder


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

    assert list((tiny.store / "packed").rglob("*shard*")) == []


def test_tiles_that_a_codec_refuses_name_section_file_and_remedy(tiny, tmp_path):
    row = tiny.sections.iloc[0]
    scan = tmp_path / row["path"]
    scan.parent.mkdir(parents=True)
    tifffile.imwrite(scan, tifffile.imread(tiny.data / row["path"]), compression="deflate", metadata=None)
    data = bytearray(scan.read_bytes())
    with tifffile.TiffFile(scan) as file:
        for start, size in zip(file.pages.first.dataoffsets, file.pages.first.databytecounts, strict=True):
            data[start : start + size] = b"\xa5" * size
    scan.write_bytes(data)
    patches = tiny.patches.query("brain == @row.brain and sample == @row['sample']")

    with pytest.raises(ScanError, match=f"sub-{row['brain']}, sample {row['sample']}: {scan}: .* cannot be") as raised:
        list(read_by_section(patches, SectionScans(tmp_path, tiny.sections), 8, 64.0))

    assert "copy the scan again" in raised.value.to_fix
    assert "cytonet withdraw" in raised.value.to_fix


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


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of 50 patches."""
    monkeypatch.setattr("cytonet_pipeline.learning.data.shards.SHARD_BYTES", 50 * 28**2)


def shards_of(tiny):
    return sorted((tiny.store / "packed").glob("*/shard-?????.npy"))


def test_packing_continues_with_the_shards_that_are_missing(tiny, small_shards):
    folder = EncoderFolder(tiny.folder())
    counts = []

    def stop_after_half(done, total):
        counts.append(done)
        if done > total / 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        pack(folder, tiny.data, report=stop_after_half)
    before = {path: path.stat().st_mtime_ns for path in shards_of(tiny)}
    counts.clear()
    packed = pack(folder, tiny.data, report=lambda done, total: counts.append(done))

    assert 3 < len(before) < len(shards_of(tiny))
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    assert counts[0] > len(before) * 40
    assert counts[-1] == len(folder.patches)
    rows = np.arange(len(folder.patches))
    assert (packed.read(rows) == SectionPatches(folder, tiny.data, packed.edge_px).read(rows)).all()


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "sums"])
def test_a_damaged_shard_is_found_when_it_is_read_and_made_again(tiny, small_shards, damage, caplog):
    folder = EncoderFolder(tiny.folder())
    rows = np.arange(len(folder.patches))
    whole = pack(folder, tiny.data).read(rows)
    victim = shards_of(tiny)[2]
    content = bytearray(victim.read_bytes())
    content[-2000] ^= 1
    if damage == "flipped":
        victim.write_bytes(content)
    if damage == "cut":
        victim.write_bytes(content[:-100])
    if damage == "gone":
        victim.unlink()
    if damage == "sums":
        victim.with_suffix(".sums.npy").write_bytes(b"")

    again = open_pack(folder, tiny.data).read(rows)

    assert (again == whole).all()
    assert "shard 2 is damaged" in caplog.text
    assert (open_pack(folder, tiny.data).read(rows) == whole).all()


def test_a_disk_that_returns_other_bytes_every_time_is_given_up(tiny, small_shards, monkeypatch):
    packed = pack(EncoderFolder(tiny.folder()), tiny.data)
    sums = itertools.count()
    monkeypatch.setattr("cytonet_pipeline.learning.data.shards.zlib.crc32", lambda data: next(sums))

    with pytest.raises(StoreError, match="damaged again after they have been rewritten"):
        packed.read(np.arange(3))


@pytest.mark.long
def test_processes_that_pack_at_once_share_the_work(tiny, small_shards):
    """Nodes with a common file system; nodes with disks of their own find every shard free."""
    folder = tiny.folder()
    code = (
        "import sys; from pathlib import Path\n"
        "import cytonet_pipeline.learning.data.shards as shards; shards.SHARD_BYTES = 50 * 28**2\n"
        "from cytonet_pipeline.learning.folder import EncoderFolder\n"
        "from cytonet_pipeline.learning.data import packing\n"
        "write, mine = packing.PackedPatches.write, []\n"
        "packing.PackedPatches.write = lambda self, shard, *more: (mine.append(shard), write(self, shard, *more))\n"
        "packing.pack(EncoderFolder(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))\n"
        "print(*mine)"
    )
    arguments = [sys.executable, "-c", code, str(folder), str(tiny.data), str(tiny.store / "shared")]
    nodes = [
        subprocess.Popen(
            arguments,
            env={**os.environ, "GROUP_RANK": str(n), "GROUP_WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    written = [[int(shard) for shard in node.communicate(timeout=120)[0].split()] for node in nodes]

    count = len(list((tiny.store / "shared").glob("*/shard-?????.npy")))
    assert sorted(written[0] + written[1]) == list(range(count))
    assert [node.returncode for node in nodes] == [0, 0]


@pytest.mark.long
def test_the_packs_of_a_node_lie_where_the_environment_says(tiny, tmp_path):
    folder = tiny.folder(steps=1)
    command = [sys.executable, "-m", "cytonet_pipeline.learning", str(folder), "--data", str(tiny.data)]

    subprocess.run(
        command, env={**os.environ, "CYTONET_PACKS": str(tmp_path / "nvme")}, check=True, capture_output=True
    )

    assert list((tmp_path / "nvme").glob("*/shard-*.npy"))
    assert not (tiny.store / "packed").exists()
