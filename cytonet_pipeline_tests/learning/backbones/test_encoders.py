"""Encoders: made from a seed, written so that torchvision reads them."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.learning.backbones.encoders import (
    load_encoder,
    new_encoder,
    projection_head,
    read_metadata,
    save_encoder,
)
from cytonet_pipeline.learning.backbones.torchvision_import import torchvision_models
from cytonet_pipeline.learning.planning.pass_cost import pass_cost


@pytest.mark.parametrize(("backbone", "dim"), [("small", 256), ("resnet50", 2048), ("resnet101", 2048)])
def test_an_encoder_turns_grey_patches_of_any_size_into_features(backbone, dim):
    encoder = new_encoder(backbone, 0.5, 0.2, 0).eval()

    with torch.no_grad():
        for size in (32, 45):
            assert encoder(torch.rand(2, 1, size, size)).shape == (2, dim)
    assert encoder.feature_dim == dim


def test_weights_are_a_function_of_the_seed():
    torch.manual_seed(1)
    one = new_encoder("small", 0.5, 0.2, 7).state_dict()
    torch.manual_seed(2)
    same, other = new_encoder("small", 0.5, 0.2, 7).state_dict(), new_encoder("small", 0.5, 0.2, 8).state_dict()

    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_making_an_encoder_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)

    new_encoder("small", 0.5, 0.2, 0)
    projection_head(8, 4, 0)

    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101"])
def test_the_file_loads_into_torchvision(tmp_path, backbone):
    """Users should not need this package to use an encoder."""
    encoder = new_encoder(backbone, 0.6, 0.2, 0).eval()
    save_encoder(tmp_path / "encoder.safetensors", encoder, {})
    theirs = getattr(torchvision_models(), backbone)()
    theirs.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    theirs.fc = nn.Identity()

    theirs.load_state_dict(load_file(tmp_path / "encoder.safetensors"), strict=True)

    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()((images - 0.6) / 0.2), encoder(images))


def test_a_read_encoder_gives_the_same_features(tmp_path):
    encoder = new_encoder("small", 0.6, 0.2, 0)
    encoder(torch.rand(64, 1, 32, 32))
    save_encoder(tmp_path / "encoder.safetensors", encoder.eval(), {"work_px": 32, "working_pixel_um": 128.0})
    images = torch.rand(3, 1, 32, 32)

    for place in (tmp_path, str(tmp_path / "encoder.safetensors")):
        read = load_encoder(place)
        assert not read.training
        assert torch.equal(read(images), encoder(images))
    metadata = read_metadata(tmp_path)
    assert (metadata["work_px"], metadata["working_pixel_um"], metadata["mean"]) == (32, 128.0, 0.6)


@pytest.mark.parametrize("damage", ["missing", "truncated", "other", "unknown backbone"])
def test_a_file_that_is_no_encoder_is_named(tmp_path, damage):
    path = tmp_path / "encoder.safetensors"
    if damage == "truncated":
        save_encoder(path, new_encoder("small", 0.5, 0.2, 0), {})
        path.write_bytes(path.read_bytes()[:5000])
    if damage == "other":
        path.write_text("not safetensors")
    if damage == "unknown backbone":
        save_file({"weight": torch.zeros(1)}, path, {"backbone": '"vgg"', "mean": "0.5", "std": "0.2"})

    with pytest.raises(TrainingError, match=r"encoder\.safetensors"):
        load_encoder(tmp_path)


def test_a_step_of_the_small_encoder_is_cheap():
    """600 steps of 512 samples are meant for two CPU cores and a minute or two; `cytonet bench train` has the time."""
    cost = pass_cost("small", 512, 32, bf16=False, recomputed=False)

    assert cost.flops < 12e9
    assert cost.kept_bytes < 100e6
