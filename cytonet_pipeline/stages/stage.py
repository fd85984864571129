"""What an asset is, for everything that deals with assets: its name, folder, inputs, computation and summary.

A result is current while the inputs recorded with it equal the inputs that it would be made from now, and its files are
there as they were written. Digests in the store decide, never Dagster's event log. This is the only rule; the command
line, the sensor, the schedule, jobs on the cluster and the Dagster assets all ask `Stage.is_current`.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from cytonet_pipeline.errors import DataFault, StoreError, TrainingError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import (
    Store,
    Verdict,
    as_json,
    atomic_folder,
    current_inputs,
    faults_in,
    is_drawn,
    open_store,
    remove_stamp,
    restamp,
    table,
    write_stamp,
)

PartitionSet = Literal["brain", "encoder"]
# A brain or an encoder by name; None for the stages that have no partitions.
Partition = TypeVar("Partition", bound=str | None)
# What a result is made from: digests, settings, the code version.
Inputs = dict[str, Any]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What a result tells a person: on its asset page and wherever else results are shown.

    Attributes
    ----------
    folder : Path
        Where the result lies.
    data_version : str
        Digest by which later stages know the result.
    status : str
        `ok` or `failed`, of stages that leave a verdict; else empty.
    reasons : tuple of str
        What is wrong with the result, or worth a look.
    numbers : mapping
        Figures by the name that people read.
    pictures, texts : mapping
        PNG files and Markdown, by title.
    """

    folder: Path
    data_version: str
    status: str = ""
    reasons: tuple[str, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


class Stage(ABC, Generic[Partition]):
    """One asset, without Dagster.

    Attributes
    ----------
    name : str
        Name of the asset.
    group : str
        Group of the asset; its job materialises the group.
    partition_set : {"brain", "encoder"} or None
    code_version : str
        Raised by hand when the same inputs would give another result. It is part of what makes a result current, and
        the version that Dagster shows.
    tables : mapping
        The tables that the stage writes: name in the schema registry, and a glob pattern below the folder.
    later_inputs : frozenset of str
        Keys of the inputs that version 0.2.1 did not record. They are compared where they are recorded; to other
        results they are added by the next run.
    """

    name: ClassVar[str]
    group: ClassVar[str]
    partition_set: ClassVar[PartitionSet | None]
    code_version: ClassVar[str]
    tables: ClassVar[Mapping[str, str]] = {}
    later_inputs: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def folder(self, settings: Settings, partition: Partition) -> Path:
        """Return the folder of the result.

        Raises
        ------
        CytonetError
            The folder is named by a version that has not been decided or trained yet.
        """

    @abstractmethod
    def inputs(self, settings: Settings, partition: Partition) -> dict[str, Any]:
        """Return what a current result is made from: digests, settings, and the code version."""

    def recorded_inputs(self, settings: Settings, partition: Partition) -> dict[str, Any] | None:
        """Return what the stored result was made from; None if there is none, or it is incomplete or damaged."""
        return current_inputs(self.folder(settings, partition))

    def is_current(self, settings: Settings, partition: Partition) -> bool:
        """Whether the stored result need not be computed again; pictures that `draw` makes do not count.

        False also while something that the stage needs is not in the store yet, or cannot be read.
        """
        try:
            return self.is_made_from(self.inputs(settings, partition), settings, partition)
        except (DataFault, StoreError, TrainingError):
            return False

    def is_drawn(self, settings: Settings, partition: Partition) -> bool:
        """Whether the pictures beside a current result are there, as they were drawn."""
        faults = faults_in(self.folder(settings, partition))
        return not any(fault.of_drawing for fault in faults)

    def is_made_from(self, inputs: Mapping[str, Any], settings: Settings, partition: Partition) -> bool:
        """Whether the stored result is whole and was made from exactly these inputs."""
        recorded = self.recorded_inputs(settings, partition)
        return recorded is not None and self.with_later_inputs(recorded, inputs) == as_json(inputs)

    def with_later_inputs(self, recorded: Inputs, inputs: Mapping[str, Any]) -> Inputs:
        """Return recorded inputs, with those of `later_inputs` that version 0.2.1 did not record as they are now."""
        return {**{key: inputs[key] for key in self.later_inputs if key in inputs}, **recorded}

    def verdict(self, settings: Settings, partition: Partition) -> Verdict | None:
        """Return the verdict on the stored result; None if the stage leaves none. Nothing may use a failed one.

        Raises
        ------
        CytonetError
            There is no result.
        """
        return None

    def require_usable(self, settings: Settings, partition: Partition) -> None:
        """Refuse a stored result whose verdict is `failed`: blocking checks of Dagster do not reach across runs.

        Raises
        ------
        TrainingError
            It failed; with what is wrong and what to do.
        StoreError
            There is no result.
        """
        return

    def is_requested(self, settings: Settings, partition: Partition) -> bool:
        """Whether the experiments file asks for this result; `cytonet run` leaves it out if not."""
        return True

    @abstractmethod
    def run(self, settings: Settings, partition: Partition, *, recompute: bool = False) -> None:
        """Bring the result and its pictures up to date.

        Parameters
        ----------
        recompute : bool
            Also if it is current.

        Raises
        ------
        CytonetError
            It cannot be computed. A fault in the data of one brain is not raised: it becomes the brain's verdict.
        """

    @abstractmethod
    def summary(self, settings: Settings, partition: Partition) -> Summary:
        """Return what the stored result tells a person."""

    def table_files(self, settings: Settings, partition: Partition) -> dict[str, list[Path]]:
        """Return the files of each table in `tables`, sorted."""
        folder = self.folder(settings, partition)
        return {name: sorted(folder.glob(pattern)) for name, pattern in self.tables.items()}


class StampedStage(Stage[Partition]):
    """A stage whose result is one folder, written in one piece with the stamp of its inputs.

    Attributes
    ----------
    draws : bool
        Whether its pictures are drawn by `draw`, after the result. Others draw while they compute.
    drawn_inputs : frozenset of str
        Keys of the inputs that only such pictures show: after a change they are drawn again, and the rest is kept.
    """

    draws: ClassVar[bool] = False
    drawn_inputs: ClassVar[frozenset[str]] = frozenset()

    def is_drawn(self, settings: Settings, partition: Partition) -> bool:
        """See `Stage.is_drawn`."""
        if self.draws:
            return is_drawn(self.folder(settings, partition))
        return super().is_drawn(settings, partition)

    def run(self, settings: Settings, partition: Partition, *, recompute: bool = False) -> None:
        """See `Stage.run`."""
        open_store(settings)
        inputs = self.inputs(settings, partition)
        if recompute or not self._keeps_result(inputs, settings, partition):
            with atomic_folder(self.folder(settings, partition)) as writing:
                self.compute(settings, partition, writing, inputs, recompute=recompute)
                write_stamp(writing, inputs)
        self._draw_if_missing(settings, partition)

    def draw(self, settings: Settings, partition: Partition) -> Mapping[str, Path]:
        """Draw the pictures of a current result if they are not there; return those to show, by title."""
        return {}

    def _draw_if_missing(self, settings: Settings, partition: Partition) -> None:
        if self.draws and not self.is_drawn(settings, partition):
            self.draw(settings, partition)

    def _keeps_result(self, inputs: Inputs, settings: Settings, partition: Partition) -> bool:
        """Whether nothing is to be computed. The stamp of a result that is kept gets the inputs that it lacks.

        Pictures are drawn while computing, except by a stage that `draws`.
        """
        recorded = self.recorded_inputs(settings, partition)
        if recorded is None or not (self.draws or self.is_drawn(settings, partition)):
            return False
        but_for_pictures = {**inputs, **{key: recorded[key] for key in self.drawn_inputs & recorded.keys()}}
        if not self.is_made_from(but_for_pictures, settings, partition):
            return False
        if recorded != as_json(inputs):
            folder = self.folder(settings, partition)
            if added := sorted(inputs.keys() - recorded.keys()):
                _log.info("%s: of version 0.2.1, taken to be made from the present %s", folder, ", ".join(added))
            restamp(folder, inputs)
        return True

    @abstractmethod
    def compute(
        self, settings: Settings, partition: Partition, folder: Path, inputs: Inputs, *, recompute: bool
    ) -> None:
        """Write the result into `folder`.

        Parameters
        ----------
        inputs : mapping
            What the result will be stamped with: evaluated once, as it may change while the result is computed.
        recompute : bool
            Take nothing over from an earlier result.
        """


class ResumableStage(StampedStage[Partition]):
    """A stage whose result has parts with stamps of their own: a killed run goes on with the next part."""

    def run(self, settings: Settings, partition: Partition, *, recompute: bool = False) -> None:
        """See `Stage.run`."""
        open_store(settings)
        inputs = self.inputs(settings, partition)
        if recompute:
            self.discard(settings, partition)
        if not self._keeps_result(inputs, settings, partition):
            folder = self.folder(settings, partition)
            self.compute(settings, partition, folder, inputs, recompute=recompute)
            write_stamp(folder, inputs)
        self._draw_if_missing(settings, partition)

    def discard(self, settings: Settings, partition: Partition) -> None:
        """Make the stored result and its parts count as missing; after that a plain `run` computes them again."""
        open_store(settings)
        folder = self.folder(settings, partition)
        for part in (folder, *folder.glob("*/")):
            remove_stamp(part)


def with_table_version(code_version: str, table_name: str) -> str:
    """Return a stage's code version with the version of its table: another column makes stored results stale."""
    version = table(table_name).version
    return code_version if version == 1 else f"{code_version}.{version}"


def store_of(settings: Settings) -> Store:
    """Return the store that the settings name."""
    return Store(settings.store)
