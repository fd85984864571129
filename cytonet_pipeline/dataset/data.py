"""The data set as a whole: which brains it has and which may be ingested."""

import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from cytonet_pipeline.dataset.areas import read_area_table
from cytonet_pipeline.dataset.brain import Brain
from cytonet_pipeline.dataset.files import read_json
from cytonet_pipeline.dataset.names import is_label
from cytonet_pipeline.dataset.once import once
from cytonet_pipeline.dataset.reading import read_brain
from cytonet_pipeline.dataset.release import (
    future_file_of,
    is_released,
    read_participants,
    reason_against,
    reason_against_table,
    releases_by_table,
)
from cytonet_pipeline.dataset.unused_files import names_passed_over, strays
from cytonet_pipeline.errors import ConfigurationError, DataFault
from cytonet_pipeline.names import bare_brain, describe_known
from cytonet_pipeline.settings import DatasetBlock

_TO_FIX = "set CYTONET_DATA to a BIDS data set (docs/own-brains.md), or write one with: cytonet phantom DIR"


class Dataset:
    """A BIDS data set of brains. It holds no state: every call reads the files again.

    Raises
    ------
    ConfigurationError
        The folder is missing, empty or without any brain.
    """

    def __init__(self, root: Path, block: DatasetBlock) -> None:
        self.root = Path(os.path.abspath(Path(root).expanduser()))
        self.block = block
        if not self.root.is_dir():
            raise ConfigurationError(f"{self.root}: no such folder, so there is no data set.", to_fix=_TO_FIX)
        if not self.brains():
            raise ConfigurationError(
                f"{self.root}: no brain in this data set.",
                looked_for=("folders sub-*", "participants.tsv, column participant_id"),
                to_fix=_TO_FIX,
            )

    @property
    def name(self) -> str:
        """Name of the data set by `dataset_description.json`, otherwise that of its folder."""
        path = self.root / "dataset_description.json"
        if not path.is_file():
            return self.root.name
        try:
            name = read_json(path).get("Name")
        except DataFault as fault:
            raise ConfigurationError(f"{path}: {fault.what}") from fault
        return str(name) if name else self.root.name

    def brains(self) -> list[str]:
        """List all brains that have a folder or a row in `participants.tsv`, sorted."""
        folders = {path.name.removeprefix("sub-") for path in self.root.glob("sub-*") if path.is_dir()}
        participants = read_participants(self.root)
        listed = set() if participants is None else set(participants["participant_id"])
        return sorted(name for name in folders | listed if is_label(name))

    def released(self) -> list[str]:
        """List the brains that may be ingested now."""
        participants = read_participants(self.root)
        return [b for b in self.brains() if is_released(self.root, b, participants, self.block.quiet_minutes)]

    def file_of_the_future(self, brain: str) -> str:
        """Describe a file whose time lies in the future, if it keeps the brain from being released; else nothing."""
        return future_file_of(self.root, brain, read_participants(self.root))

    def releases_by_table(self) -> bool:
        """Tell whether `participants.tsv` decides which brains are released; else their quiet times do."""
        return releases_by_table(read_participants(self.root))

    def listed_as_ready(self) -> list[str]:
        """List the brains that `participants.tsv` releases; all of them if it does not decide."""
        participants = read_participants(self.root)
        return [brain for brain in self.brains() if not reason_against_table(brain, participants)]

    def names_passed_over(self) -> list[str]:
        """Describe folders and rows of `participants.tsv` whose names cannot be those of brains."""
        participants = read_participants(self.root)
        return names_passed_over(self.root, () if participants is None else participants["participant_id"])

    def strays(self) -> list[str]:
        """Describe files and folders that lie where those of brains do, and belong to no brain."""
        return strays(self.root, self.brains())

    def reasons_against(self, brains: Iterable[str]) -> dict[str, str]:
        """Return, of brains that have been ingested, those that must not take part in training, with the reasons.

        Only released brains of the data set take part: a store may hold others, of which it learns nothing new.
        """
        participants = read_participants(self.root)
        reasons = {brain: reason_against(self.root, brain, participants) for brain in brains}
        return {brain: reason for brain, reason in reasons.items() if reason}

    def brain(self, name: str) -> Brain:
        """Read a brain; an incomplete one is returned with its problems.

        Raises
        ------
        DataFault
            The data set has no brain of that name.
        """
        brain, known = bare_brain(name), self.brains()
        if brain not in known:
            raise DataFault(
                f"{self.root}: no brain {brain}; {describe_known(brain, known)}.",
                to_fix=f"correct the name, or add the folder sub-{brain}",
            )
        return once(("brain", self.root, brain, id(self.block)), lambda: read_brain(self.root, brain, self.block))

    def area_names(self) -> pd.DataFrame:
        """Read what the annotations' numbers mean: `index`, `name`, `color`; no rows without the file.

        Raises
        ------
        DataFault
            The table cannot be read, or an index is not a number or occurs twice.
        """
        return read_area_table(self.root)
