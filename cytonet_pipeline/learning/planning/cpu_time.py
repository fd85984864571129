"""How long encoders take on CPUs: a short trial on this machine, times the steps.

The plan for GPUs (`resource_plan.py`) is arithmetic. CPUs differ too much in what they reach of their peak rate, so a
few steps are timed instead.
"""

import time
from dataclasses import dataclass

from cytonet_pipeline.settings import EncoderBlock, EvaluationBlock

# Loss, augmentation, reading and the validation monitor take this much on top of the network's passes: measured with
# the small network, 512 patches of 32 px per step, one thread.
_BESIDE_NETWORK = 1.15
_TRIAL_STEPS = 6
# CPU seconds per encoder beside its training: embedding, one draw of one label count, all protocols with all labels,
# UMAP and area maps. Not measured on brains of the study: three brains of eight sections took 6 for embedding, 27 for
# all probes, 20 for UMAP and 10 for maps on one core of a loaded AMD EPYC; the study's have fifteen times the sections.
_START_S, _DRAW_S, _ALL_LABELS_S, _PLOTS_S = 45.0, 2.0, 150.0, 150.0


@dataclass(frozen=True)
class CpuTime:
    """CPU seconds of one encoder, on one core."""

    training_s: float
    evaluation_s: float

    @property
    def total_s(self) -> float:
        """Both."""
        return self.training_s + self.evaluation_s


def seconds_per_step(block: EncoderBlock, patch_um: float) -> float:
    """Time a few training steps of an encoder's network on one thread (CPU seconds)."""
    import torch

    from cytonet_pipeline.learning.backbones.backbones import backbone_named

    network = backbone_named(block.backbone).network()
    images = torch.rand(block.batch_size, 1, block.work_px(patch_um), block.work_px(patch_um))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        network(images).square().mean().backward()  # The first one also allocates memory.
        began = time.process_time()
        for _ in range(_TRIAL_STEPS):
            network(images).square().mean().backward()
        return _BESIDE_NETWORK * (time.process_time() - began) / _TRIAL_STEPS
    finally:
        torch.set_num_threads(threads)


def cpu_time(block: EncoderBlock, evaluation: EvaluationBlock, step_s: float, *, plotted: bool) -> CpuTime:
    """Estimate the CPU time of one encoder.

    Parameters
    ----------
    step_s : float
        CPU seconds per step.
    plotted : bool
        Whether it gets UMAP plots and area maps.
    """
    evaluated = _START_S + (_PLOTS_S if plotted else 0.0)
    if block.labels_per_area is None:
        few = len(evaluation.labels_per_area) * evaluation.draws
        evaluated += _ALL_LABELS_S + _DRAW_S * few
    return CpuTime(block.steps * step_s, evaluated)
