"""Activation checkpointing: less is kept, and the results of training are the same."""

import copy

import pytest
import torch
from torch import nn

from cytonet_pipeline.learning.backbones.encoders import new_encoder
from cytonet_pipeline.learning.backbones.recomputation import checkpoint_activations, frozen_statistics
from cytonet_pipeline.learning.parallel.synced_batchnorm import synchronize_batch_norms
from cytonet_pipeline.learning.training.run import run

CPU = torch.device("cpu")


def step(encoder, images):
    """Run both passes and return the bytes kept for the backward pass; gradients and buffers are set afterwards."""
    kept = {}

    def packed(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(packed, lambda tensor: tensor):
        features = encoder(images)
    features.square().sum().backward()
    return sum(kept.values())


@pytest.mark.parametrize("normalisation", ["plain", "synchronised", "cumulative"])
@pytest.mark.parametrize("backbone", ["small", pytest.param("resnet50", marks=pytest.mark.long)])
def test_gradients_and_buffers_are_those_of_the_plain_computation(backbone, normalisation):
    """A plain recomputation would update the running statistics twice, and count every batch twice."""
    plain = new_encoder(backbone, 0.5, 0.2, 0)
    if normalisation == "synchronised":
        synchronize_batch_norms(plain, CPU)
    if normalisation == "cumulative":
        for layer in plain.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None
    recomputing = copy.deepcopy(plain)
    checkpoint_activations(recomputing)
    images = torch.rand(6, 1, 40, 40)

    for _ in range(2):
        step(plain, images)
        step(recomputing, images)

    assert plain.state_dict().keys() == recomputing.state_dict().keys()
    for (name, value), other in zip(plain.state_dict().items(), recomputing.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
    for (name, value), other in zip(plain.named_parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(other.grad, value.grad, rtol=1e-6, atol=0, msg=name)


def test_less_is_kept_for_the_backward_pass():
    plain = new_encoder("resnet50", 0.5, 0.2, 0)
    recomputing = copy.deepcopy(plain)
    checkpoint_activations(recomputing)
    images = torch.rand(8, 1, 64, 64)
    weights = sum(p.numel() * 4 for p in plain.parameters())

    assert step(recomputing, images) < 0.5 * (step(plain, images) - weights)


def test_statistics_stay_frozen_and_outputs_are_those_of_training():
    encoder = new_encoder("small", 0.5, 0.2, 0)
    before = copy.deepcopy(encoder.state_dict())
    images = torch.rand(6, 1, 40, 40)

    with torch.no_grad(), frozen_statistics(encoder):
        frozen = encoder(images)

    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert torch.equal(frozen, encoder(images))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch's SyncBatchNorm refuses CPU tensors")
def test_the_synchronised_normalisation_of_torch_is_frozen_too():
    layer = nn.SyncBatchNorm(4).cuda()
    with frozen_statistics(layer):
        layer(torch.rand(8, 4, 3, 3, device="cuda"))

    assert int(layer.num_batches_tracked) == 0
    assert (layer.running_mean == 0).all()


def test_training_with_recomputation_gives_the_same_weights(tiny):
    from safetensors.torch import load_file

    folders = [tiny.folder(str(flag), steps=4, activation_checkpointing=flag) for flag in (False, True)]
    for folder in folders:
        run(folder, tiny.data, CPU)

    plain, recomputed = (load_file(folder / "encoder.safetensors") for folder in folders)
    for name, value in plain.items():
        torch.testing.assert_close(recomputed[name], value, rtol=1e-4, atol=1e-6, msg=name)
