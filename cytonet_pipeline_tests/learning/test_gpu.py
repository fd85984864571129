"""What a GPU computes, against the CPU: loss, normalisation over ranks, memory-saving steps, and whole training runs.

Skipped without a GPU. Two ranks share one: NCCL refuses that, so they meet through gloo.
"""

import json
import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn import functional

from cytonet_pipeline.learning.backbones.encoders import new_encoder
from cytonet_pipeline.learning.data.packing import pack
from cytonet_pipeline.learning.data.sources import SectionPatches
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.losses.contrastive import DistanceWeightedContrastiveLoss
from cytonet_pipeline.learning.parallel.synced_batchnorm import synchronize_batch_norms
from cytonet_pipeline.learning.prepare import finish
from cytonet_pipeline.learning.training.loop import Training
from cytonet_pipeline.learning.training.run import DONE, run
from cytonet_pipeline.store import read_table

CPU, GPU = torch.device("cpu"), torch.device("cuda")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def exact_products():
    """TF32 keeps three digits; what is compared here is the arithmetic around it."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def test_the_loss_is_that_of_the_cpu_in_float64():
    generator = torch.Generator().manual_seed(0)
    z = functional.normalize(torch.randn(512, 64, generator=generator, dtype=torch.float64), dim=1)
    positions, brains = torch.rand(512, 3, generator=generator, dtype=torch.float64) * 100, torch.arange(512) % 4

    def loss_and_gradient(dtype, device):
        own = z.to(device, dtype).requires_grad_()
        loss = DistanceWeightedContrastiveLoss(length_mm=8.0, same_brain_weight=0.5, drop_same_brain_mm=1.0)
        value = loss(own, positions.to(device, dtype), brains.to(device))
        value.backward()
        return value.detach(), own.grad

    for ours, exact in zip(loss_and_gradient(torch.float32, GPU), loss_and_gradient(torch.float64, CPU), strict=True):
        assert float((ours.cpu() - exact).norm() / exact.norm()) < 1e-5


def ranks_share_a_gpu(rank, folder, port):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo")
    try:
        torch.save(normalised(rank, 2), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def normalised(rank, ranks):
    """Features, gradients (to be summed over ranks) and buffers of a rank's part of a batch."""
    torch.manual_seed(1)
    images, wanted = torch.rand(9, 1, 32, 32), torch.randn(9, 256)
    encoder = new_encoder("small", 0.5, 0.2, 0)
    encoder = (synchronize_batch_norms(encoder, GPU) if ranks > 1 else encoder).to(GPU)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        features = encoder(images[rank::ranks].to(GPU))
        (features * wanted[rank::ranks].to(GPU)).sum().backward()
    return {
        "features": features.detach().cpu(),
        "gradient": torch.cat([p.grad.flatten() for p in encoder.parameters()]).cpu(),
        "buffers": torch.cat([b.flatten().double() for b in encoder.buffers()]).cpu(),
    }


def test_normalisation_over_ranks_is_that_of_one_process(tmp_path):
    """`torch.nn.SyncBatchNorm`, on ranks of unequal numbers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    mp.spawn(ranks_share_a_gpu, args=(tmp_path, port), nprocs=2)
    alone = normalised(0, 1)
    together = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]

    for rank, results in enumerate(together):
        torch.testing.assert_close(results["features"], alone["features"][rank::2], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(results["buffers"], alone["buffers"], rtol=1e-5, atol=1e-6)
    gradient = together[0]["gradient"] + together[1]["gradient"]
    assert float((gradient - alone["gradient"]).norm() / alone["gradient"].norm()) < 1e-4


def first_loss(tiny, name, device, **block):
    folder = EncoderFolder(tiny.folder(name, steps=1, watch_every=1, backbone="resnet50", **block))
    packed = pack(folder, tiny.data)
    source = packed if folder.block.loading == "packed" else SectionPatches(folder, tiny.data, packed.edge_px)
    Training(folder, source, device).run(stop=False, report=lambda **_: None)
    row = read_table(folder.history, "history").iloc[-1]
    return float(row["loss"]), float(row["gradient_norm"])


@pytest.mark.parametrize(
    "block",
    [{}, {"activation_checkpointing": True}, {"chunk_size": 16}, {"loading": "scans", "shuffle_buffer": 64}],
    ids=["whole", "recomputed", "in pieces", "from scans"],
)
def test_a_step_is_that_of_the_cpu(tiny, block):
    """Augmentation, encoder, head, loss and gradient."""
    on_cpu = first_loss(tiny, "cpu", CPU, precision="float32", **block)
    on_gpu = first_loss(tiny, "gpu", GPU, precision="float32", **block)

    assert on_gpu == pytest.approx(on_cpu, rel=1e-2)


def test_bf16_is_used_if_the_gpu_has_it(tiny):
    wide = first_loss(tiny, "wide", GPU, precision="float32")
    narrow = first_loss(tiny, "narrow", GPU)

    assert narrow[0] == pytest.approx(wide[0], rel=0.05)
    assert (narrow == wide) is not torch.cuda.is_bf16_supported(including_emulation=False)


def test_a_run_begun_on_a_gpu_continues_without_one(tiny, caplog):
    """The checkpoint holds no trace of the device; the record names both."""
    folder = tiny.folder(steps=6, checkpoint_every=2, watch_every=6)
    stopped = Training(EncoderFolder(folder), pack(EncoderFolder(folder), tiny.data), GPU)
    assert not stopped.run(stop=True, report=lambda **_: None).finished

    assert run(folder, tiny.data, CPU) == DONE

    record = finish(folder)
    assert [each["device"] for each in record["runs"]] == [torch.cuda.get_device_name(), "cpu"]
    assert "goes on with" in caplog.text


def test_a_whole_training_leaves_what_evaluation_needs(tiny):
    folder = tiny.folder()

    assert run(folder, tiny.data, GPU) == DONE
    assert finish(folder)["figures"]["device"] == torch.cuda.get_device_name()
    assert json.loads((folder / "progress.json").read_text())["state"] == "done"
