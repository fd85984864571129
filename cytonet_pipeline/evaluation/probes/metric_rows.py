"""Rows of the table of results: what was scored, the scores and their intervals."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.evaluation.features.evaluation_set import encoder_sections
from cytonet_pipeline.evaluation.metrics.intervals import intervals
from cytonet_pipeline.evaluation.metrics.scoring import scores
from cytonet_pipeline.evaluation.probes.protocols import Protocol
from cytonet_pipeline.patches import TEST_ROLES
from cytonet_pipeline.scores import SCORES
from cytonet_pipeline.settings import TRAINED, WITHOUT_WEIGHTS, Settings
from cytonet_pipeline.store import Store, table


@dataclass(frozen=True)
class Identity:
    """Columns that identify the encoder of a row."""

    dataset: str
    encoder: str
    version: str
    method: str
    backbone: str
    pretrain_samples: int
    held_out: str
    seed: int


def identity_of(encoder: str, version: str, settings: Settings, store: Store) -> Identity:
    """Identify an encoder by its experiments entry and what it was trained on."""
    block = settings.encoder(encoder)
    sections = encoder_sections(store, encoder, version)
    seen = int(sections.loc[sections["role"] == "train", "n_training_patches"].sum())
    return Identity(
        dataset=Dataset(settings.data, settings.experiments.dataset).name,
        encoder=encoder,
        version=version,
        method=block.method,
        backbone="n/a" if block.method in WITHOUT_WEIGHTS else block.backbone,
        pretrain_samples=seen if block.method in TRAINED else 0,
        held_out=settings.held_out(encoder),
        seed=block.seed,
    )


def metric_rows(
    predictions: pd.DataFrame,
    identity: Identity,
    protocol: Protocol,
    draw: int,
    *,
    gap_mm: float,
    bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Return one row per split (table `metrics`).

    Parameters
    ----------
    predictions : DataFrame
        Scored patches: `split`, `brain`, `sample`, `position_mm`, `area`, `predicted_area`, `in_top`.
    bootstrap : int
        Resamplings for the intervals; 0: none. Draws of few labels have no interval: their spread is over draws.
    """
    rows = []
    for split in TEST_ROLES:
        scored = predictions[predictions["split"] == split].reset_index(drop=True)
        ends = intervals(scored, gap_mm, bootstrap, seed) if protocol.labels_per_area == 0 else {}
        rows.append(
            {
                **vars(identity),
                "protocol": protocol.name,
                "labels_per_area": protocol.labels_per_area,
                "draw": draw,
                "split": split,
                "n_brains": scored["brain"].nunique(),
                "n_sections": len(scored[["brain", "sample"]].drop_duplicates()),
                "n_patches": len(scored),
                "n_areas": scored["area"].nunique(),
                **scores(scored),
                **{f"{name}_{end}": ends.get(name, (np.nan, np.nan))[i] for name in SCORES
                   for i, end in enumerate(("low", "high"))},
            }
        )  # fmt: skip
    # What is measured across encoders has no values yet: the table of results adds it.
    return pd.DataFrame(rows).reindex(columns=[column.name for column in table("metrics").columns])
