"""Several ranks on the CPU against one process: the same loss, gradient and batch statistics."""

import os
import socket
from contextlib import nullcontext

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.learning.backbones.encoders import new_encoder
from cytonet_pipeline.learning.backbones.recomputation import checkpoint_activations
from cytonet_pipeline.learning.losses.contrastive import DistanceWeightedContrastiveLoss, SupervisedContrastiveLoss
from cytonet_pipeline.learning.parallel.distributed import (
    any_rank,
    data_parallel,
    lost_ranks_explained,
    process_group,
    same_on_all,
    summed,
)
from cytonet_pipeline.learning.parallel.synced_batchnorm import SyncedBatchNorm, synchronize_batch_norms
from cytonet_pipeline.learning.training.chunking import chunked_backward, pieces

# On one worker of pytest-xdist: each would start the same processes.
pytestmark = pytest.mark.xdist_group("ranks")
CPU = torch.device("cpu")
FITTED = 16

# Ranks hold unequal numbers of them.
SAMPLES = 9


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 6), nn.BatchNorm1d(6)
    ).double()


def batch():
    torch.manual_seed(1)
    n = SAMPLES
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


def join(folder, rank, size):
    """Join the process group with the environment that torchrun would set."""
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": (folder / "port").read_text(),
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
    }
    torch.set_num_threads(1)
    return process_group(CPU)


def compute_as_rank(rank, folder, sizes):
    with join(folder, rank, len(sizes)):
        start = sum(sizes[:rank])
        own = slice(start, start + sizes[rank])
        images, positions, brains = batch()
        for name in losses():
            model = data_parallel(synchronize_batch_norms(network(), CPU))
            result = gradients(model, name, images[own], positions[own], brains[own])
            torch.save(result, f"{folder}/{name}-{rank}.pt")
        torch.save(agreed(rank), f"{folder}/agreed-{rank}.pt")
        torch.save(fitted(rank, len(sizes)), f"{folder}/fitted-{rank}.pt")
        torch.save(narrow(), f"{folder}/narrow-{rank}.pt")
        torch.save(largest_tensors(len(sizes)), f"{folder}/largest-{rank}.pt")


def free_port(folder):
    with socket.create_server(("127.0.0.1", 0)) as server:
        (folder / "port").write_text(str(server.getsockname()[1]))


@pytest.fixture(scope="module", params=[(5, 4), (2, 3, 2, 2)], ids=["two ranks", "four ranks"])
def ranks(request, tmp_path_factory):
    """Results of every rank in a folder, and the number of ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    free_port(folder)
    mp.spawn(compute_as_rank, args=(folder, request.param), nprocs=len(request.param))
    return folder, len(request.param)


@pytest.mark.parametrize("name", ["k", "i", "supcon"])
def test_ranks_compute_what_one_process_computes(ranks, name):
    """Each rank owns its anchors; DDP averages, so a share of the loss must count as often as there are ranks."""
    folder, count = ranks
    alone = gradients(network(), name, *batch())

    for rank in range(count):
        together = torch.load(f"{folder}/{name}-{rank}.pt", weights_only=True)
        assert together.keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(
                together[key].double(), value.double(), rtol=1e-9, atol=1e-12, msg=f"{key} differs"
            )


def float32_values(rank):
    return torch.rand(10_001, generator=torch.Generator().manual_seed(rank)) ** 9


def agreed(rank):
    """A sum over ranks, and answers that every rank must get alike."""
    answers = same_on_all(7, CPU), same_on_all(rank, CPU), any_rank(rank == 1, CPU), any_rank(False, CPU)
    return summed(float32_values(rank)), answers


def test_every_rank_gets_the_same_sums_and_answers(ranks):
    """To the last bit: a decision on a sum must be the same everywhere, or ranks would wait for each other."""
    folder, count = ranks
    exact = sum(float32_values(rank).double() for rank in range(count))
    first, _ = torch.load(f"{folder}/agreed-0.pt", weights_only=True)

    torch.testing.assert_close(first.double(), exact, rtol=1e-6, atol=0)
    for rank in range(count):
        values, answers = torch.load(f"{folder}/agreed-{rank}.pt", weights_only=True)
        assert torch.equal(values, first)
        assert answers == (True, False, True, False)


def fitted(rank, world_size):
    """Loss, gradients and buffers of an encoder that recomputes its activations and takes its batch in two pieces."""
    encoder = new_encoder("small", 0.5, 0.2, 0).double()
    synchronize_batch_norms(encoder, CPU)
    checkpoint_activations(encoder)
    model = data_parallel(encoder)
    images, positions = fitted_batch()
    parts = [torch.from_numpy(part) for part in pieces(FITTED, world_size, rank, FITTED // world_size // 2)]
    own, places = images[rank::world_size], positions[rank::world_size][torch.cat(parts)]
    loss = losses()["i"]
    chunked_backward(
        model,
        [lambda part=part: own[part] for part in parts],
        lambda output: loss(functional.normalize(output.double(), dim=1), places, torch.zeros(len(places)).long()),
        nullcontext(),
    )
    return results_of(loss, encoder)


def fitted_batch():
    torch.manual_seed(2)
    return torch.rand(FITTED, 1, 16, 16).double(), torch.rand(FITTED, 3).double() * 20


def results_of(loss, encoder):
    gradient = {name: p.grad.clone() for name, p in encoder.named_parameters()}
    return {"loss": loss.logged, **gradient, **{name: b.clone() for name, b in encoder.named_buffers()}}


def test_recomputation_and_pieces_across_ranks_are_those_of_one_process(ranks):
    """A piece is what all ranks put through the network at the same time."""
    folder, count = ranks
    images, positions = fitted_batch()
    encoder = new_encoder("small", 0.5, 0.2, 0).double()
    of_piece = torch.arange(FITTED) // count % 2
    order = torch.cat([torch.nonzero(of_piece == piece)[:, 0] for piece in (0, 1)])
    output = torch.cat([encoder(images[of_piece == piece]) for piece in (0, 1)])
    loss = losses()["i"]
    loss(functional.normalize(output, dim=1), positions[order], torch.zeros(FITTED).long()).backward()
    alone = results_of(loss, encoder)

    for rank in range(count):
        together = torch.load(f"{folder}/fitted-{rank}.pt", weights_only=True)
        assert together.keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(
                together[key].double(), value.double(), rtol=1e-9, atol=1e-12, msg=f"{key} differs"
            )


def narrow():
    """Normalise bf16 values far from 0, where the mean could cancel the variance."""
    layer = SyncedBatchNorm(3)
    values = (1000 + torch.arange(24.0).reshape(4, 3, 2) % 5).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(values)
    output.float().square().sum().backward()
    return {"output": output.detach(), "variance": layer.running_var}


def test_values_of_low_precision_far_from_zero_are_normalised(ranks):
    folder, count = ranks
    values = (1000 + torch.arange(24.0).reshape(4, 3, 2) % 5).bfloat16()
    expected = functional.batch_norm(values.float(), None, None, training=True)

    for rank in range(count):
        output = torch.load(f"{folder}/narrow-{rank}.pt", weights_only=True)["output"]
        assert output.dtype == torch.bfloat16
        torch.testing.assert_close(output.float(), expected, atol=0.01, rtol=0.01)


BATCH = 128


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that is made, in the backward pass too."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        made = (leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
        self.numel = max(self.numel, *made, 0)
        return result


def largest_tensors(world_size):
    """Number of elements of the largest tensor per loss of BATCH samples, forward and backward."""
    own = BATCH // world_size
    z = functional.normalize(torch.rand(own, 4), dim=1).requires_grad_()
    sizes = {}
    for name, loss in losses().items():
        with Largest() as largest:
            brains = torch.arange(own) % 3
            value = loss(z, brains + 1) if name == "supcon" else loss(z, torch.rand(own, 3) * 20, brains)
            value.backward()
        sizes[name] = largest.numel
    return sizes


def test_no_rank_holds_more_of_a_matrix_than_its_own_rows(ranks):
    """O(B²/W): a rank owns its anchors and compares them with all samples."""
    folder, count = ranks

    for rank in range(count):
        for name, largest in torch.load(f"{folder}/largest-{rank}.pt").items():
            assert largest == BATCH * BATCH // count, name


def left_alone(rank, folder, messages):
    with join(folder, rank, 2):
        if rank == 0:
            try:
                with lost_ranks_explained():
                    summed(torch.ones(3))
            except TrainingError as error:
                messages.put(str(error))


def test_a_rank_whose_other_has_ended_says_so(tmp_path):
    """It does not wait for ever, and points to the log that has the reason."""
    free_port(tmp_path)
    messages = mp.get_context("spawn").SimpleQueue()
    mp.spawn(left_alone, args=(tmp_path, messages), nprocs=2)
    assert not messages.empty()
    assert "rank 0 has lost another rank" in messages.get()
