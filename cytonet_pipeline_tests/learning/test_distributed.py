"""Several ranks against one process: the same loss, the same gradient, the same batch statistics."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from cytonet_pipeline.learning.losses import DistanceWeightedContrastiveLoss, SupervisedContrastiveLoss
from cytonet_pipeline.learning.synced_batchnorm import synchronised

# Nine samples on two ranks: gloo gathers only equal sizes.
SIZES = (5, 4)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 6), nn.BatchNorm1d(6)
    ).double()


def batch():
    torch.manual_seed(1)
    n = sum(SIZES)
    return torch.rand(n, 1, 8, 8).double() * 3, torch.rand(n, 3).double() * 20, torch.arange(n) % 3


def losses():
    return {
        "k": DistanceWeightedContrastiveLoss(0.1, length_mm=8, same_brain_weight=0.5),
        "i": DistanceWeightedContrastiveLoss(0.1, length_mm=8, anchor="i", self_term=True, min_mass=1.0),
        "supcon": SupervisedContrastiveLoss(0.1),
    }


def gradients(model, name, images, positions, brains):
    """Loss, statistics, gradients and running statistics of one step."""
    loss = losses()[name]
    model.zero_grad()
    z = functional.normalize(model(images), dim=1)
    value = loss(z, brains + 1) if name == "supcon" else loss(z, positions, brains)
    value.backward()
    core = model.module if isinstance(model, DistributedDataParallel) else model
    return {
        "loss": loss.logged,
        **{key: torch.tensor(value) for key, value in loss.statistics().items()},
        **{name: p.grad.clone() for name, p in core.named_parameters()},
        **{name: b.clone() for name, b in core.named_buffers()},
    }


def rank_of(rank, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=len(SIZES))
    start = sum(SIZES[:rank])
    own = slice(start, start + SIZES[rank])
    images, positions, brains = batch()
    for name in losses():
        model = DistributedDataParallel(synchronised(network(), torch.device("cpu")), broadcast_buffers=False)
        result = gradients(model, name, images[own], positions[own], brains[own])
        torch.save(result, f"{folder}/{name}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(rank_of, args=(str(folder),), nprocs=len(SIZES))
    return folder


@pytest.mark.parametrize("name", ["k", "i", "supcon"])
@pytest.mark.parametrize("rank", range(len(SIZES)))
def test_two_ranks_compute_what_one_process_computes(two_ranks, name, rank):
    """Each rank owns its anchors; DDP averages, so a share of the loss must count twice."""
    alone = gradients(network(), name, *batch())

    together = torch.load(f"{two_ranks}/{name}-{rank}.pt", weights_only=True)

    assert together.keys() == alone.keys()
    for key, value in alone.items():
        torch.testing.assert_close(together[key].double(), value.double(), rtol=1e-9, atol=1e-12, msg=f"{key} differs")
