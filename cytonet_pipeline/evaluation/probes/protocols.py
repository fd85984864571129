"""The named ways of putting labels on features, and which of them an encoder goes through.

linear_E30, linear_E500   linear probe of so many epochs
logistic                  logistic regression to its optimum; also with few labels (label efficiency)
knn                       vote of the nearest training patches; of the control that knows positions also with few labels
end_to_end                the classifier that was trained together with the network (scratch)
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cytonet_pipeline.settings import EvaluationBlock, Method


@dataclass(frozen=True)
class Protocol:
    """One protocol, in one or several draws of labelled patches.

    Attributes
    ----------
    name : str
        As in the table of results.
    labels_per_area : int
        Labelled patches an area at the most; 0: all (up to `samples_per_area`).
    draws : int
        How many draws of labelled patches; 1 where all are taken.
    epochs : int
        Of a linear probe.
    """

    name: str
    labels_per_area: int = 0
    draws: int = 1
    epochs: int = 0

    @property
    def folder(self) -> str:
        """Name of its folder in `linear_probes`."""
        return f"{self.name}_n{self.labels_per_area}" if self.labels_per_area else self.name

    @property
    def title(self) -> str:
        """How a person reads it."""
        return f"{self.name}, {self.labels_per_area} an area" if self.labels_per_area else self.name


def protocols_of(method: Method, block: EvaluationBlock) -> tuple[Protocol, ...]:
    """Protocols that an encoder of this method goes through, the main one first.

    Position is read by nearest neighbours alone: areas are not linear in millimetres, and a probe that fails on them
    would make a weak control.
    """
    return tuple(_protocols(method, block))


def _protocols(method: Method, block: EvaluationBlock) -> Iterator[Protocol]:
    if method != "position":
        for epochs in block.epochs:
            yield Protocol(f"linear_E{epochs}", epochs=epochs)
        yield Protocol("logistic")
        for labels in block.labels_per_area:
            yield Protocol("logistic", labels_per_area=labels, draws=block.draws)
    yield Protocol("knn")
    if method == "position":
        for labels in block.labels_per_area:
            yield Protocol("knn", labels_per_area=labels, draws=block.draws)
    if method == "scratch":
        yield Protocol("end_to_end")
