"""Loading: the same pixels from a pack and from the scans, whatever reads ahead."""

import threading
import tracemalloc
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.learning.data.batches import bytes_held, load_batches
from cytonet_pipeline.learning.data.packing import pack
from cytonet_pipeline.learning.data.sampling import BLOCK, BatchSampler, Shuffle, blocks_of
from cytonet_pipeline.learning.data.sources import SectionPatches
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.prepare import finish
from cytonet_pipeline.learning.training.run import run

CPU = torch.device("cpu")


def sampler_of(folder, buffer=128, steps=9):
    patches = folder.patches
    section = np.unique((patches["brain"].astype(str) + patches["sample"].astype(str)), return_inverse=True)[1]
    block = blocks_of(section, patches["x_px"].to_numpy(), patches["y_px"].to_numpy())
    return BatchSampler(
        patches["patch_id"].to_numpy(), patches["brain"], (patches["role"] == "train").to_numpy(), batch_size=32,
        steps=steps, brain_floor=0.5, seed=0, shuffle=Shuffle(block, buffer),
    )  # fmt: skip


@pytest.fixture
def folder(tiny):
    return EncoderFolder(tiny.folder())


def test_a_pack_and_the_scans_give_the_same_pixels(tiny, folder):
    packed = pack(folder, tiny.data)
    scans = SectionPatches(folder, tiny.data, packed.edge_px)
    rows = np.random.default_rng(0).permutation(len(folder.patches))[:100]

    assert (scans.read(rows) == packed.read(rows)).all()


def test_a_section_may_be_read_in_parts(tiny, folder):
    """A shard of large patches lies on one section: packing would have one thread."""
    source = SectionPatches(folder, tiny.data, 25)
    rows = np.argsort(source.section_of, kind="stable")

    parts = source.parts(rows, at_most=7)

    assert max(len(part.rows) for part in parts) == 7
    assert (np.concatenate([part.rows for part in parts]) == rows).all()
    assert all((source.section_of[part.rows] == part.section).all() for part in parts)
    assert all((rows[part.first :][: len(part.rows)] == part.rows).all() for part in parts)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize(("start", "rank", "world_size"), [(0, 0, 1), (5, 1, 3)])
def test_batches_are_the_same_whatever_reads_them(tiny, folder, workers, start, rank, world_size):
    packed = pack(folder, tiny.data)
    sampler, steps = sampler_of(folder), range(start, 9)

    def part(step):
        return sampler.batch(step).of_rank(rank, world_size)

    for source in (packed, SectionPatches(folder, tiny.data, packed.edge_px)):
        batches = list(load_batches(source, part, steps, workers=workers, buffer_steps=4, device=CPU))

        assert [loaded.batch.step for loaded in batches] == list(range(start, 9))
        for loaded in batches:
            assert (loaded.batch.rows == part(loaded.batch.step).rows).all()
            assert (loaded.patches.numpy() == packed.read(loaded.batch.rows)).all()


def test_no_more_than_two_buffers_are_read_ahead(tiny, folder):
    source = SectionPatches(folder, tiny.data, 25)
    read = []
    once = source.read_part
    source.read_part = lambda part, out: read.append(len(part.rows)) or once(part, out)
    batches = load_batches(source, sampler_of(folder, steps=40).batch, range(40), workers=2, buffer_steps=4, device=CPU)

    next(batches)
    batches.close()

    assert sum(read) <= 2 * 4 * 32


@pytest.mark.parametrize("workers", [0, 2, 4])
@pytest.mark.parametrize("buffer_steps", [0, 4])
def test_a_rank_holds_as_many_bytes_as_bytes_held_says(tiny, folder, workers, buffer_steps):
    """Where nothing is computed between two batches, so that reading is always behind."""
    source = SectionPatches(folder, tiny.data, 201)
    source.read = lambda rows: np.zeros((len(rows), 201, 201), dtype=np.uint8)
    source.read_part = lambda part, out: out[part.first :][: len(part.rows)].fill(1) or len(part.rows)
    sampler = sampler_of(folder, steps=40)
    sampler.batch(39)
    buffered = source if buffer_steps else SimpleNamespace(read=source.read)

    tracemalloc.start()
    for _ in load_batches(buffered, sampler.batch, range(40), workers=workers, buffer_steps=buffer_steps, device=CPU):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    expected = bytes_held(32 * 201**2, workers, buffer_steps, locked=False)
    assert 0.7 * expected < peak < 1.05 * expected


@pytest.mark.parametrize("workers", [0, 2])
def test_a_scan_that_goes_away_is_named(tiny, workers):
    gone = tiny.sections.assign(path=tiny.sections["path"].replace(tiny.sections["path"].iloc[0], "gone.tif"))
    folder = EncoderFolder(type(tiny)(tiny.data, tiny.store, gone, tiny.patches).folder())
    source = SectionPatches(folder, tiny.data, 25)

    with pytest.raises(ScanError, match=r"gone\.tif"):
        list(load_batches(source, sampler_of(folder).batch, range(9), workers=workers, buffer_steps=4, device=CPU))


@pytest.mark.parametrize("loading", ["packed", "scans"])
def test_the_training_does_not_wait_for_pages_to_be_locked(tiny, folder, loading, monkeypatch):
    """32 patches of the poster are a copy of 270 MB. And a thread begins on the first GPU, which is another rank's."""
    packed, locked, current = pack(folder, tiny.data), [], []
    monkeypatch.setattr(torch.cuda, "device", lambda device: current.append(device) or nullcontext())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: locked.append(threading.get_ident()) or self)
    source = packed if loading == "packed" else SectionPatches(folder, tiny.data, packed.edge_px)
    second_gpu = torch.device("cuda", 1)

    batches = list(
        load_batches(source, sampler_of(folder).batch, range(9), workers=2, buffer_steps=4, device=second_gpu)
    )

    assert len(batches) == len(locked) == 9
    assert threading.get_ident() not in locked
    assert current == [second_gpu] * 9


def test_blocks_are_neighbours_on_one_section():
    rng = np.random.default_rng(0)
    section, x, y = rng.integers(0, 3, 600), *rng.integers(0, 10_000, (2, 600))

    block = blocks_of(section, x, y)

    sizes = np.bincount(block)
    assert sizes.max() == BLOCK
    assert len(sizes) == sum(-(-n // BLOCK) for n in np.bincount(section))
    assert all(len(set(section[block == b])) == 1 for b in range(len(sizes)))
    spread = [np.hypot(x[block == b].std(), y[block == b].std()) for b in range(len(sizes))]
    assert np.median(spread) < 0.5 * np.hypot(x.std(), y.std())


def test_a_buffer_holds_whole_blocks_and_mixes_them():
    rng = np.random.default_rng(0)
    section, x, y = np.repeat(np.arange(40), 100), *rng.integers(0, 10_000, (2, 4000))
    block = blocks_of(section, x, y)
    ids = rng.permutation(4000).astype(np.uint64)
    sampler = BatchSampler(
        ids, np.repeat("B01", 4000), np.ones(4000, bool), batch_size=64, steps=62, brain_floor=0, seed=3,
        shuffle=Shuffle(block, 512),
    )  # fmt: skip

    order = np.concatenate([sampler.batch(step).rows for step in range(62)])

    assert len(set(order)) == len(order)
    windows = [block[order[start : start + 512]] for start in range(0, 3584, 512)]
    # 512 patches of all 4000 at random would come from nearly all of the 280 blocks.
    assert max(len(set(window)) for window in windows) < 60
    assert len(set(windows[0][:64])) > 20


def test_batches_from_the_scans_do_not_depend_on_those_before(folder):
    walked, jumped = sampler_of(folder, steps=200), sampler_of(folder, steps=200)
    for step in range(150):
        batch = walked.batch(step)

    assert (batch.rows == jumped.batch(149).rows).all()


def test_a_run_from_the_scans_records_how_it_mixed(tiny):
    folder = tiny.folder(loading="scans", shuffle_buffer=64, steps=4)
    run(folder, tiny.data, CPU)

    assert finish(folder)["loading"] == {"from": "scans", "shuffle_buffer": 64, "block": BLOCK}
    assert not (tiny.store / "packed").exists()
