"""The named protocols: how a classifier is fitted to features, and which protocols an encoder goes through.

linear_E30, linear_E500   linear probe of 30 or 500 epochs
logistic                  logistic regression to its optimum; also with few labels (label efficiency)
knn                       vote of the nearest training patches; for the position control also with few labels
end_to_end                the classifier that was trained together with the network (scratch)

An encoder that was trained on a few labels per area is probed with exactly these: with more it would be no method of a
few labels, and another draw of them would be another training set.

A new protocol is a function that fits a head, and a line in `_protocols`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cytonet_pipeline.settings import EncoderBlock, EvaluationBlock, Method

if TYPE_CHECKING:
    # What fits heads is imported where it is used: stages ask for the names of protocols, and need no torch for that.
    from cytonet_pipeline.evaluation.probes.heads import Head, Labelled


@dataclass(frozen=True)
class FitInputs:
    """What a protocol may use to fit a head: no row of a test section is in here.

    Attributes
    ----------
    train, validation : Labelled
        Rows to fit, and rows of other sections to choose hyperparameters on.
    encoder_folder : Path
        Folder of the encoder's version.
    """

    train: "Labelled"
    validation: "Labelled"
    block: EvaluationBlock
    method: Method
    encoder_folder: Path


Fitted = tuple["Head", dict[str, object]]


@dataclass(frozen=True)
class Protocol:
    """One protocol, in one or several draws of labelled patches.

    Attributes
    ----------
    name : str
        As in the table of results.
    fit : callable
        Fits a head; returns it with a record of what was chosen.
    labels_per_area : int
        Most labelled patches per area; 0: all (up to `samples_per_area`).
    draws : int
        Number of draws of labelled patches; 1 where all are taken.
    own_draw : int, optional
        The draw that the encoder itself was trained on, for a protocol that takes no other.
    """

    name: str
    fit: Callable[[FitInputs], Fitted]
    labels_per_area: int = 0
    draws: int = 1
    own_draw: int | None = None

    @property
    def drawn(self) -> range:
        """Numbers of the draws that it goes through."""
        return range(self.draws) if self.own_draw is None else range(self.own_draw, self.own_draw + 1)

    @property
    def has_details(self) -> bool:
        """Whether its folder holds predictions and a probe: of a single fit, not of several draws."""
        return self.labels_per_area == 0 or self.own_draw is not None

    @property
    def folder(self) -> str:
        """Name of its folder in `linear_probes`."""
        return folder_of(self.name, self.labels_per_area)

    @property
    def title(self) -> str:
        """Name in messages."""
        return f"{self.name}, {self.labels_per_area} labels per area" if self.labels_per_area else self.name


def folder_of(protocol: str, labels_per_area: int) -> str:
    """Return the name of a protocol's folder in `linear_probes`."""
    return f"{protocol}_n{labels_per_area}" if labels_per_area else protocol


def protocols_of(method: Method, block: EvaluationBlock, own: tuple[int, int] | None = None) -> tuple[Protocol, ...]:
    """Return the protocols that an encoder of this method goes through, the main one first.

    Parameters
    ----------
    own : (int, int), optional
        Labels per area that the encoder itself was trained on, and the number of their draw; default: all labels.

    Positions are classified by nearest neighbours alone: areas are not linear in millimetres, and a probe that fails on
    them would make a weak control.
    """
    return tuple(_protocols(method, block)) if own is None else tuple(_own_protocols(method, *own))


def own_labels(block: EncoderBlock) -> tuple[int, int] | None:
    """Return labels per area and draw of an encoder that was trained on few; None for one of all labels or of none."""
    return None if block.labels_per_area is None else (block.labels_per_area, block.labels_draw)


def _own_protocols(method: Method, labels: int, draw: int) -> Iterator[Protocol]:
    yield Protocol("logistic", _logistic, labels_per_area=labels, own_draw=draw)
    if method == "scratch":
        yield Protocol("end_to_end", _end_to_end, labels_per_area=labels, own_draw=draw)


def _protocols(method: Method, block: EvaluationBlock) -> Iterator[Protocol]:
    if method != "position":
        for epochs in block.epochs:
            yield Protocol(f"linear_E{epochs}", partial(_linear, epochs=epochs))
        yield Protocol("logistic", _logistic)
        for labels in block.labels_per_area:
            yield Protocol("logistic", _logistic, labels_per_area=labels, draws=block.draws)
    yield Protocol("knn", _knn)
    if method == "position":
        for labels in block.labels_per_area:
            yield Protocol("knn", _knn, labels_per_area=labels, draws=block.draws)
    if method == "scratch":
        yield Protocol("end_to_end", _end_to_end)


def _linear(inputs: FitInputs, *, epochs: int) -> Fitted:
    from cytonet_pipeline.evaluation.probes.linear import Schedule, fit_linear

    block = inputs.block
    schedule = Schedule(epochs, block.learning_rates, block.batch_size, seed=block.seed)
    return fit_linear(inputs.train, inputs.validation, schedule)


def _logistic(inputs: FitInputs) -> Fitted:
    from cytonet_pipeline.evaluation.probes.logistic import fit_logistic

    return fit_logistic(inputs.train, inputs.validation, inputs.block.logistic_c)


def _knn(inputs: FitInputs) -> Fitted:
    from cytonet_pipeline.evaluation.probes.knn import fit_knn

    return fit_knn(inputs.train, inputs.method, inputs.block)


def _end_to_end(inputs: FitInputs) -> Fitted:
    """Read the classifier as training from scratch left it; nothing is fitted here."""
    from cytonet_pipeline.evaluation.probes.heads import LinearHead

    return LinearHead.read(inputs.encoder_folder / "classifier.safetensors"), {}
