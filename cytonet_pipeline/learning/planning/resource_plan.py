"""What a training will need before it runs: memory, time, reading, and what has to be switched on.

Memory and operations come from a walk through the network (`memory_model`). Nothing is measured here: how much of a
GPU's peak rate is reached, and how much a process needs beside its tensors, are stated assumptions.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import pandas as pd

from cytonet_pipeline.learning.data.augmentation import margin_px
from cytonet_pipeline.learning.data.batches import bytes_held
from cytonet_pipeline.learning.data.shards import SHARD_BYTES
from cytonet_pipeline.learning.planning.gpus import Gpu, gpu_named
from cytonet_pipeline.learning.planning.memory_model import augmentation_bytes, pass_cost, weights_of
from cytonet_pipeline.learning.training.chunking import ENOUGH_FOR_BATCH_NORM
from cytonet_pipeline.settings import TRAINED, EncoderBlock, Settings

GIB = 2**30
# Share of the peak rate that a ResNet reaches. An assumption: `cytonet bench train` measures it where there is a GPU.
UTILISATION = 0.2
# Driver context and communication buffers; largest workspace of a convolution; what lies unused between tensors.
CONTEXT_GIB = 1.5
WORKSPACE_GIB = 1.0
FRAGMENTATION = 0.05
# Pyramids of scans halve the resolution from level to level, in tiles of about this edge.
TILE_PX = 512


@dataclass(frozen=True)
class Memory:
    """Memory of one GPU in GiB, by what it is for."""

    weights: float
    gradients: float
    optimiser: float
    images: float
    activations: float
    loss: float
    workspace: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Plan:
    """What one encoder will need.

    Attributes
    ----------
    memory : Memory or None
        None: nothing is trained.
    fits : bool
        The experiments entry as it stands fits the GPU.
    switch_on : tuple of str
        What makes it fit, the mildest first; empty where it fits, or nothing helps.
    activations_gib_image : float
        Kept for an image between forward and backward, without checkpointing.
    host_gib : float
        Patches of a rank on their way to its GPU, in the node's memory.
    images_per_s, hours : float
        If nothing but arithmetic takes time, at `UTILISATION`.
    epochs : float or None
        None: the experiments entry does not say how many patches there are.
    gb_per_s_scans, gb_per_s_packed : float
        Pixels to be decoded from scans, tiles read in full; or read from a pack (10⁹ bytes).
    pack_tb : float or None
        A pack. A node that packs on a disk of its own needs all of it, because batches are drawn from everything.
    """

    encoder: str
    method: str
    gpu: str
    gpus: int
    gpu_gib: float
    images_per_gpu: int
    memory: Memory | None
    fits: bool
    switch_on: tuple[str, ...]
    activations_gib_image: float
    host_gib: float
    steps: int
    epochs: float | None
    images_per_s: float
    hours: float
    gb_per_s_scans: float
    gb_per_s_packed: float
    pack_tb: float | None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        total = None if self.memory is None else self.memory.total
        return {**asdict(self), "memory_gib": total, "utilisation": UTILISATION}


def plan(
    settings: Settings,
    gpu: str,
    encoders: Iterable[str] | None = None,
    *,
    gpus: int | None = None,
    scan_um: float = 1.0,
) -> list[Plan]:
    """Plan the trainings of an experiments file.

    Parameters
    ----------
    settings : Settings
        Only its experiments file is read.
    gpu : str
        A name of `gpus.GPUS`.
    encoders : iterable of str, optional
        Default: all that are not retired.
    gpus : int, optional
        Number of GPUs; default: `processes` of each entry.
    scan_um : float
        Pixel size of the scans (µm).

    Raises
    ------
    ConfigurationError
        Unknown GPU or encoder.
    """
    kind, patch_um = gpu_named(gpu), settings.experiments.dataset.patch_um
    named = list(encoders or (n for n, block in settings.experiments.encoders.items() if not block.retired))
    return [plan_of(name, settings.encoder(name), patch_um, kind, gpus, scan_um) for name in named]


def plan_of(name: str, block: EncoderBlock, patch_um: float, gpu: Gpu, gpus: int | None, scan_um: float) -> Plan:
    """Plan one training; see `plan`."""
    ranks, trained = gpus or block.processes, block.method in TRAINED
    memory = memory_of(block, patch_um, ranks) if trained else None
    fits = memory is None or memory.total <= gpu.memory_gib
    edge = margin_px(block.work_px(patch_um), block.augmentation)
    seen = block.steps * block.batch_size if trained else 0
    rate = ranks * UTILISATION * _flops_per_s(block, gpu) / flops_of_image(block, patch_um) if trained else 0.0
    pack = block.samples * edge**2 / 1e12 if trained and block.samples else None
    return Plan(
        encoder=name,
        method=block.method,
        gpu=gpu.name,
        gpus=ranks,
        gpu_gib=gpu.memory_gib,
        images_per_gpu=_images_per_gpu(block, ranks),
        memory=memory,
        fits=fits,
        switch_on=() if fits else tuple(ways_to_fit(block, patch_um, ranks, gpu)),
        activations_gib_image=_activations_gib_image(block, patch_um) if trained else 0.0,
        host_gib=host_bytes(block, patch_um, ranks) / GIB if trained else 0.0,
        steps=block.steps if trained else 0,
        epochs=seen / block.samples if block.samples else None,
        images_per_s=rate,
        hours=seen / rate / 3600 if trained else 0.0,
        gb_per_s_scans=rate * decoded_bytes(edge, block.working_pixel_um, scan_um) / 1e9,
        gb_per_s_packed=rate * edge**2 / 1e9,
        pack_tb=pack,
    )


def memory_of(block: EncoderBlock, patch_um: float, ranks: int) -> Memory:
    """Memory of one GPU in a training step.

    Weights, gradients and the optimiser's state are float32 (AdamW two values a weight, LARS one); autocast holds a
    bfloat16 copy of the weights, counted with them.
    """
    own, work_px = _images_per_gpu(block, ranks), block.work_px(patch_um)
    at_once = min(own, block.chunk_size or own)
    numbers = weights_of(block.backbone, block.projection_dim)
    cost = pass_cost(block.backbone, at_once, work_px, bf16=_bf16(block), recomputed=block.activation_checkpointing)
    edge = margin_px(work_px, block.augmentation)
    # Augmentation is over when the network begins: of the two only the larger counts. Its result stays.
    augmenting = augmentation_bytes(block.augmentation, at_once, work_px)
    return Memory(
        weights=numbers * (6 if _bf16(block) else 4) / GIB,
        gradients=numbers * 4 / GIB,
        optimiser=numbers * (4 if block.optimizer.name == "lars" else 8) / GIB,
        images=(own * edge**2 + at_once * 4 * work_px**2) / GIB,
        activations=max(cost.peak_bytes * (1 + FRAGMENTATION), augmenting) / GIB,
        loss=_loss_bytes(block, own) / GIB,
        workspace=CONTEXT_GIB + WORKSPACE_GIB,
    )


def host_bytes(block: EncoderBlock, patch_um: float, ranks: int) -> int:
    """Bytes of patches that a rank has in its node's memory at most, read ahead and mixed."""
    edge = margin_px(block.work_px(patch_um), block.augmentation)
    buffer_steps = block.buffer_steps if block.loading == "scans" else 0
    return bytes_held(_images_per_gpu(block, ranks) * edge**2, block.workers, buffer_steps, locked=True)


def ways_to_fit(block: EncoderBlock, patch_um: float, ranks: int, gpu: Gpu) -> list[str]:
    """Changes of an experiments entry that make it fit.

    Checkpointing comes first, because it changes no result; then pieces of the batch, each with enough samples over all
    ranks for batch normalisation. Only where neither is enough: both; smaller pieces; larger pixels, which change what
    the network sees. Of each kind the mildest that fits.
    """
    own = _images_per_gpu(block, ranks)
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

    def first(changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        fitting = (
            change
            for change in changes
            if memory_of(block.model_copy(update=change), patch_um, ranks).total <= gpu.memory_gib
        )
        return list(islice(fitting, 1))

    found = [change for kind in mild for change in first(kind)]
    for kind in harsh:
        found = found or first(kind)
    return [", ".join(f"{key}: {_yaml(value)}" for key, value in change.items()) for change in found]


def flops_of_image(block: EncoderBlock, patch_um: float) -> float:
    """Floating point operations of a training step for an image, with what is computed twice."""
    cost = pass_cost(
        block.backbone,
        1,
        block.work_px(patch_um),
        bf16=_bf16(block),
        recomputed=block.activation_checkpointing,
    )
    return cost.flops + (cost.forward_flops if block.chunk_size else 0)


def decoded_bytes(edge_px: int, pixel_um: float, scan_um: float) -> float:
    """Bytes decoded for a patch read from a scan: whole tiles of the coarsest level that is fine enough."""
    level_um = scan_um
    while level_um * 2 <= pixel_um * (1 + 1e-6):
        level_um *= 2
    # A patch begins anywhere in a tile: on average it touches one more than it covers.
    return (edge_px * pixel_um / level_um + TILE_PX) ** 2


def table(plans: list[Plan]) -> pd.DataFrame:
    """The plans as a table for people: a row an encoder."""
    return pd.DataFrame([_row(p) for p in plans]).fillna("–")


def remarks(plans: list[Plan]) -> list[str]:
    """What stands under the table: what does not fit and what does, and what the figures rest on."""
    lines = []
    for p in plans:
        if not p.fits and p.memory:
            ways = "; or ".join(p.switch_on) or "nothing here helps: take a GPU with more memory, or more of them"
            lines.append(f"{p.encoder}: {p.memory.total:.0f} GiB do not fit {p.gpu} ({p.gpu_gib:.0f} GiB). Set {ways}")
    lines.append(
        "GiB: of a GPU. host GiB: patches of a rank on their way, in its node's memory; the process itself comes on top"
    )
    lines.append(
        f"hours, images/s and GB/s: arithmetic alone at {UTILISATION:.0%} of the GPU's peak, an assumption; "
        f"scans: decoded pixels, tiles of {TILE_PX} px; a pack has shards of at most {SHARD_BYTES / 1e6:.0f} MB; "
        "a node that packs on its own disk has to hold all of them"
    )
    return lines


def _row(p: Plan) -> dict[str, str]:
    if p.memory is None:
        return {"encoder": p.encoder, "fits": "not trained"}
    figures = {
        "GiB": f"{p.memory.total:.1f}",
        "activations": f"{p.memory.activations:.1f}",
        "images a GPU": str(p.images_per_gpu),
        "host GiB": f"{p.host_gib:.1f}",
        "steps": str(p.steps),
        "epochs": "–" if p.epochs is None else f"{p.epochs:.1f}",
        "hours": f"{p.hours:.1f}",
        "reads/s": f"{p.images_per_s:.0f}",
        "GB/s scans": f"{p.gb_per_s_scans:.3g}",
        "GB/s packed": f"{p.gb_per_s_packed:.3g}",
        "pack TB": "–" if p.pack_tb is None else f"{p.pack_tb:.3g}",
    }
    return {"encoder": p.encoder, "fits": "yes" if p.fits else "NO", **figures, "switch on": " or ".join(p.switch_on)}


def _images_per_gpu(block: EncoderBlock, ranks: int) -> int:
    return -(-block.batch_size // ranks)


def _bf16(block: EncoderBlock) -> bool:
    return block.precision != "float32"


def _flops_per_s(block: EncoderBlock, gpu: Gpu) -> float:
    return (gpu.bf16_tflops if _bf16(block) else gpu.tf32_tflops) * 1e12


def _activations_gib_image(block: EncoderBlock, patch_um: float) -> float:
    return pass_cost(block.backbone, 1, block.work_px(patch_um), bf16=_bf16(block), recomputed=False).kept_bytes / GIB


def _loss_bytes(block: EncoderBlock, own: int) -> int:
    """Weights of a rank's anchors and seven blocks as large at the most; embeddings of all, and their gradients."""
    return 4 * (8 * own * block.batch_size + 4 * block.batch_size * block.projection_dim)


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
