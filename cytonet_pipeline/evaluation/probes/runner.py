"""Run all protocols on the features of one encoder and store their results.

A protocol's folder is written in one piece and stamped: a run that was killed continues with the next protocol.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.evaluation.metrics.area_distances import distance_summary, medoid_distances_mm
from cytonet_pipeline.evaluation.metrics.scoring import area_scores, confusion, in_top, scores_by_obliquity
from cytonet_pipeline.evaluation.probes.heads import Head, LinearHead
from cytonet_pipeline.evaluation.probes.metric_rows import Identity, identity_of, metric_rows
from cytonet_pipeline.evaluation.probes.probe_data import ProbeData, probe_data
from cytonet_pipeline.evaluation.probes.protocols import FitInputs, Fitted, Protocol, own_labels, protocols_of
from cytonet_pipeline.patches import TEST_ROLES, labels_of_draw
from cytonet_pipeline.progress import track
from cytonet_pipeline.settings import EvaluationBlock, Method, Settings
from cytonet_pipeline.store import (
    Store,
    atomic_folder,
    is_current,
    read_record,
    read_table,
    table,
    write_record,
    write_stamp,
    write_table,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProbeContext:
    """Inputs that all protocols of one encoder share."""

    identity: Identity
    method: Method
    data: ProbeData
    block: EvaluationBlock
    gap_mm: float
    names: dict[int, str]
    encoder_folder: Path
    distances_mm: pd.DataFrame


def run_probes(encoder: str, settings: Settings, store: Store, inputs: dict[str, Any]) -> None:
    """Run every protocol that the encoder goes through; finished ones are passed over.

    Writes a folder per protocol, and `metrics.parquet` (table `metrics`) of all of them.

    Parameters
    ----------
    inputs : dict
        What the probes are made from: the stamp of each protocol's folder.
    """
    version = inputs["embeddings"]["version"]
    folder = store.linear_probes(encoder, version)
    context = _probe_context(encoder, version, settings, store)
    own = own_labels(settings.encoder(encoder))
    if own is not None:
        _require_own_labels(context, *own)
    protocols = protocols_of(context.method, context.block, own)
    tables = [
        _run_if_stale(protocol, context, store.linear_probes(encoder, version, protocol.folder), inputs)
        for protocol in track(protocols, f"probing {encoder}")
    ]
    write_table(folder / "metrics.parquet", pd.concat(tables, ignore_index=True), "metrics")


def names_areas_as(areas: pd.DataFrame, folder: Path) -> bool:
    """Return whether the finished protocols in a folder name the areas as the area table does."""
    names = dict(zip(areas["index"].astype(int), areas["name"].astype(str), strict=True))
    records = [read_record(path) for path in sorted(folder.glob("*/probe.json"))]
    return all(_name_of(int(area), names) == name for record in records for area, name in record["areas"].items())


def fit_head(protocol: Protocol, draw: int, context: ProbeContext) -> Fitted:
    """Fit a head by a protocol, without looking at any test row.

    Returns
    -------
    head
        With `classes` and `probabilities`.
    record : dict
        What was chosen, and the validation scores of the candidates.
    """
    data = context.data
    labelled = drawn_rows(data, protocol.labels_per_area, draw)
    inputs = FitInputs(
        train=data.labelled(labelled),
        validation=data.labelled(data.validation),
        block=context.block,
        method=context.method,
        encoder_folder=context.encoder_folder,
    )
    return protocol.fit(inputs)


def drawn_rows(data: ProbeData, labels_per_area: int, draw: int) -> np.ndarray:
    """Return the numbers of the rows that are labelled in a draw."""
    train = np.flatnonzero(data.train)
    return train[labels_of_draw(data.rows.iloc[train], labels_per_area, draw)]


def predictions_of(head: Head, data: ProbeData) -> pd.DataFrame:
    """Predict the areas of all scored patches (table `predictions`), with the columns that scores need beside them.

    Returns
    -------
    DataFrame
        `patch_id`, `split`, `area`, `predicted_area`, `probability`, `in_top`, `brain`, `sample`, `position_mm`,
        `hemisphere`, `obliquity_deg`.
    """
    which = data.scored & np.isin(data.areas, head.classes)
    probabilities = head.probabilities(data.features[which])
    rows = data.rows[which].reset_index(drop=True)
    beside = rows[["patch_id", "brain", "sample", "position_mm", "hemisphere", "obliquity_deg"]]
    return beside.assign(
        split=rows["role"],
        area=rows["annotated_area"],
        predicted_area=head.classes[probabilities.argmax(axis=1)],
        probability=probabilities.max(axis=1, initial=0),
        in_top=in_top(probabilities, head.classes, rows["annotated_area"].to_numpy()),
    )


def _probe_context(encoder: str, version: str, settings: Settings, store: Store) -> ProbeContext:
    names = Dataset(settings.data, settings.experiments.dataset).area_names()
    return ProbeContext(
        identity=identity_of(encoder, version, settings, store),
        method=settings.encoder(encoder).method,
        data=probe_data(store, encoder, version, settings),
        block=settings.experiments.evaluation,
        gap_mm=settings.experiments.dataset.gap_mm,
        names=dict(zip(names["index"].astype(int), names["name"].astype(str), strict=True)),
        encoder_folder=store.encoder(encoder, version),
        distances_mm=medoid_distances_mm(settings.reference, store),
    )


def _require_own_labels(context: ProbeContext, labels_per_area: int, draw: int) -> None:
    """Refuse to probe an encoder of a few labels with others than it was trained on.

    The probes of the other encoders get this draw too: the scores then say what the same labels are worth.
    """
    trained = read_table(context.encoder_folder / "patches.parquet", "training_patches", columns=["patch_id", "role"])
    seen = trained.loc[trained["role"] == "train", "patch_id"].to_numpy()
    rows = context.data.rows.iloc[drawn_rows(context.data, labels_per_area, draw)]
    if set(seen) != set(rows["patch_id"]):
        raise StoreError(
            f"encoder {context.identity.encoder}: was trained on other patches than draw {draw} of {labels_per_area} "
            "labels per area has now.",
            looked_for=str(context.encoder_folder / "patches.parquet"),
            to_fix=f"cytonet run --encoders {context.identity.encoder}",
        )


def _run_if_stale(protocol: Protocol, context: ProbeContext, folder: Path, wanted: dict[str, object]) -> pd.DataFrame:
    """Return the metrics of a protocol, from its folder where that is current."""
    if not is_current(folder, wanted):
        with atomic_folder(folder) as writing:
            _run(protocol, context, writing)
            write_stamp(writing, wanted)
    return read_table(folder / "metrics.parquet", "metrics")


def _run(protocol: Protocol, context: ProbeContext, folder: Path) -> None:
    started = time.perf_counter()
    block = context.block
    rows, records, drawn = [], [], []
    for draw in protocol.drawn:
        head, record = fit_head(protocol, draw, context)
        predictions = predictions_of(head, context.data)
        rows.append(
            metric_rows(
                predictions, context.identity, protocol, draw,
                gap_mm=context.gap_mm, bootstrap=block.bootstrap, seed=block.seed,
            )
        )  # fmt: skip
        records.append(record)
        if protocol.has_details:
            _write_details(folder, head, record, predictions, context)
        else:
            columns = [c.name for c in table("drawn_predictions").columns]
            drawn.append(predictions.assign(draw=np.int32(draw))[columns])
    if drawn:
        # By patch, so that equal ids stand together: a row then takes a few bytes.
        of_draws = pd.concat(drawn).sort_values(["patch_id", "draw"], ignore_index=True)
        write_table(folder / "drawn_predictions.parquet", of_draws, "drawn_predictions")
    write_table(folder / "metrics.parquet", pd.concat(rows, ignore_index=True), "metrics")
    seconds = round(time.perf_counter() - started, 2)
    write_record(folder / "probe.json", {"draws": records, "seconds": seconds, **_classes(context.data, context.names)})
    _log.info("encoder %s: %s in %.1f s", context.identity.encoder, protocol.title, seconds)


def _write_details(
    folder: Path, head: Head, record: dict[str, object], predictions: pd.DataFrame, context: ProbeContext
) -> None:
    if isinstance(head, LinearHead):
        head.write(folder / "probe.safetensors", record)
    columns = [c.name for c in table("predictions").columns]
    write_table(folder / "predictions.parquet", predictions[columns], "predictions")
    write_table(folder / "area_scores.parquet", area_scores(predictions, context.names), "area_scores")
    confusion(predictions).to_csv(folder / "confusion.csv", index=False)
    scores_by_obliquity(predictions).to_csv(folder / "obliquity.csv", index=False)
    write_record(folder / "distances.json", distance_summary(predictions, context.distances_mm))


def _classes(data: ProbeData, names: dict[int, str]) -> dict[str, object]:
    """List the areas trained on, and for each split those scored and those left out, with their patches."""
    trained = data.trained_areas
    roles = data.rows["role"].to_numpy()
    splits = {}
    for split in TEST_ROLES:
        areas, counts = np.unique(data.areas[roles == split], return_counts=True)
        known = np.isin(areas, trained)
        splits[split] = {
            "areas": areas[known].tolist(),
            "left_out": {names.get(int(a), str(a)): int(n) for a, n in zip(areas[~known], counts[~known], strict=True)},
        }
    return {
        "chosen_on": data.validation_source,
        "n_fit": int(data.train.sum()),
        "n_choose": int(data.validation.sum()),
        "areas": {str(area): _name_of(int(area), names) for area in trained},
        "splits": splits,
    }


def _name_of(area: int, names: dict[int, str]) -> str:
    return names.get(area, f"area {area}")
