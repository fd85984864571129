"""The training loop of `cytonet`, `supcon` and `scratch`, which get the same budget.

One GPU, four GPUs, and eight GPUs on two nodes:

    python -m cytonet_pipeline.learning FOLDER --data DATASET
    torchrun --standalone --nproc-per-node 4 -m cytonet_pipeline.learning FOLDER --data DATASET
    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-endpoint HOST:PORT -m cytonet_pipeline.learning FOLDER --data DATASET

`batch_size` counts the samples of all ranks: more GPUs make a step faster and change nothing else. DDP averages the
gradients of encoder and head, batch normalisations and the loss look across ranks.

Everything random is a function of the seed and the step (`data.sampling`, `data.augmentation`). A training run that was
killed therefore continues bit for bit, on the same number of CPU threads and on one or two ranks. With more ranks it
continues up to rounding: DDP regroups gradients after its first step, so that their sums are taken in another order.
"""

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.learning.backbones.encoders import Encoder
from cytonet_pipeline.learning.backbones.initial_weights import initial_encoder
from cytonet_pipeline.learning.backbones.recomputation import checkpoint_activations
from cytonet_pipeline.learning.data.augmentation import Augmentation
from cytonet_pipeline.learning.data.batches import LoadedBatch, load_batches
from cytonet_pipeline.learning.data.sampling import Batch, BatchSampler, Shuffle, blocks_of
from cytonet_pipeline.learning.data.sources import PatchSource, SectionPatches
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
from cytonet_pipeline.learning.parallel.synced_batchnorm import synchronize_batch_norms
from cytonet_pipeline.learning.training.checkpoints import restore_checkpoint, save_checkpoint
from cytonet_pipeline.learning.training.chunking import chunked_backward, pieces
from cytonet_pipeline.learning.training.history import History
from cytonet_pipeline.learning.training.optimizers import learning_rate, make_optimizer
from cytonet_pipeline.learning.training.provenance import changes_between, device_name, this_process
from cytonet_pipeline.learning.training.result import BestState, TrainingResult, headline_figures, log_line, warnings_of
from cytonet_pipeline.learning.training.validation_monitor import ValidationMonitor, collapse_problems
from cytonet_pipeline.lineage import repetition
from cytonet_pipeline.progress import task

_log = logging.getLogger(__name__)


class Model(nn.Module):
    """Encoder and head as one module, so that DDP averages the gradients of both."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the head's output for images (B, 1, H, W) in 0..1: projections or logits."""
        return self.head(self.encoder(images))


class Training:
    """A training run on one rank: model, objective, optimizer, batches, and the loop over them.

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
        There is nothing to train on, or fewer than two samples per rank.
    """

    def __init__(
        self, folder: EncoderFolder, source: PatchSource, device: torch.device, workers: int | None = None
    ) -> None:
        block = folder.block
        if block.batch_size < 2 * world_size():
            raise TrainingError(
                f"{folder.name}: {world_size()} ranks cannot share a batch of {block.batch_size}.",
                to_fix="each rank needs at least two samples: raise batch_size or start fewer ranks",
            )
        self.folder, self.block, self.source, self.device = folder, block, source, device
        self.workers = block.workers if workers is None else workers
        encoder = initial_encoder(folder, source)
        self.objective = make_objective(block, folder.patches, encoder.feature_dim, device, folder.path)
        self.model = Model(encoder, self.objective.head).to(device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.augment = Augmentation(block.augmentation, folder.work_px, block.seed, device)
        self.pieces = pieces(block.batch_size, world_size(), rank(), block.chunk_size)
        bf16 = block.precision == "bf16" or (block.precision == "auto" and _has_bf16(device))
        self.autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)
        # The model as it is called in training: across ranks, recomputing activations, compiled.
        self.network: nn.Module = self.model
        if world_size() > 1:
            synchronize_batch_norms(self.model, device)
        if block.activation_checkpointing:
            checkpoint_activations(self.model.encoder)
        if world_size() > 1:
            self.network = data_parallel(self.model)
        if block.compile:
            self.network = torch.compile(self.network)  # type: ignore[assignment]
        # After the batch normalisations have been replaced: the new ones have parameters of their own.
        self.optimizer = make_optimizer(self.model, block.optimizer)
        self.sampler = self._sampler()
        loss = distance_weighted_loss(block.loss, folder.path)
        self.monitor = ValidationMonitor(folder.patches, source, folder.work_px, loss, self.autocast)
        self.history, self.best = History(block.steps), BestState()
        self.processes = [this_process(device, self.workers)]

    def run(self, stop: object, report: Callable[..., None]) -> TrainingResult:
        """Train from the last checkpoint to the last step, or until `stop` is true.

        Parameters
        ----------
        stop : object
            Evaluated after every step; true on any rank stops all.
        report : callable
            Called with `step`, `steps` and the figures of every new row of the history.

        Raises
        ------
        TrainingError
            Loss or gradient are not finite, memory is out (the last checkpoint is kept), or ranks read different
            checkpoints.
        """
        done, seconds = self.restore()
        for line in repetition(self.block, int(self.objective.eligible.sum())):
            _log.warning("%s: %s", self.folder.name, line)
        steps, history = self.block.steps, self.history
        began = time.monotonic() - seconds
        self.model.train()
        # Closed after an error too: otherwise the process would end only when all queued batches have been read.
        with closing(self._batches(done)) as batches, task(f"training {self.folder.name}", steps) as progress:
            for loaded in batches:
                with self._out_of_memory_explained():
                    figures = self.step(loaded)
                done += 1
                history.add({**figures, "data_wait_s": loaded.waited_s})
                validating = done % self.block.watch_every == 0 or done == steps
                improved = False
                if validating or done % history.every == 0:
                    history.close_row(done, self.optimizer.param_groups[0]["lr"], self.block.batch_size)
                    improved = validating and self._validate(done)
                    report(step=done, steps=steps, **headline_figures(history.rows[-1]))
                    progress.to(done, f"loss {figures['loss']:.3f}")
                stopping = any_rank(bool(stop), self.device)
                due = done == steps or stopping or improved or done % self.block.checkpoint_every == 0
                if rank() == 0 and due:
                    self._save(done, time.monotonic() - began)
                if stopping and done < steps:
                    break
        if rank() == 0 and done == steps and not self.folder.history.exists():
            # All steps were done before, and the results have been removed since because one was damaged.
            self.history.write(self.folder.history)
        wait_for_all()
        return self._result(done == steps, time.monotonic() - began)

    def step(self, loaded: LoadedBatch) -> dict[str, float]:
        """Take one optimizer step; return loss, gradient norm and statistics of the batch over all ranks.

        Shapes: b samples of this rank, S edge of a patch with margin, s edge of the network's input, D dimensions of
        the head's output.
        """
        batch, block = loaded.batch, self.block
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(batch.step, block.steps, block.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        # Whole, even if used in pieces: a piece of page-locked memory would be copied before it travels.
        patches = loaded.patches.to(self.device, non_blocking=True)  # (b, S, S) uint8
        if len(self.pieces) == 1:
            images = self.images(patches, batch.sample_keys)  # (b, 1, s, s) float32 in 0..1
            with self.autocast:
                output = self.network(images)  # (b, D)
            loss = self._loss(output, batch)  # ()
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            # The same three with less memory: every piece passes once for the loss and once more for its gradient.
            batch = batch.take(np.concatenate(self.pieces))
            images_of = [lambda p=p: self.images(patches[p], loaded.batch.sample_keys[p]) for p in self.pieces]
            _, output = chunked_backward(self.network, images_of, partial(self._loss, batch=batch), self.autocast)
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), block.optimizer.clip_norm or math.inf))
        if not math.isfinite(norm):
            raise self._not_finite("gradient", output, batch)
        self.optimizer.step()
        return {"loss": self.loss_value, "gradient_norm": norm, **self.objective.statistics()}

    def images(self, patches: torch.Tensor, sample_keys: np.ndarray) -> torch.Tensor:
        """Augment patches (b, S, S) to images (b, 1, s, s), channels last; the same keys give the same images.

        Not under autocast: bf16 would round the sampling grid by several pixels at the far side of a large patch.
        """
        return self.augment(patches, sample_keys).contiguous(memory_format=torch.channels_last)

    def _loss(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the loss () of outputs (b, D), in float32; the batch lists its samples in the same order."""
        loss = self.objective.loss(output, torch.from_numpy(batch.rows).to(self.device))
        # Summed over ranks, so that all of them raise if the loss of one is not finite.
        self.loss_value = float(self.objective.logged)
        if not math.isfinite(self.loss_value):
            raise self._not_finite("loss", output, batch)
        return loss

    def _not_finite(self, what: str, output: torch.Tensor, batch: Batch) -> TrainingError:
        ids = self.folder.patches["patch_id"].to_numpy()[batch.rows]
        faulty = ids[~torch.isfinite(output.detach()).all(1).cpu().numpy()]
        suspects = faulty if len(faulty) else ids
        return TrainingError(
            f"{self.folder.name}: the {what} is not finite in step {batch.step + 1}; "
            f"patches {', '.join(map(str, suspects[:8]))} (of {len(suspects)}).",
            looked_for=str(self.folder.checkpoints),
            to_fix="look at these patches; try a lower learning rate, a longer warm-up, clip_norm, or float32",
            meanwhile="the last checkpoint before this step is kept",
        )

    @contextmanager
    def _out_of_memory_explained(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"{self.folder.name}: a step needs more memory than {device_name(self.device)} has ({error}).",
                to_fix="set activation_checkpointing or chunk_size; `cytonet plan` says what fits which GPU",
                meanwhile="the last checkpoint is kept",
            ) from error

    def _sampler(self) -> BatchSampler:
        patches, block, shuffle = self.folder.patches, self.block, None
        if isinstance(self.source, SectionPatches):
            centres = (patches[axis].to_numpy() for axis in ("x_px", "y_px"))
            shuffle = Shuffle(blocks_of(self.source.section_of, *centres), block.shuffle_buffer)
        return BatchSampler(
            patches["patch_id"].to_numpy(),
            patches["brain"],
            self.objective.eligible,
            batch_size=block.batch_size,
            steps=block.steps,
            brain_floor=block.brain_floor,
            seed=block.seed,
            shuffle=shuffle,
        )

    def _batches(self, done: int) -> Generator[LoadedBatch, None, None]:
        """Yield this rank's part of every batch that is still to be trained on, read ahead by threads."""
        return load_batches(
            self.source,
            lambda step: self.sampler.batch(step).of_rank(rank(), world_size()),
            range(done, self.block.steps),
            workers=self.workers,
            buffer_steps=self.block.buffer_steps,
            device=self.device,
        )

    def _validate(self, done: int) -> bool:
        """Measure the encoder on validation patches; return whether it is the best so far."""
        measures = self.monitor.measure(self.model.encoder, self.device)
        self.history.extend_row(measures)
        if rank() == 0:
            _log.info("step %d of %d: %s", done, self.block.steps, log_line(self.history.rows[-1]))
        return self.best.update(done, measures.get("knn_accuracy"))

    def restore(self) -> tuple[int, float]:
        """Continue from the last checkpoint; return the number of steps done and the seconds that they took."""
        folder = self.folder
        done, state = restore_checkpoint(folder.checkpoints, self.model, self.optimizer, folder.fingerprint())
        if not same_on_all(done, self.device):
            raise TrainingError(
                f"{folder.name}: not every rank could read the same checkpoint (this one: after step {done}).",
                looked_for=str(folder.checkpoints),
                to_fix="run it again; if that does not help, check the file system that the nodes share",
            )
        before, this = state.get("runs", []), self.processes[-1]
        if done:
            _log.info("continuing after step %d", done)
        if changes := changes_between(before[-1:], this):
            _log.warning("after step %d: %s", done, changes)
        self.processes = [*before, {**this, "after_step": done}]
        self.history = History(self.block.steps, state.get("history"))
        self.best = BestState(**state.get("best", {}))
        return done, state.get("seconds", 0.0)

    def _save(self, done: int, seconds: float) -> None:
        state: dict[str, Any] = {
            "history": self.history.rows,
            "seconds": seconds,
            "best": self.best.as_json(),
            "runs": self.processes,
        }
        # Before the checkpoint: a run that is killed after its last checkpoint writes no history any more.
        self.history.write(self.folder.history)
        save_checkpoint(
            self.folder.checkpoints, done, self.model, self.optimizer, self.folder.fingerprint(), state, self.best.step
        )

    def _result(self, finished: bool, seconds: float) -> TrainingResult:
        rows = reversed(self.history.rows)
        measures: dict[str, Any] = next((row for row in rows if "effective_rank" in row), {})
        figures = {
            "steps": self.block.steps,
            "samples": self.block.steps * self.block.batch_size,
            "distinct patches": int(self.objective.eligible.sum()),
            "brain shares": {brain: round(share, 4) for brain, share in self.sampler.shares.items()},
            "seconds": round(seconds, 1),
            "ranks": world_size(),
            **headline_figures(measures),
        }
        warnings = warnings_of(self.block, self.model, len(self.pieces), self.history.frame(), self.processes)
        warnings += repetition(self.block, int(self.objective.eligible.sum()))
        return TrainingResult(
            finished,
            self.model.encoder,
            self.objective,
            figures,
            self.best,
            self.processes,
            tuple(collapse_problems(measures)) if finished else (),
            tuple(warnings),
        )


def _has_bf16(device: torch.device) -> bool:
    # Emulated, as before Ampere, it is slower than float32.
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
