"""Maps of predicted areas of whole brains: the probe on a dense grid over all sections, and as a volume in Colin-27.

Figures of the maps are drawn in `reporting`.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Brain, Dataset
from cytonet_pipeline.errors import DataFault, StoreError
from cytonet_pipeline.evaluation.features.evaluation_set import encoder_sections
from cytonet_pipeline.evaluation.features.patch_features import features_of
from cytonet_pipeline.evaluation.maps.label_volume import label_table, label_volume, write_volume
from cytonet_pipeline.evaluation.maps.map_grid import map_grid
from cytonet_pipeline.evaluation.metrics.scoring import macro_f1
from cytonet_pipeline.evaluation.probes.heads import Head, LinearHead
from cytonet_pipeline.evaluation.probes.knn import fit_knn
from cytonet_pipeline.evaluation.probes.probe_data import probe_data
from cytonet_pipeline.evaluation.probes.protocols import folder_of, own_labels
from cytonet_pipeline.lineage import brains_left_out
from cytonet_pipeline.progress import track
from cytonet_pipeline.registration import BrainChain, ReferenceSpace
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import (
    Store,
    read_table,
    table,
    write_record,
    write_table,
    write_text,
)

_log = logging.getLogger(__name__)


def write_area_maps(folder: Path, encoder: str, settings: Settings, store: Store) -> None:
    """Map the areas of the unseen brain, or of the brains named in `map_brains`.

    Write, per brain, the grid with its predictions, a label volume and a probability volume in Colin-27 with a label
    table; and `figures.json`, the numbers. A brain that cannot be mapped is listed there with the reason.

    Raises
    ------
    StoreError
        The encoder has not been probed yet.
    """
    version = store.current_encoder(encoder).name
    head = read_head(encoder, version, settings, store)
    roles = encoder_sections(store, encoder, version).set_index(["brain", "sample"])["role"]
    dataset = Dataset(settings.data, settings.experiments.dataset)
    reference = ReferenceSpace.load(settings.reference)
    figures: dict[str, object] = {}
    left_out = brains_left_out(settings, mapped_brains(encoder, settings))
    for name in track(mapped_brains(encoder, settings), f"mapping with {encoder}"):
        try:
            if name in left_out:
                raise DataFault(left_out[name])
            rows = predicted_grid(dataset.brain(name), head, encoder, version, reference, settings, store)
            spacing_mm = settings.experiments.evaluation.map_spacing_mm
            figures[name] = _write_brain(folder, name, rows, roles, head, reference, spacing_mm)
        except (DataFault, StoreError) as fault:
            _log.warning("encoder %s: no map of %s: %s", encoder, name, fault)
            figures[name] = {"mapped": False, "reason": str(fault)}
    protocol = mapped_protocol(encoder, settings)
    record = {"encoder": encoder, "version": version, "protocol": protocol, "brains": figures}
    write_record(folder / "figures.json", record)


def mapped_brains(encoder: str, settings: Settings) -> tuple[str, ...]:
    """Return the brains to map: those named in the evaluation block, else the encoder's unseen brain."""
    return settings.experiments.evaluation.map_brains or (settings.held_out(encoder),)


def mapped_protocol(encoder: str, settings: Settings) -> str:
    """Return the linear probe with the most epochs.

    `knn` for encoders without a linear probe (`position`); for one that was trained on a few labels, its probe on them.
    """
    own = own_labels(settings.encoder(encoder))
    if own is not None:
        return folder_of("logistic", own[0])
    if settings.encoder(encoder).method == "position" or not settings.experiments.evaluation.epochs:
        return "knn"
    return f"linear_E{max(settings.experiments.evaluation.epochs)}"


def read_head(encoder: str, version: str, settings: Settings, store: Store) -> Head:
    """Read the classifier that predicts the map, as the probes stored it."""
    protocol = mapped_protocol(encoder, settings)
    if protocol != "knn":
        return LinearHead.read(store.linear_probes(encoder, version, protocol) / "probe.safetensors")
    block = settings.experiments.evaluation
    data = probe_data(store, encoder, version, settings)
    head, _ = fit_knn(data.labelled(data.train), settings.encoder(encoder).method, block)
    return head


def predicted_grid(
    brain: Brain,
    head: Head,
    encoder: str,
    version: str,
    reference: ReferenceSpace,
    settings: Settings,
    store: Store,
) -> pd.DataFrame:
    """Predict areas on the grid of a brain: return `map_grid` with `predicted_area` and `probability`.

    Raises
    ------
    DataFault
        The brain has no usable section, transform or mask.
    """
    sections = read_table(store.section_scans(brain.name) / "sections.parquet", "section_scans")
    chain = BrainChain.read(store.colin27_transforms(brain.name))
    rows = map_grid(brain, sections, chain, reference, settings.experiments.evaluation.map_spacing_mm)
    if rows.empty:
        raise DataFault(f"sub-{brain.name}: no cortex to map.", to_fix="look at its masks and at its section_scans")
    features = features_of(store.encoder(encoder, version), rows, brain, settings.experiments.dataset)
    probabilities = head.probabilities(features)
    return rows.assign(predicted_area=head.classes[probabilities.argmax(axis=1)], probability=probabilities.max(axis=1))


def agreement(rows: pd.DataFrame, roles: pd.Series, classes: np.ndarray) -> dict[str, dict[str, float | int]]:
    """Measure the agreement of predictions with annotations, separately for each role of the sections.

    Parameters
    ----------
    rows : DataFrame
        `brain`, `sample`, `annotated_area`, `predicted_area`.
    roles : Series
        Role by (brain, sample); sections unknown to the encoder count as `none`.
    classes : (C,) array
        Areas that can be predicted; points of other areas are counted and left out.

    Returns
    -------
    dict
        By role: `n_points`, `n_areas`, `accuracy`, `macro_f1`, `n_points_of_unknown_areas`.
    """
    annotated = rows[rows["annotated_area"] > 0]
    keys = pd.MultiIndex.from_frame(annotated[["brain", "sample"]])
    role = pd.Series(roles.reindex(keys).fillna("none").to_numpy(), index=annotated.index)
    by_role = {}
    for name, of_role in annotated.groupby(role, sort=True):
        known = of_role[of_role["annotated_area"].isin(classes)]
        true, predicted = known["annotated_area"].to_numpy(), known["predicted_area"].to_numpy()
        scores = {} if known.empty else {
            "accuracy": round(float((true == predicted).mean()), 5),
            "macro_f1": round(macro_f1(true, predicted), 5),
        }  # fmt: skip
        counts = {"n_points": len(known), "n_areas": len(np.unique(true))}
        by_role[str(name)] = {**counts, **scores, "n_points_of_unknown_areas": len(of_role) - len(known)}
    return by_role


def _write_brain(
    folder: Path,
    brain: str,
    rows: pd.DataFrame,
    roles: pd.Series,
    head: Head,
    reference: ReferenceSpace,
    spacing_mm: float,
) -> dict[str, object]:
    """Write the grid and the volumes of a brain; return the numbers that describe them."""
    columns = [column.name for column in table("map_grid").columns]
    write_table(folder / f"sub-{brain}_desc-predicted_grid.parquet", rows[columns], "map_grid", {"brain": brain})
    volume = label_volume(rows, reference, spacing_mm)
    stem = f"sub-{brain}_space-MNIColin27_desc-predicted"
    write_volume(folder / f"{stem}_dseg.nii.gz", volume.labels, volume.affine)
    write_volume(folder / f"{stem}_probseg.nii.gz", volume.probability, volume.affine)
    write_text(folder / f"{stem}_dseg.tsv", label_table(reference).to_csv(sep="\t", index=False))
    return {
        "mapped": True,
        "n_points": len(rows),
        "n_sections": int(rows["sample"].nunique()),
        "spacing_mm": spacing_mm,
        "areas_predicted": int(rows["predicted_area"].nunique()),
        "mean_probability": round(float(rows["probability"].mean()), 4),
        "agreement": agreement(rows, roles, head.classes),
        **volume.figures,
    }
