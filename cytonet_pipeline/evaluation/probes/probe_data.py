"""Labelled features of an encoder, and which of them are for training, validation and test.

The one place that separates the three. Nothing that decides on a probe sees a row of a test section.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytonet_pipeline.errors import DataFault, StoreError
from cytonet_pipeline.evaluation.features.embedding_store import read_embeddings
from cytonet_pipeline.evaluation.features.evaluation_set import evaluation_set
from cytonet_pipeline.evaluation.probes.heads import Labelled
from cytonet_pipeline.patches import TEST_ROLES, split_for_training
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store


@dataclass(frozen=True)
class ProbeData:
    """Annotated patches with their features.

    Attributes
    ----------
    rows : DataFrame
        As `evaluation_set` gives them, labelled ones only.
    features : (N, D) float16 array
    train, validation : (N,) bool arrays
        Rows that probes are trained on, and rows of other sections that their hyperparameters are chosen on.
    validation_source : str
        Where `validation` comes from: see `split_for_training`.
    """

    rows: pd.DataFrame
    features: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    validation_source: str

    @property
    def areas(self) -> np.ndarray:
        """(N,) annotated area of each row."""
        return self.rows["annotated_area"].to_numpy()

    @property
    def trained_areas(self) -> np.ndarray:
        """(C,) areas with rows to train on, ascending: the classes."""
        return np.unique(self.areas[self.train])

    def labelled(self, which: np.ndarray) -> Labelled:
        """Return features and areas of some rows."""
        return Labelled(self.features[which], self.areas[which])

    @property
    def scored(self) -> np.ndarray:
        """(N,) whether a row is scored: those of test sections whose area has training rows are."""
        return self.rows["role"].isin(TEST_ROLES).to_numpy() & np.isin(self.areas, self.trained_areas)


def probe_data(store: Store, encoder: str, version: str, settings: Settings) -> ProbeData:
    """Read the labelled patches of an encoder's evaluation and their features.

    Raises
    ------
    StoreError
        Features of some of them have not been computed.
    DataFault
        Fewer than two areas are annotated in the encoder's training sections: nothing can be classified.
    """
    rows = evaluation_set(store, encoder, version, settings)
    rows = rows[rows["labelled"]].reset_index(drop=True)
    patch_ids, features = read_embeddings(store, encoder, version, dtype=np.float16)
    place = pd.Series(np.arange(len(patch_ids)), index=patch_ids).reindex(rows["patch_id"].to_numpy())
    if place.isna().any():
        raise StoreError(
            f"encoder {encoder}: {int(place.isna().sum())} patches of the evaluation have no features.",
            looked_for=str(store.patch_embeddings(encoder, version)),
            to_fix=f"cytonet run --encoders {encoder}",
        )
    train, validation, source = split_for_training(rows)
    if len(np.unique(rows["annotated_area"][train])) < 2:
        raise DataFault(
            f"encoder {encoder}: fewer than two areas are annotated in its training sections.",
            to_fix="annotate more sections (derivatives/annotation), or leave the probes of this encoder out",
            meanwhile="its features, UMAP and other encoders go on",
        )
    return ProbeData(rows, features[place.to_numpy(np.int64)], train, validation, source)
