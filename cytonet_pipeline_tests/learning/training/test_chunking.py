"""Cached contrastive gradients: the gradient of the whole batch from pieces of it."""

import copy
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cytonet_pipeline.learning.data.batches import LoadedBatch
from cytonet_pipeline.learning.data.packing import pack
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.losses.contrastive import DistanceWeightedContrastiveLoss
from cytonet_pipeline.learning.prepare import finish
from cytonet_pipeline.learning.training.chunking import chunked_backward, pieces
from cytonet_pipeline.learning.training.loop import Training
from cytonet_pipeline.learning.training.run import run

CPU = torch.device("cpu")
B = 24


def network(normalisation):
    torch.manual_seed(0)
    layer = {"group": nn.GroupNorm(2, 8), "batch": nn.BatchNorm2d(8), "eval": nn.BatchNorm2d(8).eval()}[normalisation]
    return nn.Sequential(nn.Conv2d(1, 8, 3), layer, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 6))


def batch():
    torch.manual_seed(1)
    return torch.rand(B, 1, 8, 8), torch.rand(B, 3) * 20


def loss_of(positions):
    loss = DistanceWeightedContrastiveLoss(0.1, length_mm=8)
    return lambda output: loss(functional.normalize(output, dim=1), positions)


def gradients(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def relative(one, other):
    return float((one - other).norm() / other.norm())


def in_pieces(model, parts):
    images, positions = batch()
    order = torch.from_numpy(np.concatenate(parts))
    loss, output = chunked_backward(
        model,
        [partial(images.__getitem__, torch.from_numpy(p)) for p in parts],
        loss_of(positions[order]),
        nullcontext(),
    )
    return loss, output


@pytest.mark.parametrize("normalisation", ["group", "eval"])
@pytest.mark.parametrize("chunk_size", [2, 7, 12])
def test_layers_that_look_at_each_sample_alone_get_the_gradient_of_the_full_batch(normalisation, chunk_size):
    whole, model = network(normalisation), network(normalisation)
    images, positions = batch()
    full = loss_of(positions)(whole(images))
    full.backward()

    loss, output = in_pieces(model, pieces(B, 1, 0, chunk_size))

    assert relative(loss, full.detach()) < 1e-5
    assert relative(gradients(model), gradients(whole)) < 1e-5
    assert output.shape == (B, 6)


@pytest.mark.parametrize("chunk_size", [5, 12])
def test_batch_normalisation_gets_the_gradient_of_the_same_pieces_with_graph(chunk_size):
    model, with_graph = network("batch"), network("batch")
    images, positions = batch()
    parts = pieces(B, 1, 0, chunk_size)
    output = torch.cat([with_graph(images[part]) for part in parts])
    loss_of(positions[np.concatenate(parts)])(output).backward()
    full = network("batch")
    loss_of(positions)(full(images)).backward()

    in_pieces(model, parts)

    assert relative(gradients(model), gradients(with_graph)) < 1e-5
    # Not the gradient of the full batch: that is what the documents say.
    assert relative(gradients(model), gradients(full)) > 1e-3
    for name, value in with_graph.named_buffers():
        assert torch.equal(dict(model.named_buffers())[name], value), name


@pytest.mark.parametrize("batch_size", [8, 9, 64, 513])
@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("chunk_size", [2, 3, 16, 1000])
def test_every_rank_has_as_many_pieces_none_too_large_and_none_of_one_sample(batch_size, world_size, chunk_size):
    cuts = [pieces(batch_size, world_size, rank, chunk_size) for rank in range(world_size)]

    assert len({len(cut) for cut in cuts}) == 1
    for rank, cut in enumerate(cuts):
        assert sorted(np.concatenate(cut)) == list(range(len(range(rank, batch_size, world_size))))
        assert min(map(len, cut)) >= 2
        # A last sample alone would have no variance: it goes with the others.
        assert max(map(len, cut)) <= chunk_size + (chunk_size < 4)


def test_every_piece_has_samples_of_all_brains(tiny):
    folder = EncoderFolder(tiny.folder(chunk_size=8))
    training = Training(folder, pack(folder, tiny.data), CPU)
    brains = folder.patches["brain"].to_numpy()

    for step in range(3):
        rows = training.sampler.batch(step).rows
        assert all(len(set(brains[rows[piece]])) == 3 for piece in training.pieces)


def test_both_passes_see_the_same_augmented_images(tiny, monkeypatch):
    folder = EncoderFolder(tiny.folder(chunk_size=16))
    training = Training(folder, pack(folder, tiny.data), CPU)
    passes = []
    images_of = Training.images

    def recorded(*given):
        images = images_of(*given)
        passes.append(images.clone())
        return images

    monkeypatch.setattr(Training, "images", recorded)
    loaded = training.sampler.batch(0)
    training.step(LoadedBatch(loaded, torch.from_numpy(training.source.read(loaded.rows)), 0.0))

    assert len(passes) == 4
    assert torch.equal(passes[0], passes[2])
    assert torch.equal(passes[1], passes[3])
    assert not torch.equal(passes[0], passes[1])


def test_running_statistics_count_every_piece_once(tiny):
    folder = EncoderFolder(tiny.folder(chunk_size=8, steps=3))
    training = Training(folder, pack(folder, tiny.data), CPU)
    before = copy.deepcopy(training.model.encoder.state_dict())

    training.run(stop=False, report=lambda **_: None)

    after = training.model.encoder.state_dict()
    counted = [after[name] - before[name] for name in after if name.endswith("num_batches_tracked")]
    assert set(map(int, counted)) == {3 * 4}


def test_the_record_says_what_batch_normalisation_saw(tiny):
    folder = tiny.folder(chunk_size=8, steps=2)
    run(folder, tiny.data, CPU)

    record = finish(folder)

    assert record["fitting"]["chunk_size"] == 8
    assert record["fitting"]["batch_norm_samples"] == 8
    assert any("batch normalisation sees 8 samples" in warning for warning in record["warnings"])


def test_a_loss_that_is_not_finite_is_named_in_pieces_too(tiny):
    from cytonet_pipeline.errors import TrainingError

    folder = EncoderFolder(tiny.folder(chunk_size=8))
    training = Training(folder, pack(folder, tiny.data), CPU)
    with torch.no_grad():
        training.model.head[-1].weight[0] = torch.inf

    with pytest.raises(TrainingError, match=r"loss is not finite in step 1; patches \d+"):
        training.run(stop=False, report=lambda **_: None)
