"""One step of a training: pixels to the device, through the network, back, and the optimiser's move.

The batch goes through the network whole or in pieces (`chunking`); what is computed of it is in float32 from the head's
output on.
"""

import math
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from cytonet_pipeline.learning.data.augmentation import Augmentation
from cytonet_pipeline.learning.data.batches import LoadedBatch
from cytonet_pipeline.learning.losses.objectives import Objective
from cytonet_pipeline.learning.parallel.distributed import rank, world_size
from cytonet_pipeline.learning.training.chunking import chunked_backward, pieces
from cytonet_pipeline.learning.training.optimizers import set_learning_rate
from cytonet_pipeline.settings import EncoderBlock


class NotFinite(Exception):
    """A loss or gradient that is no number; every rank raises it in the same step.

    Attributes
    ----------
    what : str
        `loss` or `gradient`.
    faulty : (B,) bool tensor
        Which of this rank's samples have outputs that are not finite.
    """

    def __init__(self, what: str, faulty: torch.Tensor) -> None:
        super().__init__(what)
        self.what, self.faulty = what, faulty


class Stepper:
    """Takes the steps of a training.

    Parameters
    ----------
    model : module
        Encoder and head, under DDP where there are several ranks.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        augment: Augmentation,
        block: EncoderBlock,
        autocast: torch.autocast,
        device: torch.device,
    ) -> None:
        self._model, self._objective, self._optimizer, self._augment = model, objective, optimizer, augment
        self._clip_norm = block.optimizer.clip_norm or math.inf
        self._autocast, self._device = autocast, device
        self.pieces = pieces(block.batch_size, world_size(), rank(), block.chunk_size)

    def step(self, loaded: LoadedBatch, rate: float) -> dict[str, float]:
        """One optimiser step; loss, gradient norm and statistics of the batch over all ranks.

        Raises
        ------
        NotFinite
            The weights are left as they were before the step.
        """
        set_learning_rate(self._optimizer, rate)
        self._optimizer.zero_grad(set_to_none=True)
        # Whole: a piece of page-locked memory would be copied into common memory first, and travel once a pass.
        loaded = replace(loaded, patches=loaded.patches.to(self._device, non_blocking=True))
        rows = torch.from_numpy(loaded.batch.rows)
        order = torch.cat([torch.from_numpy(piece) for piece in self.pieces])
        if len(self.pieces) == 1:
            # Not under autocast: it would round to bf16 where pixels lie, by several at the far side of a large patch.
            images = self._images(loaded, None)
            with self._autocast:
                output = self._model(images)
            loss = self._loss(output, rows.to(self._device), order)
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            images_of = [partial(self._images, loaded, torch.from_numpy(piece)) for piece in self.pieces]
            loss_of = partial(self._loss, rows=rows[order].to(self._device), order=order)
            _, output = chunked_backward(self._model, images_of, loss_of, self._autocast)
        norm = float(nn.utils.clip_grad_norm_(self._model.parameters(), self._clip_norm))
        if not math.isfinite(norm):
            raise NotFinite("gradient", _faulty(output, order))
        self._optimizer.step()
        return {"loss": self._logged, "gradient_norm": norm, **self._objective.statistics()}

    def _loss(self, output: torch.Tensor, rows: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        loss = self._objective.loss(output, rows)
        # Summed over the ranks, so that all of them see it if one of them has no number.
        self._logged = float(self._objective.logged)
        if not math.isfinite(self._logged):
            raise NotFinite("loss", _faulty(output, order))
        return loss

    def _images(self, loaded: LoadedBatch, piece: torch.Tensor | None) -> torch.Tensor:
        """Augmented images of a piece of the batch; the same whenever it is asked for."""
        patches, keys = loaded.patches, loaded.batch.sample_keys
        if piece is not None:
            patches, keys = patches[piece.to(patches.device)], keys[piece.numpy()]
        images = self._augment(patches, keys)
        return images.contiguous(memory_format=torch.channels_last)


def _faulty(output: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    faulty = torch.zeros(len(order), dtype=torch.bool)
    faulty[order] = ~torch.isfinite(output.detach()).all(1).cpu()
    return faulty
