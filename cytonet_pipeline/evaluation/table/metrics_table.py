"""The table of results: all encoders × protocols × seen and unseen brains, from the current results in the store.

It is made from the results that exist and are current, and names those that are missing or left out. Nothing in it
claims to reproduce a published figure.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.evaluation.features.evaluation_set import section_positions_mm
from cytonet_pipeline.evaluation.probes.protocols import folder_of
from cytonet_pipeline.evaluation.table.border_scores import border_columns, border_distances, with_border_columns
from cytonet_pipeline.evaluation.table.comparisons import compare_all, in_order
from cytonet_pipeline.evaluation.table.entry import Entry, Resampling
from cytonet_pipeline.evaluation.table.few_labels import (
    ALL_LABEL_ENCODER,
    compare_few_labels,
    with_protocols_of_few_labels,
)
from cytonet_pipeline.evaluation.table.patch_sets import patch_sets
from cytonet_pipeline.evaluation.table.stored_predictions import (
    by_budget,
    patches_of,
    remarks_on_missing,
    stored_predictions,
)
from cytonet_pipeline.evaluation.table.table_text import Page, Provenance, latex_table, markdown_page
from cytonet_pipeline.patches import TEST_ROLES, read_index
from cytonet_pipeline.scores import without_retrieval
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import (
    REFERENCE_MM,
    Store,
    read_record,
    read_table,
    table,
    verdict_on_encoder,
    write_table,
    write_text,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entries:
    """Encoders that stand in the table, and those that do not.

    Attributes
    ----------
    versions : mapping
        Version by encoder, of those whose scores are current.
    missing : tuple of str
        Encoders of the experiments file that are not retired and have no scores yet.
    left_out : mapping
        By encoder, why its scores cannot stand beside the others.
    retired : tuple of str
        Those in the table that are not trained any more.
    retrieved : tuple of str
        Those in the table whose rows of retrieval are current.
    """

    versions: Mapping[str, str]
    missing: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    retired: tuple[str, ...] = ()
    retrieved: tuple[str, ...] = ()


def write_metrics(
    folder: Path, entries: Entries, settings: Settings, store: Store
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Write the table of results as `metrics.parquet`, `.csv`, `.md`, `.tex`, and what was measured across encoders.

    Beside it, `comparisons.parquet` and `.csv` and `border_distances.parquet`.

    Returns
    -------
    metrics : DataFrame
        Table `metrics`; empty while no encoder has been entries.
    marks : dict
        What stands behind the name of an encoder wherever its scores are shown.
    """
    for name in entries.missing:
        _log.warning("table of results: encoder %s has no results yet; the table goes on without it", name)
    for name, reason in entries.left_out.items():
        _log.warning("table of results: encoder %s is left out: %s", name, reason)
    stored = _stored_rows(entries, store)
    metrics = with_protocols_of_few_labels(stored)
    evaluation = settings.experiments.evaluation
    resampling = Resampling(settings.experiments.dataset.gap_mm, evaluation.bootstrap, evaluation.seed)
    predictions = stored_predictions(metrics, stored["protocol"], entries.versions, store)
    retrieved = _retrieved(entries, store)
    scored = patches_of(predictions)
    places = _places(store, np.union1d(scored, _ids_of(retrieved.values())))
    distances = border_distances(places[places["patch_id"].isin(scored)], settings)
    columns: dict[tuple[object, ...], dict[str, float | int]] = {}
    remarks, compared = remarks_on_missing(predictions), []
    for of_budget in by_budget(predictions):
        of_predictions = [one.entry(places, distances.patches) for one in of_budget]
        measured, why_not = border_columns(of_predictions, resampling)
        columns |= measured
        remarks += why_not
        compared.append(compare_all([e for e in of_predictions if e.protocol != ALL_LABEL_ENCODER], resampling))
    metrics = table("metrics").validate(with_border_columns(metrics, columns))
    compared.append(compare_all(_retrieval_entries(retrieved, metrics, places), resampling))
    comparisons = in_order(compared)
    errors = _errors(entries, metrics, store)
    held_out = dict(zip(metrics["encoder"], metrics["held_out"], strict=True))
    all_labels = {one.key: one.read(("patch_id", "split")) for one in predictions if one.labels_per_area == 0}
    provenance = _provenance(entries, metrics, patch_sets(all_labels, held_out), settings, store)
    write_table(folder / "metrics.parquet", metrics, "metrics")
    metrics.to_csv(folder / "metrics.csv", index=False)
    write_table(folder / "comparisons.parquet", comparisons, "comparisons")
    comparisons.to_csv(folder / "comparisons.csv", index=False)
    if len(of_few_labels := compare_few_labels(metrics, comparisons)):
        of_few_labels.to_csv(folder / "comparisons_few_labels.csv", index=False)
    write_table(folder / "border_distances.parquet", distances.patches, "border_distances")
    page = Page(
        metrics, errors, comparisons, provenance, [distances.remark, *dict.fromkeys(remarks)], evaluation.bootstrap
    )
    write_text(folder / "metrics.md", markdown_page(page))
    write_text(folder / "metrics.tex", latex_table(metrics, provenance))
    return metrics, provenance.marks()


def _stored_rows(entries: Entries, store: Store) -> pd.DataFrame:
    """Read the rows of all encoders (table `metrics`), those of retrieval last."""
    probes = [store.linear_probes(encoder, version) for encoder, version in entries.versions.items()]
    retrieval = [store.linear_probes(encoder, entries.versions[encoder], "retrieval") for encoder in entries.retrieved]
    tables = [read_table(folder / "metrics.parquet", "metrics") for folder in (*probes, *retrieval)]
    # Validated, as results from before a score was added have no values in its columns.
    whole = [table("metrics").validate(rows) for rows in tables]
    return pd.concat(whole, ignore_index=True) if whole else table("metrics").empty()


def _entries(metrics: pd.DataFrame) -> list[tuple[str, str]]:
    """Return encoder and protocol of all predictions with all labels."""
    predicted = without_retrieval(metrics)
    pairs = predicted.loc[predicted["labels_per_area"] == 0, ["encoder", "protocol"]].drop_duplicates()
    return list(pairs.itertuples(index=False, name=None))


def _errors(entries: Entries, metrics: pd.DataFrame, store: Store) -> pd.DataFrame:
    """Collect distances of wrong areas and macro F1 by thirds of obliquity: a row per encoder, protocol and split."""
    rows: list[dict[str, object]] = []
    for encoder, protocol in _entries(metrics):
        folder = store.linear_probes(encoder, entries.versions[encoder], protocol)
        by_third = pd.read_csv(folder / "obliquity.csv")
        distances = read_record(folder / "distances.json")
        for split, summary in distances.items():
            if split in TEST_ROLES:
                of_split = by_third[by_third["split"] == split]
                thirds = dict(zip(of_split["tercile"].astype(str), of_split["macro_f1"], strict=True))
                rows.append({"encoder": encoder, "protocol": protocol, "split": split, **summary, **thirds})
    return pd.DataFrame(rows)


def _retrieved(entries: Entries, store: Store) -> dict[tuple[str, str], pd.DataFrame]:
    """Read what every encoder retrieved, by encoder and protocol."""
    found: dict[tuple[str, str], pd.DataFrame] = {}
    for encoder in entries.retrieved:
        path = store.linear_probes(encoder, entries.versions[encoder], "retrieval") / "retrieved.parquet"
        rows = read_table(path, "retrieved", columns=["protocol", "split", "patch_id", "distance_mm"])
        found |= {(encoder, str(protocol)): part for protocol, part in rows.groupby("protocol", sort=False)}
    return found


def _retrieval_entries(
    retrieved: Mapping[tuple[str, str], pd.DataFrame], metrics: pd.DataFrame, places: pd.DataFrame
) -> list[Entry]:
    """Return what was retrieved as entries of the table, each query at its place."""
    first = metrics.drop_duplicates(["encoder", "protocol"]).to_dict("records")
    identities = {(row["encoder"], row["protocol"]): row for row in first}
    found = []
    for (encoder, protocol), rows in retrieved.items():
        row = identities[encoder, protocol]
        placed = rows.merge(places[["patch_id", "brain", "sample", "position_mm"]], on="patch_id")
        identity = (encoder, row["method"], protocol, row["dataset"], row["held_out"])
        found.append(Entry(*identity, labels_per_area=0, draw=0, classes=(), rows=placed))
    return found


def _places(store: Store, wanted: np.ndarray) -> pd.DataFrame:
    """Return where patches lie: brain, section, `position_mm`, hemisphere and place in Colin-27."""
    columns = ["patch_id", "brain", "sample", "hemisphere", *REFERENCE_MM]
    nothing = dict.fromkeys(("brain", "sample", "hemisphere"), "") | dict.fromkeys(("position_mm", *REFERENCE_MM), 0.0)
    parts = [pd.DataFrame({"patch_id": wanted[:0], **nothing})]
    for brain in store.indexed_brains():
        index = read_index(store, brain, columns=columns)
        index.attrs = {}
        index["position_mm"] = index["sample"].map(section_positions_mm(store, brain)).astype(np.float64)
        parts.append(index[index["patch_id"].isin(wanted)])
    return pd.concat(parts, ignore_index=True)


def _ids_of(measured: Iterable[pd.DataFrame]) -> np.ndarray:
    return np.unique(np.concatenate([np.empty(0, np.uint64), *(rows["patch_id"] for rows in measured)]))


def _provenance(
    entries: Entries, metrics: pd.DataFrame, sets: pd.DataFrame, settings: Settings, store: Store
) -> Provenance:
    name = Dataset(settings.data, settings.experiments.dataset).name
    return Provenance(
        datasets=sorted({name, *metrics["dataset"]}),
        synthetic=is_synthetic(settings),
        missing=entries.missing,
        left_out=entries.left_out,
        retired=entries.retired,
        classes=_classes(metrics, entries.versions, store),
        sets=sets,
        without_retrieval=tuple(name for name in entries.versions if name not in entries.retrieved),
        few_labels=_few_labels(entries, store),
        collapsed=_collapsed(entries, store),
    )


def _collapsed(entries: Entries, store: Store) -> dict[str, str]:
    """Return by encoder what its verdict remarks: collapsed features of one that was trained on labels."""
    folders = {encoder: store.encoder(encoder, version) for encoder, version in entries.versions.items()}
    trained = {encoder: folder for encoder, folder in folders.items() if (folder / "encoder.json").exists()}
    remarks = {encoder: "; ".join(verdict_on_encoder(folder).reasons) for encoder, folder in trained.items()}
    return {encoder: remark for encoder, remark in remarks.items() if remark}


def _few_labels(entries: Entries, store: Store) -> list[str]:
    """Return what the training sets of encoders of few labels warn of: a sentence, and whom it is about."""
    encoders: dict[str, list[str]] = {}
    for encoder, version in entries.versions.items():
        path = store.encoder(encoder, version) / "training_set.json"
        record = read_record(path) if path.exists() else {}
        for warning in record.get("warnings", []) if "labels" in record else []:
            encoders.setdefault(warning, []).append(encoder)
    return [f"{warning}: {', '.join(names)}" for warning, names in encoders.items()]


def _classes(metrics: pd.DataFrame, versions: Mapping[str, str], store: Store) -> dict[str, list[str]]:
    """Return the `class_lists` of each held-out brain, of the first encoder that has it."""
    classes: dict[str, list[str]] = {}
    for encoder, of_encoder in metrics.groupby("encoder", sort=False):
        first = of_encoder.iloc[0]
        held_out, protocol = str(first["held_out"]), folder_of(str(first["protocol"]), int(first["labels_per_area"]))
        folder = store.linear_probes(str(encoder), versions[str(encoder)], protocol)
        classes.setdefault(held_out, class_lists(read_record(folder / "probe.json")))
    return classes


def class_lists(record: dict[str, Any]) -> list[str]:
    """Return lines on which areas were trained on, scored and left out, from a protocol's `probe.json`."""
    names: dict[str, str] = record["areas"]
    lines = [f"trained on {len(names)} areas: {', '.join(names.values())}"]
    for split, of_split in record["splits"].items():
        scored = {str(area) for area in of_split["areas"]}
        absent = [name for area, name in names.items() if area not in scored]
        lines.append(f"{split}: {len(scored)} of them scored{'; absent: ' + ', '.join(absent) if absent else ''}")
        if of_split["left_out"]:
            counts = ", ".join(f"{name} ({n} patches)" for name, n in of_split["left_out"].items())
            lines.append(f"{split}: left out, having no training samples: {counts}")
    return lines


def is_synthetic(settings: Settings) -> bool:
    """Return whether the data set is called synthetic, or it or the reference is declared to be."""
    name = Dataset(settings.data, settings.experiments.dataset).name
    descriptions = (settings.reference / "template_description.json", settings.data / "dataset_description.json")
    return "synthetic" in name.lower() or any(map(_says_synthetic, descriptions))


def _says_synthetic(description: Path) -> bool:
    """Return whether a description (JSON) has `Synthetic: true`; false where it is missing or unreadable."""
    try:
        fields = json.loads(description.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(fields, dict) and bool(fields.get("Synthetic", fields.get("synthetic", False)))
