"""One training step: precision, clipping, compilation, memory layout."""

import shutil

import pytest
import torch

from cytonet_pipeline.learning.backbones.encoders import Encoder
from cytonet_pipeline.learning.data.batches import LoadedBatch
from cytonet_pipeline.learning.data.packing import pack
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.losses.objectives import ContrastiveObjective
from cytonet_pipeline.learning.training.loop import Training

CPU = torch.device("cpu")


def training(tiny, name="tiny", **block):
    folder = EncoderFolder(tiny.folder(name, **block))
    return Training(folder, pack(folder, tiny.data), CPU)


def step(training):
    batch = training.sampler.batch(0)
    return training.step(LoadedBatch(batch, torch.from_numpy(training.source.read(batch.rows)), 0.0))


def weights(training):
    return torch.cat([p.detach().flatten() for p in training.model.parameters()])


def test_bf16_ends_before_the_normalisation(tiny, monkeypatch):
    """bf16 keeps three digits, of which a temperature of 0.1 leaves two."""
    seen = {}
    loss = ContrastiveObjective.loss

    def recorded(self, output, rows):
        seen["head"] = output.dtype
        once = self._loss.forward
        self._loss.forward = lambda z, *given: seen.update(z=z.dtype, length=z.norm(dim=1)) or once(z, *given)
        value = loss(self, output, rows)
        seen["loss"] = value.dtype
        return value

    monkeypatch.setattr(ContrastiveObjective, "loss", recorded)
    bf16 = training(tiny, precision="bf16")
    step(bf16)

    assert (seen["head"], seen["z"], seen["loss"]) == (torch.bfloat16, torch.float32, torch.float32)
    torch.testing.assert_close(seen["length"], torch.ones_like(seen["length"]), atol=1e-6, rtol=0)
    assert {p.dtype for p in bf16.model.parameters()} == {torch.float32}


def test_bf16_gives_about_the_loss_of_float32(tiny):
    wide, narrow = step(training(tiny, "wide")), step(training(tiny, "narrow", precision="bf16"))

    assert narrow["loss"] == pytest.approx(wide["loss"], rel=0.02)
    assert narrow["loss"] != wide["loss"]


def test_bf16_does_not_round_where_pixels_lie(tiny, monkeypatch):
    """Autocast would compute the sampling grid in bf16: at the far side of a patch of 2048 px pixels off."""
    seen = []
    forward = Encoder.forward
    monkeypatch.setattr(Encoder, "forward", lambda self, images: seen.append(images) or forward(self, images))

    for precision in ("float32", "bf16"):
        for chunk_size in (None, 16):
            step(training(tiny, f"{precision}{chunk_size}", precision=precision, chunk_size=chunk_size))

    whole, first, second, *_ = seen
    assert len(seen) == 2 * (1 + 4)
    assert all(torch.equal(images, other) for images, other in zip(seen[:5], seen[5:], strict=True))
    assert len(first) + len(second) == len(whole)


def test_clipping_shortens_the_gradient_and_the_history_keeps_its_length(tiny):
    optimizer = {"name": "lars", "weight_decay": 0}
    free = training(tiny, "free", optimizer=optimizer)
    clipped = training(tiny, "clipped", optimizer={**optimizer, "clip_norm": 1e-3})

    assert step(free)["gradient_norm"] == step(clipped)["gradient_norm"] > 0.01
    norm = torch.cat([p.grad.flatten() for p in clipped.model.parameters()]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_images_and_filters_lie_channels_last(tiny):
    made = training(tiny, backbone="resnet50")
    batch = made.sampler.batch(0)
    images = made.images(torch.from_numpy(made.source.read(batch.rows)), batch.sample_keys)

    assert images.is_contiguous(memory_format=torch.channels_last)
    assert made.model.encoder.backbone.layer1[0].conv2.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_takes_the_same_step(tiny):
    eager, compiled = training(tiny, "eager"), training(tiny, "compiled", compile=True)

    expected, actual = step(eager), step(compiled)

    assert actual["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert actual["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-3)
    assert compiled.model.state_dict().keys() == eager.model.state_dict().keys()
