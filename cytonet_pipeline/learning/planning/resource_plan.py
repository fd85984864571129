"""Resource plans: the memory, time and reading that training runs will need, and what has to be switched on.

Memory and operations come from a walk through the network (`pass_cost`). Nothing is measured here: how much of a GPU's
peak rate is reached, and how much a process needs beside its tensors, are stated assumptions.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from cytonet_pipeline.learning.data.augmentation import margin_px
from cytonet_pipeline.learning.data.shards import SHARD_BYTES
from cytonet_pipeline.learning.planning.gpu_memory import (
    GIB,
    Memory,
    host_bytes,
    images_per_gpu,
    memory_of,
    uses_bf16,
    ways_to_fit,
)
from cytonet_pipeline.learning.planning.gpus import Gpu, gpu_named
from cytonet_pipeline.learning.planning.pass_cost import pass_cost
from cytonet_pipeline.settings import TRAINED, EncoderBlock, Settings

# Share of the peak rate that a ResNet reaches. An assumption: `cytonet bench train` measures it where there is a GPU.
UTILISATION = 0.2
# Pyramids of scans halve the resolution from level to level, in tiles of about this edge.
TILE_PX = 512
# Below this, arithmetic says nothing of a training run: starting it, reading and many small operations take longer.
SHORTEST_HOURS = 0.1
# Columns that a narrow terminal does without, the first ones first.
DROPPABLE = ("activations", "host GiB", "epochs", "GB/s scans", "GB/s packed", "images per GPU", "pack TB", "reads/s")


@dataclass(frozen=True)
class ResourcePlan:
    """What training one encoder will need.

    Attributes
    ----------
    memory : Memory or None
        None: this encoder is not trained.
    fits : bool
        Whether the experiments entry as it is fits the GPU.
    switch_on : tuple of str
        Changes that make it fit, the mildest first; empty where it fits, or nothing helps.
    activations_gib_image : float
        Kept per image between forward and backward pass, without checkpointing.
    host_gib : float
        Patches per rank on their way to its GPU, in the node's memory.
    images_per_s, hours : float
        If only arithmetic takes time, at `UTILISATION`.
    epochs : float or None
        None: the experiments entry does not say how many patches there are.
    gb_per_s_scans, gb_per_s_packed : float
        Pixels to be decoded from scans, whole tiles at a time; or read from a pack (10⁹ bytes).
    pack_tb : float or None
        Size of the pack. A node that packs on its own disk holds all of it, because batches are drawn from everything.
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
        """Return plain values."""
        total = None if self.memory is None else self.memory.total
        return {**asdict(self), "memory_gib": total, "utilisation": UTILISATION}


def plan_training(
    settings: Settings,
    gpu: str,
    encoders: Iterable[str] | None = None,
    *,
    gpus: int | None = None,
    scan_um: float = 1.0,
) -> list[ResourcePlan]:
    """Plan the training runs of an experiments file.

    Parameters
    ----------
    settings : Settings
        Of which only the experiments file is read.
    gpu : str
        A name in `gpus.GPUS`.
    encoders : iterable of str, optional
        Default: all that are not retired.
    gpus : int, optional
        Number of GPUs; default: `processes` of each entry.
    scan_um : float
        Pixel size of the scans (µm).

    Raises
    ------
    ConfigurationError
        There is no such GPU or encoder.
    """
    kind, patch_um = gpu_named(gpu), settings.experiments.dataset.patch_um
    named = list(encoders or (n for n, block in settings.experiments.encoders.items() if not block.retired))
    return [plan_of(name, settings.encoder(name), patch_um, kind, gpus, scan_um) for name in named]


def plan_of(
    name: str, block: EncoderBlock, patch_um: float, gpu: Gpu, gpus: int | None, scan_um: float
) -> ResourcePlan:
    """Plan one training run; see `plan_training`."""
    ranks, trained = gpus or block.processes, block.method in TRAINED
    memory = memory_of(block, patch_um, ranks) if trained else None
    fits = memory is None or memory.total <= gpu.memory_gib
    edge = margin_px(block.work_px(patch_um), block.augmentation)
    seen = block.steps * block.batch_size if trained else 0
    rate = ranks * UTILISATION * _flops_per_s(block, gpu) / flops_of_image(block, patch_um) if trained else 0.0
    pack = block.samples * edge**2 / 1e12 if trained and block.samples else None
    return ResourcePlan(
        encoder=name,
        method=block.method,
        gpu=gpu.name,
        gpus=ranks,
        gpu_gib=gpu.memory_gib,
        images_per_gpu=images_per_gpu(block, ranks),
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


def flops_of_image(block: EncoderBlock, patch_um: float) -> float:
    """Count the floating point operations of a training step per image, including what is computed twice."""
    cost = pass_cost(
        block.backbone,
        1,
        block.work_px(patch_um),
        bf16=uses_bf16(block),
        recomputed=block.activation_checkpointing,
    )
    return cost.flops + (cost.forward_flops if block.chunk_size else 0)


def decoded_bytes(edge_px: int, pixel_um: float, scan_um: float) -> float:
    """Estimate the bytes decoded per patch read from a scan: whole tiles of the coarsest level that is fine enough."""
    level_um = scan_um
    while level_um * 2 <= pixel_um * (1 + 1e-6):
        level_um *= 2
    # A patch begins anywhere in a tile: on average it touches one tile more than it covers.
    return (edge_px * pixel_um / level_um + TILE_PX) ** 2


def table(plans: list[ResourcePlan]) -> pd.DataFrame:
    """Lay the plans out as a table for people: one row per encoder, and no column that is empty in all of them."""
    rows = pd.DataFrame([_row(p) for p in plans]).fillna("–")
    return rows.loc[:, [not rows[column].isin(["–", ""]).all() for column in rows]]


def remarks(plans: list[ResourcePlan]) -> list[str]:
    """Write the lines under the table: what does not fit and what would, and what the figures assume."""
    lines = []
    for p in plans:
        if not p.fits and p.memory:
            ways = "; or ".join(p.switch_on) or "nothing here helps: use a GPU with more memory, or more GPUs"
            lines.append(
                f"{p.encoder}: {p.memory.total:.0f} GiB do not fit on {p.gpu} ({p.gpu_gib:.0f} GiB). Set {ways}"
            )
    if any(p.memory and _is_short(p) for p in plans):
        lines.append(
            f"<{SHORTEST_HOURS}: arithmetic alone would take less; starting, reading and small operations take longer, "
            "so no rates are given. `cytonet run` shows the time that is left on this machine"
        )
    if not any(p.memory for p in plans):
        return lines
    lines.append(
        "GiB: per GPU. host GiB: patches per rank on their way to its GPU, in the node's memory; the process itself "
        "comes on top"
    )
    if not any(p.memory and not _is_short(p) for p in plans):
        return lines
    lines.append(
        f"hours, reads/s and GB/s: arithmetic alone, at an assumed {UTILISATION:.0%} of the GPU's peak rate; "
        f"scans: decoded pixels, tiles of {TILE_PX} px; a pack has shards of at most {SHARD_BYTES / 1e6:.0f} MB; "
        "a node that packs on its own disk must hold all of them"
    )
    return lines


def _row(p: ResourcePlan) -> dict[str, str]:
    if p.memory is None:
        return {"encoder": p.encoder, "fits": "not trained"}
    rates = {
        "reads/s": f"{p.images_per_s:.0f}",
        "GB/s scans": f"{p.gb_per_s_scans:.3g}",
        "GB/s packed": f"{p.gb_per_s_packed:.3g}",
    }
    figures = {
        "GiB": f"{p.memory.total:.1f}",
        "activations": f"{p.memory.activations:.1f}",
        "images per GPU": str(p.images_per_gpu),
        "host GiB": f"{p.host_gib:.1f}",
        "steps": str(p.steps),
        "epochs": "–" if p.epochs is None else f"{p.epochs:.1f}",
        "hours": f"<{SHORTEST_HOURS}" if _is_short(p) else f"{p.hours:.1f}",
        **({} if _is_short(p) else rates),
        "pack TB": "–" if p.pack_tb is None else f"{p.pack_tb:.3g}",
    }
    return {"encoder": p.encoder, "fits": "yes" if p.fits else "NO", **figures, "switch on": " or ".join(p.switch_on)}


def _is_short(p: ResourcePlan) -> bool:
    return p.hours < SHORTEST_HOURS


def _flops_per_s(block: EncoderBlock, gpu: Gpu) -> float:
    return (gpu.bf16_tflops if uses_bf16(block) else gpu.tf32_tflops) * 1e12


def _activations_gib_image(block: EncoderBlock, patch_um: float) -> float:
    return (
        pass_cost(block.backbone, 1, block.work_px(patch_um), bf16=uses_bf16(block), recomputed=False).kept_bytes / GIB
    )
