"""Labelled features of an encoder, and which of them may be trained on, chosen on and scored.

The one place where the three are told apart. Nothing that decides on a probe sees a row of a test section.
"""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytonet_pipeline.errors import DataFault, StoreError
from cytonet_pipeline.evaluation.features.embedding_store import read_embeddings
from cytonet_pipeline.evaluation.features.evaluation_set import TEST_ROLES, evaluation_set
from cytonet_pipeline.evaluation.probes.linear import Labelled
from cytonet_pipeline.settings import EvaluationBlock
from cytonet_pipeline.store import Store, digest_bytes

# Validation sections that cover fewer of the trained areas than this say too little about a choice.
_LEAST_COVERED = 0.5
_CARVED_SHARE = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProbeData:
    """Annotated patches with their features.

    Attributes
    ----------
    rows : DataFrame
        As `evaluation_set` gives them, labelled ones only.
    features : (N, D) float16 array
    fit, choose : (N,) bool arrays
        Rows that probes are trained on, and rows of other sections that their hyperparameters are chosen on.
    chosen_on : str
        Where `choose` comes from: `validation` sections, or sections `carved` from training.
    """

    rows: pd.DataFrame
    features: np.ndarray
    fit: np.ndarray
    choose: np.ndarray
    chosen_on: str

    @property
    def areas(self) -> np.ndarray:
        """(N,) annotated area of each row."""
        return self.rows["annotated_area"].to_numpy()

    @property
    def trained_areas(self) -> np.ndarray:
        """(C,) areas with rows to train on, ascending: the classes."""
        return np.unique(self.areas[self.fit])

    def labelled(self, which: np.ndarray) -> Labelled:
        """Features and areas of some rows."""
        return Labelled(self.features[which], self.areas[which])

    @property
    def scored(self) -> np.ndarray:
        """(N,) which rows are scored: those of test sections whose area has training rows."""
        return self.rows["role"].isin(TEST_ROLES).to_numpy() & np.isin(self.areas, self.trained_areas)


def probe_data(store: Store, encoder: str, version: str, block: EvaluationBlock) -> ProbeData:
    """Read the labelled patches of an encoder's evaluation and their features.

    Raises
    ------
    StoreError
        Features of some of them have not been computed.
    DataFault
        Fewer than two areas are annotated in the encoder's training sections: nothing can be classified.
    """
    rows = evaluation_set(store, encoder, version, block)
    rows = rows[rows["labelled"]].reset_index(drop=True)
    patch_ids, features = read_embeddings(store, encoder, version, dtype=np.float16)
    place = pd.Series(np.arange(len(patch_ids)), index=patch_ids).reindex(rows["patch_id"].to_numpy())
    if place.isna().any():
        raise StoreError(
            f"encoder {encoder}: {int(place.isna().sum())} patches of the evaluation have no features.",
            looked_for=str(store.patch_embeddings(encoder, version)),
            to_fix=f"cytonet run --encoders {encoder}",
        )
    fit, choose, chosen_on = choosing_rows(rows)
    if len(np.unique(rows["annotated_area"][fit])) < 2:
        raise DataFault(
            f"encoder {encoder}: fewer than two areas are annotated in its training sections.",
            to_fix="annotate more sections (derivatives/annotation), or leave the probes of this encoder out",
            meanwhile="its features, UMAP and other encoders go on",
        )
    return ProbeData(rows, features[place.to_numpy(np.int64)], fit, choose, chosen_on)


def choosing_rows(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, str]:
    """Which rows to train on and which to choose on.

    Hyperparameters are chosen on the validation blocks that were cut from training brains. Where these cover less than
    half of the trained areas, a fifth of the training sections of each brain is set aside instead, whole sections, but
    none without which an area would have nothing left to train on.

    Parameters
    ----------
    rows : DataFrame
        `brain`, `sample`, `role`, `annotated_area`.

    Returns
    -------
    fit, choose : (N,) bool arrays
    chosen_on : str
        `validation`, `carved`; or `training`, where no section can be spared.
    """
    train = (rows["role"] == "train").to_numpy()
    areas = rows["annotated_area"].to_numpy()
    trained = np.unique(areas[train])
    validation = (rows["role"] == "validation").to_numpy() & np.isin(areas, trained)
    if len(np.unique(areas[validation])) >= _LEAST_COVERED * len(trained) and validation.any():
        return train, validation, "validation"
    carved = _carved(rows, train)
    if not carved.any():
        _log.warning("no section can be spared for choosing hyperparameters: they are chosen on training rows")
        return train, train, "training"
    return train & ~carved, carved, "carved"


def _carved(rows: pd.DataFrame, train: np.ndarray) -> np.ndarray:
    taken = np.zeros(len(rows), dtype=bool)
    left = rows["annotated_area"][train].value_counts()
    for brain, of_brain in rows[train].groupby("brain", sort=True):
        samples = sorted(of_brain["sample"].unique(), key=lambda sample: digest_bytes(f"{brain}/{sample}".encode()))
        wanted = max(1, round(_CARVED_SHARE * len(samples)))
        for sample in samples:
            mine = of_brain[of_brain["sample"] == sample]
            counts = mine["annotated_area"].value_counts()
            if wanted == 0 or (left[counts.index] <= counts).any():
                continue
            taken[mine.index] = True
            left[counts.index] -= counts
            wanted -= 1
    return taken
