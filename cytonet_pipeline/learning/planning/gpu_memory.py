"""Memory that a training step needs on one GPU and on its node, and the changes that make it fit.

What the network keeps comes from a walk through it (`pass_cost`). What a process needs beside its tensors is a stated
assumption; nothing is measured here.
"""

from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from cytonet_pipeline.learning.data.augmentation import margin_px
from cytonet_pipeline.learning.data.batches import bytes_held
from cytonet_pipeline.learning.planning.gpus import Gpu
from cytonet_pipeline.learning.planning.pass_cost import augmentation_bytes, pass_cost, weights_of
from cytonet_pipeline.learning.training.chunking import ENOUGH_FOR_BATCH_NORM
from cytonet_pipeline.settings import EncoderBlock

GIB = 2**30
# Driver context and communication buffers; largest workspace of a convolution; unused gaps between tensors.
CONTEXT_GIB = 1.5
WORKSPACE_GIB = 1.0
FRAGMENTATION = 0.05


@dataclass(frozen=True)
class Memory:
    """Memory of one GPU in a training step, in GiB, by what it is for."""

    weights: float
    gradients: float
    optimiser: float
    images: float
    activations: float
    loss: float
    workspace: float

    @property
    def total(self) -> float:
        """Sum of all parts."""
        return sum(asdict(self).values())


def memory_of(block: EncoderBlock, patch_um: float, ranks: int) -> Memory:
    """Estimate the memory of one GPU in a training step.

    Weights, gradients and the optimiser's state are float32 (two values per weight for AdamW, one for LARS); autocast
    holds a bfloat16 copy of the weights, counted with them.
    """
    own, work_px = images_per_gpu(block, ranks), block.work_px(patch_um)
    at_once = min(own, block.chunk_size or own)
    numbers = weights_of(block.backbone, block.projection_dim)
    cost = pass_cost(block.backbone, at_once, work_px, bf16=uses_bf16(block), recomputed=block.activation_checkpointing)
    edge = margin_px(work_px, block.augmentation)
    # Augmentation has ended when the network begins: only the larger of the two counts. Its result stays.
    augmenting = augmentation_bytes(block.augmentation, at_once, work_px)
    return Memory(
        weights=numbers * (6 if uses_bf16(block) else 4) / GIB,
        gradients=numbers * 4 / GIB,
        optimiser=numbers * (4 if block.optimizer.name == "lars" else 8) / GIB,
        images=(own * edge**2 + at_once * 4 * work_px**2) / GIB,
        activations=max(cost.peak_bytes * (1 + FRAGMENTATION), augmenting) / GIB,
        loss=_loss_bytes(block, own) / GIB,
        workspace=CONTEXT_GIB + WORKSPACE_GIB,
    )


def host_bytes(block: EncoderBlock, patch_um: float, ranks: int) -> int:
    """Return the most bytes of patches that a rank holds in its node's memory, read ahead and shuffled."""
    edge = margin_px(block.work_px(patch_um), block.augmentation)
    buffer_steps = block.buffer_steps if block.loading == "scans" else 0
    return bytes_held(images_per_gpu(block, ranks) * edge**2, block.workers, buffer_steps, locked=True)


def ways_to_fit(block: EncoderBlock, patch_um: float, ranks: int, gpu: Gpu) -> list[str]:
    """Find changes to an experiments entry that make it fit.

    Checkpointing comes first, because it changes no result; then chunks of the batch, each with enough samples over all
    ranks for batch normalisation. Only where neither is enough: both; smaller chunks; larger pixels, which change what
    the network sees. The mildest change of each kind that fits is listed.
    """
    own = images_per_gpu(block, ranks)
    halves = [own // 2**k for k in range(1, own.bit_length()) if own // 2**k >= 2]
    large = [n for n in halves if n * ranks >= ENOUGH_FOR_BATCH_NORM]
    small = [n for n in halves if n not in large]
    coarser = [block.working_pixel_um * factor for factor in (2, 4, 8)]
    checkpointing: dict[str, Any] = {} if block.compile else {"activation_checkpointing": True}
    mild = [[checkpointing], [{"chunk_size": n} for n in large]]
    harsh = [
        [{**checkpointing, "chunk_size": n} for n in large],
        [{**checkpointing, "chunk_size": n} for n in small],
        [{**checkpointing, "working_pixel_um": pixel} for pixel in coarser],
    ]

    def first_fitting(changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        fitting = (
            change
            for change in changes
            if memory_of(block.model_copy(update=change), patch_um, ranks).total <= gpu.memory_gib
        )
        return list(islice(fitting, 1))

    ways = [change for kind in mild for change in first_fitting(kind)]
    for kind in harsh:
        ways = ways or first_fitting(kind)
    return [", ".join(f"{key}: {_yaml(value)}" for key, value in change.items()) for change in ways]


def images_per_gpu(block: EncoderBlock, ranks: int) -> int:
    """Return the largest number of images of a batch that one rank gets."""
    return -(-block.batch_size // ranks)


def uses_bf16(block: EncoderBlock) -> bool:
    """Say whether a GPU computes the network in bfloat16."""
    return block.precision != "float32"


def _loss_bytes(block: EncoderBlock, own: int) -> int:
    """Count the bytes of a rank's weights and up to seven blocks as large, of all embeddings and their gradients."""
    return 4 * (8 * own * block.batch_size + 4 * block.batch_size * block.projection_dim)


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
