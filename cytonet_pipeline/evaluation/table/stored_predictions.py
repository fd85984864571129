"""The stored predictions behind the rows of the table of results, and the places of the patches.

With all labels a folder of `linear_probes` has one set of predictions; with few, one per draw of labels. Entries are
read budget by budget, so that memory holds the predictions of one draw at a time.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset

from cytonet_pipeline.evaluation.probes.protocols import folder_of
from cytonet_pipeline.evaluation.table.entry import Entry
from cytonet_pipeline.scores import without_retrieval
from cytonet_pipeline.store import Store, read_record, read_table

_OF_ONE_FIT, _OF_DRAWS = "predictions.parquet", "drawn_predictions.parquet"
# Dataset, unseen brain, labels per area, draw.
Budget = tuple[str, str, int, int]


@dataclass(frozen=True)
class StoredPredictions:
    """Predictions of one encoder, protocol, number of labels and draw.

    Attributes
    ----------
    row : mapping
        A row of table `metrics` that was scored on them.
    folder : Path
        Folder of the protocol in `linear_probes`.
    """

    row: Mapping[str, object]
    folder: Path

    @property
    def key(self) -> tuple[str, str]:
        """Encoder and protocol."""
        return str(self.row["encoder"]), str(self.row["protocol"])

    @property
    def labels_per_area(self) -> int:
        """Labels per area; 0: all."""
        return int(str(self.row["labels_per_area"]))

    @property
    def draw(self) -> int:
        """Number of the draw."""
        return int(str(self.row["draw"]))

    @property
    def budget(self) -> Budget:
        """See `Entry.budget`."""
        return str(self.row["dataset"]), str(self.row["held_out"]), self.labels_per_area, self.draw

    @cached_property
    def path(self) -> Path | None:
        """The file; None in a folder from before predictions of several draws were stored."""
        paths = (self.folder / name for name in (_OF_ONE_FIT, _OF_DRAWS))
        return next((path for path in paths if path.exists()), None)

    def read(self, columns: Iterable[str] | None = None) -> pd.DataFrame:
        """Read a row per scored patch: `patch_id`, `split`, `area`, `predicted_area`, or other columns."""
        wanted = list(columns or ("patch_id", "split", "area", "predicted_area"))
        if self.path is None:
            raise FileNotFoundError(self.folder / _OF_DRAWS)
        if self.path.name == _OF_ONE_FIT:
            return read_table(self.path, "predictions", columns=wanted)
        of_draw = pyarrow.dataset.field("draw") == self.draw
        return read_table(self.path, "drawn_predictions", columns=wanted, where=of_draw)

    def entry(self, places: pd.DataFrame, border_mm: pd.DataFrame) -> Entry:
        """Read the predictions as an entry of the table, each at its place.

        Parameters
        ----------
        places : DataFrame
            `patch_id`, `brain`, `sample`, `position_mm`.
        border_mm : DataFrame
            Table `border_distances`.
        """
        placed = self.read().merge(places[["patch_id", "brain", "sample", "position_mm"]], on="patch_id")
        placed = placed.merge(border_mm[["patch_id", "border_mm"]], on="patch_id").assign(in_top=False)
        areas = read_record(self.folder / "probe.json")["areas"]
        encoder, protocol = self.key
        dataset, held_out, labels, draw = self.budget
        classes = tuple(sorted(int(area) for area in areas))
        return Entry(encoder, str(self.row["method"]), protocol, dataset, held_out, labels, draw, classes, placed)


def stored_predictions(
    metrics: pd.DataFrame, stored_as: pd.Series, versions: Mapping[str, str], store: Store
) -> list[StoredPredictions]:
    """Find the predictions of every row of table `metrics` that is scored on some; those of all labels first.

    Parameters
    ----------
    stored_as : Series
        Protocol of each row by the name that its folder has.
    """
    predicted = without_retrieval(metrics.assign(stored_as=stored_as))
    first = predicted.drop_duplicates(["encoder", "protocol", "labels_per_area", "draw"]).to_dict("records")
    found = [
        StoredPredictions(
            {str(name): value for name, value in row.items()},
            store.linear_probes(
                str(row["encoder"]),
                versions[str(row["encoder"])],
                folder_of(str(row["stored_as"]), int(row["labels_per_area"])),
            ),
        )
        for row in first
    ]
    return sorted(found, key=lambda one: one.budget[2:])


def by_budget(predictions: Iterable[StoredPredictions]) -> Iterator[list[StoredPredictions]]:
    """Yield those whose predictions are there, budget by budget: all labels first."""
    of_budget: dict[Budget, list[StoredPredictions]] = {}
    for one in predictions:
        if one.path is not None:
            of_budget.setdefault(one.budget, []).append(one)
    yield from of_budget.values()


def patches_of(predictions: Iterable[StoredPredictions]) -> np.ndarray:
    """Return the ids of all patches that some predictions are of, ascending."""
    found = np.empty(0, np.uint64)
    for path in dict.fromkeys(one.path for one in predictions if one.path is not None):
        name = "predictions" if path.name == _OF_ONE_FIT else "drawn_predictions"
        ids = read_table(path, name, columns=["patch_id"])["patch_id"].to_numpy(np.uint64)
        if not np.isin(ids, found).all():
            found = np.union1d(found, ids)
    return found


def remarks_on_missing(predictions: Iterable[StoredPredictions]) -> list[str]:
    """Return a sentence that names the encoders whose predictions with few labels were not stored; or none."""
    missing = sorted({one.key[0] for one in predictions if one.path is None})
    if not missing:
        return []
    return [
        "no F1 at borders, no share of position's errors and no paired tests with few labels per area for "
        f"{', '.join(missing)}: their predictions were not stored before version 0.3.0. To have them, remove "
        "linear_probes/ENCODER/VERSION/*_n* from the store and run `cytonet run`; scores keep their digits"
    ]
