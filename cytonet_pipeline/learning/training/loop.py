"""The training loop: `cytonet`, `supcon` and `scratch` go through it with the same budget.

    step ── batch (brains in stated shares) ── augment on the device ── encoder + head ── loss in float32 ── optimiser

Everything random is a function of the seed and the step (`sampling`, `augmentation`), so a training that was killed
goes on bit for bit on the same number of CPU threads and ranks. Several ranks share a batch: torchrun starts them, DDP
averages gradients.
"""

import logging
import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import torch
from torch import nn

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.learning.backbones.encoders import Encoder
from cytonet_pipeline.learning.backbones.initial_weights import initial_encoder
from cytonet_pipeline.learning.backbones.recomputation import checkpoint_activations
from cytonet_pipeline.learning.data.augmentation import Augmentation
from cytonet_pipeline.learning.data.batches import LoadedBatch, Plan, load_batches
from cytonet_pipeline.learning.data.from_scans import SectionPatches
from cytonet_pipeline.learning.data.sampling import BatchSampler, Shuffle, blocks_of
from cytonet_pipeline.learning.data.sources import PatchSource
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.losses.objectives import distance_weighted_loss, make_objective
from cytonet_pipeline.learning.parallel.distributed import (
    any_rank,
    data_parallel,
    rank,
    same_on_all,
    wait_for_all,
    world_size,
)
from cytonet_pipeline.learning.parallel.synced_batchnorm import synchronised
from cytonet_pipeline.learning.training.checkpoints import restore_checkpoint, save_checkpoint
from cytonet_pipeline.learning.training.history import History
from cytonet_pipeline.learning.training.optimizers import learning_rate, make_optimizer
from cytonet_pipeline.learning.training.provenance import changes_between, device_name, this_run
from cytonet_pipeline.learning.training.result import Best, Outcome, readable, shown_of, warnings_of
from cytonet_pipeline.learning.training.stepping import NotFinite, Stepper
from cytonet_pipeline.learning.training.validation_monitor import Watch, collapse_of
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


class Training:
    """One training on one rank.

    Parameters
    ----------
    folder : EncoderFolder
        What to train, and where checkpoints lie.
    source : PatchSource
        The patches.
    device : torch.device
    workers : int, optional
        Loader threads; default: those of the experiments entry.

    Raises
    ------
    TrainingError
        There is nothing to train on, or less than two samples a rank.
    """

    def __init__(
        self, folder: EncoderFolder, source: PatchSource, device: torch.device, workers: int | None = None
    ) -> None:
        block, patches = folder.block, folder.patches
        if block.batch_size < 2 * world_size():
            raise TrainingError(
                f"{folder.name}: {world_size()} ranks cannot share a batch of {block.batch_size}.",
                to_fix="two samples a rank is the least: raise batch_size or start fewer ranks",
            )
        self.folder, self.block, self.source, self.device = folder, block, source, device
        self.workers = block.workers if workers is None else workers
        encoder = initial_encoder(folder, source)
        self.objective = make_objective(block, patches, encoder.feature_dim, device, folder.path)
        self.model = Model(encoder, self.objective.head).to(device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        parallel = self._across_ranks()
        # Only now: synchronising put other normalisations, with parameters of their own, into the model.
        self.optimizer = make_optimizer(self.model, block.optimizer)
        bf16 = block.precision == "bf16" or (block.precision == "auto" and _has_bf16(device))
        autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)
        self.stepper = Stepper(
            parallel,
            self.objective,
            self.optimizer,
            Augmentation(block.augmentation, folder.work_px, block.seed, device),
            block,
            autocast,
            device,
        )
        self.sampler = BatchSampler(
            patches["patch_id"].to_numpy(),
            patches["brain"],
            self.objective.eligible,
            batch_size=block.batch_size,
            steps=block.steps,
            brain_floor=block.brain_floor,
            seed=block.seed,
            shuffle=self._shuffle(),
        )
        self.watch = Watch(patches, source, folder.work_px, distance_weighted_loss(block.loss, folder.path), autocast)
        self.runs = [this_run(device, self.workers)]

    def run(self, stop: object, told: Told) -> Outcome:
        """Train from the last checkpoint to the end, or until `stop` is true.

        Parameters
        ----------
        stop : object
            Looked at after every step; true on any rank stops all.
        told : callable
            Gets `step`, `steps` and the figures of the history's last row.

        Raises
        ------
        TrainingError
            The loss is not finite, or memory is out: the last checkpoint is kept. Or ranks read different checkpoints.
        """
        steps = self.block.steps
        done, history, best, seconds = self._restored()
        began = time.monotonic() - seconds
        self.model.train()
        # Closed after a fault too: else the process would end only when all that is queued has been read.
        with closing(self._batches(done)) as batches, task(f"training {self.folder.name}", steps) as shown:
            for loaded in batches:
                figures, rate = self._step(loaded)
                done += 1
                last = done == steps
                history.note({**figures, "data_wait_s": loaded.waited_s})
                looking = done % self.block.watch_every == 0 or last
                if looking or done % history.every == 0:
                    history.close(done, rate, self.block.batch_size)
                improved = looking and self._look(done, history, best)
                if looking or done % history.every == 0:
                    told(step=done, steps=steps, **shown_of(history.rows[-1]))
                    shown.to(done, f"loss {figures['loss']:.3f}")
                stopping = any_rank(bool(stop), self.device)
                if rank() == 0 and (last or stopping or improved or done % self.block.checkpoint_every == 0):
                    self._save(done, history, best, time.monotonic() - began)
                if stopping and not last:
                    break
        wait_for_all()
        return self._outcome(done == steps, history, best, time.monotonic() - began)

    def _across_ranks(self) -> nn.Module:
        """The model as it is called: synchronised, recomputing, compiled, as configured."""
        if world_size() > 1:
            synchronised(self.model, self.device)
        if self.block.activation_checkpointing:
            checkpoint_activations(self.model.encoder)
        parallel: nn.Module = self.model
        if world_size() > 1:
            parallel = data_parallel(self.model)
        if self.block.compile:
            parallel = torch.compile(parallel)  # type: ignore[assignment]
        return parallel

    def _shuffle(self) -> Shuffle | None:
        if not isinstance(self.source, SectionPatches):
            return None
        centres = (self.folder.patches[axis].to_numpy() for axis in ("x_px", "y_px"))
        return Shuffle(blocks_of(self.source.section_of, *centres), self.block.shuffle_buffer)

    def _batches(self, done: int) -> Generator[LoadedBatch, None, None]:
        return load_batches(
            self.source,
            Plan(self.sampler, done, self.block.steps, rank(), world_size()),
            workers=self.workers,
            buffer_steps=self.block.buffer_steps,
            device=self.device,
        )

    def _restored(self) -> tuple[int, History, Best, float]:
        done, state = restore_checkpoint(self.folder.checkpoints, self.model, self.optimizer, self.folder.fingerprint())
        if not same_on_all(done, self.device):
            raise TrainingError(
                f"{self.folder.name}: not every rank could read the same checkpoint (this one: after step {done}).",
                looked_for=str(self.folder.checkpoints),
                to_fix="run it again; if it stays so, look at the file system between the nodes",
            )
        before = state.get("runs", [])
        if done:
            _log.info("going on after step %d", done)
        if changed := changes_between(before[-1:], self.runs[0]):
            _log.warning("after step %d: %s", done, changed)
        self.runs = [*before, {**self.runs[0], "after_step": done}]
        history = History(self.block.steps, state.get("history"))
        return done, history, Best(**state.get("best", {})), state.get("seconds", 0.0)

    def _step(self, loaded: LoadedBatch) -> tuple[dict[str, float], float]:
        """Figures of a step and its learning rate."""
        rate = learning_rate(loaded.batch.step, self.block.steps, self.block.optimizer)
        try:
            return self.stepper.step(loaded, rate), rate
        except NotFinite as fault:
            raise self._explained(fault, loaded) from fault
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"{self.folder.name}: a step needs more memory than {device_name(self.device)} has ({error}).",
                to_fix="set activation_checkpointing or chunk_size; `cytonet plan` says what fits which GPU",
                meanwhile="the last checkpoint is kept",
            ) from error

    def _look(self, done: int, history: History, best: Best) -> bool:
        """Watch the encoder; whether it is the best so far."""
        seen = self.watch.look(self.model.encoder, self.device)
        history.see(seen)
        if rank() == 0:
            _log.info("step %d of %d: %s", done, self.block.steps, readable(history.rows[-1]))
        return best.take(done, seen.get("knn_accuracy"))

    def _save(self, done: int, history: History, best: Best, seconds: float) -> None:
        state: dict[str, Any] = {
            "history": history.rows,
            "seconds": seconds,
            "best": best.as_json(),
            "runs": self.runs,
        }
        fingerprint = self.folder.fingerprint()
        # Before the checkpoint: a training killed after its last one writes no history any more.
        history.write(self.folder.history)
        save_checkpoint(self.folder.checkpoints, done, self.model, self.optimizer, fingerprint, state, best.step)

    def _explained(self, fault: NotFinite, loaded: LoadedBatch) -> TrainingError:
        ids = self.folder.patches["patch_id"].to_numpy()[loaded.batch.rows]
        faulty = ids[fault.faulty.numpy()]
        named = ", ".join(map(str, faulty[:8] if len(faulty) else ids[:8]))
        return TrainingError(
            f"{self.folder.name}: the {fault.what} is not finite in step {loaded.batch.step + 1}; "
            f"patches {named} (of {len(faulty) or len(ids)}).",
            looked_for=str(self.folder.checkpoints),
            to_fix="look at these patches; try a lower learning rate, a longer warm-up, clip_norm, or float32",
            meanwhile="the last checkpoint before this step is kept",
        )

    def _outcome(self, finished: bool, history: History, best: Best, seconds: float) -> Outcome:
        seen: dict[str, Any] = next((row for row in reversed(history.rows) if "effective_rank" in row), {})
        figures = {
            "steps": self.block.steps,
            "samples": self.block.steps * self.block.batch_size,
            "distinct patches": int(self.objective.eligible.sum()),
            "brain shares": {brain: round(share, 4) for brain, share in self.sampler.shares.items()},
            "seconds": round(seconds, 1),
            "ranks": world_size(),
            **shown_of(seen),
        }
        return Outcome(
            finished,
            self.model.encoder,
            self.objective,
            figures,
            best,
            self.runs,
            tuple(collapse_of(seen)) if finished else (),
            tuple(warnings_of(self.block, self.model, len(self.stepper.pieces), history.frame(), self.runs)),
        )


def _has_bf16(device: torch.device) -> bool:
    # Emulated, as before Ampere, it is slower than float32.
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
