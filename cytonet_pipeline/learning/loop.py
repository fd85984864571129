"""The training loop: `cytonet`, `supcon` and `scratch` go through it with the same budget.

    step ── batch (brains in stated shares) ── augment on the device ── encoder + head ── loss in float32 ── optimiser

Everything random is a function of the seed and the step (`sampling`, `augmentation`), so a training that was killed
goes on bit for bit on one CPU process. Several ranks share a batch: torchrun starts them, DDP averages gradients.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.learning.augmentation import Augmentation
from cytonet_pipeline.learning.checkpoints import restore_checkpoint, save_checkpoint
from cytonet_pipeline.learning.distributed import any_rank, rank, wait_for_all, world_size
from cytonet_pipeline.learning.encoders import Encoder, new_encoder
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.grey_values import grey_statistics
from cytonet_pipeline.learning.history import History
from cytonet_pipeline.learning.loading import LoadedBatch, load_batches
from cytonet_pipeline.learning.objectives import Objective, make_objective
from cytonet_pipeline.learning.optimizers import learning_rate, make_optimizer, set_learning_rate
from cytonet_pipeline.learning.packing import PackedPatches
from cytonet_pipeline.learning.sampling import BatchSampler
from cytonet_pipeline.learning.synced_batchnorm import synchronised
from cytonet_pipeline.learning.watching import Watch, collapse_of
from cytonet_pipeline.progress import task

_log = logging.getLogger(__name__)
Told = Callable[..., None]


class Model(nn.Module):
    """Encoder and head as one module, so that ranks average both."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Head's output for images (B, 1, H, W) in 0..1."""
        return self.head(self.encoder(images))


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes
    ----------
    finished : bool
        All steps are done; otherwise a checkpoint waits to be continued.
    figures : dict
        What people want to know of it.
    problems, warnings : tuple of str
        Why not to trust it (collapse); what to look at.
    """

    finished: bool
    encoder: Encoder
    objective: Objective
    figures: dict[str, Any]
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Training:
    """One training on one rank.

    Parameters
    ----------
    folder : EncoderFolder
        What to train, and where checkpoints lie.
    pack : PackedPatches
        The patches.
    device : torch.device
    """

    def __init__(self, folder: EncoderFolder, pack: PackedPatches, device: torch.device) -> None:
        block, patches = folder.block, folder.patches
        self.folder, self.block, self.pack, self.device = folder, block, pack, device
        encoder = new_encoder(block.backbone, *grey_statistics(pack, patches, folder.work_px), block.seed)
        self.objective = make_objective(block, patches, encoder.feature_dim, device)
        self.model = Model(encoder, self.objective.head).to(device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if world_size() > 1:
            synchronised(self.model, device)
        # Batch statistics are synchronised already; broadcasting buffers would only repeat rank 0's.
        parallel = DistributedDataParallel(self.model, broadcast_buffers=False) if world_size() > 1 else self.model
        self.parallel: nn.Module = parallel
        self.optimizer = make_optimizer(self.model, block.optimizer)
        self.augment = Augmentation(block.augmentation, folder.work_px, block.seed, device)
        self.sampler = BatchSampler(
            patches["patch_id"].to_numpy(),
            patches["brain"].to_numpy(),
            self.objective.eligible,
            batch_size=block.batch_size,
            steps=block.steps,
            brain_floor=block.brain_floor,
            seed=block.seed,
        )
        self.watch = Watch(patches, pack, folder.work_px, block.loss) if rank() == 0 else None
        bf16 = block.precision == "bf16" or (block.precision == "auto" and _has_bf16(device))
        self.autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)

    def run(self, stop: object, told: Told) -> Outcome:
        """Train from the last checkpoint to the end, or until `stop` is true.

        Parameters
        ----------
        stop : object
            Looked at after every step; true on any rank stops all.
        told : callable
            Gets `step`, `steps`, `loss`, `samples_per_second` after every step.

        Raises
        ------
        TrainingError
            The loss is not finite; the last checkpoint is kept.
        """
        block, steps = self.block, self.block.steps
        done, state = restore_checkpoint(self.folder.checkpoints, self.model, self.optimizer, self.folder.fingerprint())
        history = History(steps, state.get("history"))
        began = time.monotonic() - state.get("seconds", 0.0)
        if done:
            _log.info("going on after step %d", done)
        batches = load_batches(
            self.pack, self.sampler, done, steps, rank(), world_size(), pinned=self.device.type == "cuda"
        )
        self.model.train()
        with task(f"training {self.folder.name}", steps) as shown:
            for loaded in batches:
                rate = learning_rate(done, steps, block.optimizer)
                figures = self._step(loaded, rate)
                done += 1
                history.note({**figures, "data_wait_s": loaded.waited_s})
                last = done == steps
                looking = done % block.watch_every == 0 or last
                if looking or done % history.every == 0:
                    history.close(done, rate, block.batch_size)
                    told(step=done, steps=steps, **_shown(history.rows[-1]))
                    shown.to(done, f"loss {figures['loss']:.3f}")
                if looking and self.watch:
                    history.see(self.watch.look(self.model.encoder, self.device))
                    _log.info("step %d of %d: %s", done, steps, _readable(history.rows[-1]))
                stopping = any_rank(bool(stop), self.device)
                if rank() == 0 and (last or stopping or done % block.checkpoint_every == 0):
                    self._save(done, history, time.monotonic() - began)
                if stopping and not last:
                    break
        batches.close()
        wait_for_all()
        return self._outcome(done == steps, history, time.monotonic() - began)

    def _step(self, loaded: LoadedBatch, rate: float) -> dict[str, float]:
        """One optimiser step; loss, gradient norm and statistics of the batch."""
        set_learning_rate(self.optimizer, rate)
        images = self.augment(loaded.patches.to(self.device, non_blocking=True), loaded.batch.sample_keys)
        rows = torch.from_numpy(loaded.batch.rows).to(self.device)
        with self.autocast:
            output = self.parallel(images.contiguous(memory_format=torch.channels_last))
        loss = self.objective.loss(output, rows)
        logged = float(self.objective.logged)
        if any_rank(not torch.isfinite(loss), self.device) or logged != logged:
            raise self._not_finite("loss", loaded, output)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.block.optimizer.clip_norm or float("inf"))
        if not torch.isfinite(norm):
            raise self._not_finite("gradient", loaded, output)
        self.optimizer.step()
        return {"loss": logged, "gradient_norm": float(norm), **self.objective.statistics()}

    def _save(self, done: int, history: History, seconds: float) -> None:
        state = {"history": history.rows, "seconds": seconds}
        fingerprint = self.folder.fingerprint()
        save_checkpoint(self.folder.checkpoints, done, self.model, self.optimizer, fingerprint, state)
        history.write(self.folder.history)

    def _not_finite(self, what: str, loaded: LoadedBatch, output: torch.Tensor) -> TrainingError:
        ids = self.folder.patches["patch_id"].to_numpy()[loaded.batch.rows]
        faulty = ids[(~torch.isfinite(output).all(1)).cpu().numpy()]
        named = ", ".join(map(str, faulty[:8] if len(faulty) else ids[:8]))
        return TrainingError(
            f"{self.folder.name}: the {what} is not finite in step {loaded.batch.step + 1}; "
            f"patches {named} (of {len(faulty) or len(ids)}).",
            looked_for=str(self.folder.checkpoints),
            to_fix="look at these patches; try a lower learning rate, a longer warm-up, clip_norm, or float32",
            meanwhile="the last checkpoint before this step is kept",
        )

    def _outcome(self, finished: bool, history: History, seconds: float) -> Outcome:
        frame = history.frame()
        seen: dict[str, Any] = next((row for row in reversed(history.rows) if "effective_rank" in row), {})
        patches = self.folder.patches[self.objective.eligible]
        figures = {
            "steps": self.block.steps,
            "samples": self.block.steps * self.block.batch_size,
            "distinct patches": len(patches),
            "brain shares": {brain: round(share, 4) for brain, share in self.sampler.shares.items()},
            "seconds": round(seconds, 1),
            "ranks": world_size(),
            **_shown(seen),
        }
        return Outcome(
            finished,
            self.model.encoder,
            self.objective,
            figures,
            tuple(collapse_of(seen)) if finished else (),
            tuple(_warnings(self.block.batch_size, frame)),
        )


def _shown(row: dict[str, Any]) -> dict[str, float]:
    names = ("loss", "samples_per_second", "knn_accuracy", "effective_rank", "mean_cosine", "same_brain_excess")
    return {name: round(float(row[name]), 4) for name in names if math.isfinite(row.get(name, math.nan))}


def _readable(row: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in _shown(row).items())


def _warnings(batch_size: int, frame: Any) -> list[str]:
    """Too few positives, or so many that distance says little."""
    positives = frame["effective_positives"].median()
    if positives < 2:
        return [f"only {positives:.1f} effective positives a sample: raise loss.length_mm or batch_size"]
    if positives > 0.1 * batch_size:
        return [f"{positives:.0f} effective positives a sample, over 10 % of the batch: lower loss.length_mm"]
    return []


def _has_bf16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported()
