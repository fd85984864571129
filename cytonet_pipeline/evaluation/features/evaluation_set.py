"""Which patches of the index an encoder is evaluated on, and the role of each.

Roles are the encoder's own (`sections.parquet` in its folder), not the index's `split`, which is for the default
held-out brain. Subsets follow `order`, so that a larger one contains the smaller ones.
"""

import logging
from collections.abc import Iterable

import numpy as np
import pandas as pd

from cytonet_pipeline.errors import DamagedResult, StoreError
from cytonet_pipeline.lineage import brains_left_out
from cytonet_pipeline.patches import TEST_ROLES, labelled_rows, read_index, read_index_parameters
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import REFERENCE_MM, Store, digest_array, digest_left_in, digest_of, read_table

LEARNING_ROLES = ("train", "validation")

_log = logging.getLogger(__name__)

_COLUMNS = [
    "patch_id", "brain", "sample", "section", "x_px", "y_px",
    "brain_x_mm", "brain_y_mm", "brain_z_mm", *REFERENCE_MM,
    "hemisphere", "annotated_area", "atlas_area", "depth", "obliquity_deg", "order",
]  # fmt: skip


def encoder_sections(store: Store, encoder: str, version: str) -> pd.DataFrame:
    """Read the sections that an encoder knows of, with their final `role` (table `training_sections`)."""
    return read_table(store.encoder(encoder, version) / "sections.parquet", "training_sections")


def evaluated_sections(store: Store, encoder: str, version: str, settings: Settings) -> pd.DataFrame:
    """Read the sections that an encoder knows of, those of brains that the data set has and releases now."""
    sections = encoder_sections(store, encoder, version)
    left_out = brains_left_out(settings, sections["brain"].unique())
    for reason in left_out.values():
        _log.info("encoder %s: not evaluated on %s", encoder, reason)
    return sections[~sections["brain"].isin(left_out)].reset_index(drop=True)


def evaluation_set(store: Store, encoder: str, version: str, settings: Settings) -> pd.DataFrame:
    """Return the rows of the patch index that the evaluation of an encoder needs.

    These are annotated patches of training and of validation sections, at most `samples_per_area` per area each; all
    annotated patches of test sections; and the sample that the UMAP shows. Sections in the gaps are left out, and
    brains that the data set does not have or release any more.

    Returns
    -------
    DataFrame
        Columns of the patch index, and `role`, `position_mm` (along the brain's series), `labelled` (takes part in the
        probes) and `in_umap`; sorted by brain, as in the index within a brain.
    """
    block = settings.experiments.evaluation
    rows = whole_index(store, evaluated_sections(store, encoder, version, settings))
    rows["labelled"] = labelled_rows(rows, block.samples_per_area)
    rows["in_umap"] = umap_sample(rows, block.umap_every)
    return rows[rows["labelled"] | rows["in_umap"]].reset_index(drop=True)


def whole_index(store: Store, sections: pd.DataFrame) -> pd.DataFrame:
    """Return index rows of all sections that have a role other than `gap`, with `role` and `position_mm`."""
    brains = []
    for brain, of_brain in sections.groupby("brain", sort=True):
        try:
            brains.append(_brain_rows(store, str(brain), of_brain))
        except DamagedResult:
            raise
        except StoreError as error:
            # A brain that broke after training is a data fault, not an exception: the others go on.
            _log.warning("evaluation goes on without sub-%s: %s", brain, error)
    brains = [rows for rows in brains if len(rows)]
    if not brains:
        raise StoreError("patch index: none of the encoder's sections is in it.", to_fix="rebuild it with: cytonet run")
    return pd.concat(brains, ignore_index=True)


def umap_sample(rows: pd.DataFrame, every: int) -> np.ndarray:
    """Return which rows the UMAP shows: one in `every` of each brain, those with the smallest `order`.

    Returns
    -------
    (N,) bool array
        As `order` is a hash, this is a random sample; the one of every 50th row lies within the one of every 5th.
    """
    rank = rows.groupby("brain")["order"].rank(method="first")
    n_shown = np.ceil(rows.groupby("brain")["order"].transform("size") / every)
    return (rank <= n_shown).to_numpy()


def section_positions_mm(store: Store, brain: str) -> dict[str, float]:
    """Return the position of each section along the series of its brain (brain mm), by sample."""
    sections = read_index_parameters(store, brain)["sections"]
    return {sample: float(section["position_mm"]) for sample, section in sections.items()}


def index_digests(store: Store, brains: Iterable[str]) -> dict[str, str]:
    """Return a digest of what the evaluation reads of each brain's index; it changes when the index changes."""
    return {brain: _index_digest(store, brain) for brain in sorted(set(brains))}


def _brain_rows(store: Store, brain: str, sections: pd.DataFrame) -> pd.DataFrame:
    index = read_index(store, brain, columns=_COLUMNS)
    # `attrs` holds a record per section, and pandas would copy it deeply with every operation.
    index.attrs = {}
    index["position_mm"] = index["sample"].map(section_positions_mm(store, brain)).astype(np.float64)
    index["role"] = index["sample"].map(sections.set_index("sample")["role"])
    return index[index["role"].isin(LEARNING_ROLES + TEST_ROLES)]


def _index_digest(store: Store, brain: str) -> str:
    left = digest_left_in(store.patch_index(brain))
    if left != "missing":
        return left
    try:
        rows = read_index(store, brain, columns=["patch_id", "annotated_area", "order", *REFERENCE_MM])
    except DamagedResult:
        raise
    except StoreError:
        return left
    return digest_of([digest_array(rows[column].to_numpy()) for column in rows])
