"""The stage of the table of results, and which encoders' scores may stand in it."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cytonet_pipeline.errors import ConfigurationError, StoreError, TrainingError
from cytonet_pipeline.settings import Settings, read_all_experiments
from cytonet_pipeline.stages.evaluation import LINEAR_PROBE, area_digest, retrieval_numbers
from cytonet_pipeline.stages.reference import REFERENCE_SPACE
from cytonet_pipeline.stages.stage import Inputs, StampedStage, Summary, store_of
from cytonet_pipeline.store import Store, digest_left_in, digest_of_result, read_table, stamp_digest, verified

if TYPE_CHECKING:
    from cytonet_pipeline.evaluation.table.metrics_table import Entries

# What people read instead of a digest that differs.
_TITLES = {"areas": "names of areas", "reference": "the reference space", "protocols": "the list of protocols"}
_log = logging.getLogger(__name__)


class MetricsTableStage(StampedStage[None]):
    """All encoders, protocols and splits in one table, with intervals; made while some encoders are missing."""

    name = "metrics_table"
    group = "evaluation"
    partition_set = None
    # 2: borders, errors of position, retrieval, a protocol for few labels on encoders of all; comparisons are a table
    # with a contract. Made from stored results.
    code_version = "2"
    tables: ClassVar = {
        "metrics": "metrics.parquet",
        "comparisons": "comparisons.parquet",
        "border_distances": "border_distances.parquet",
    }

    def folder(self, settings: Settings, partition: None = None) -> Path:
        """See `Stage.folder`."""
        return store_of(settings).metrics()

    def inputs(self, settings: Settings, partition: None = None) -> dict[str, Any]:
        """See `Stage.inputs`; encoders left out or retired, and predictions of few labels, where there are any."""
        from cytonet_pipeline.evaluation.table.metrics_table import is_synthetic

        store, entries = store_of(settings), table_entries(settings)
        probes = {
            encoder: digest_of_result(store.linear_probes(encoder, version) / "metrics.parquet")
            for encoder, version in entries.versions.items()
        }
        retrieval = {
            encoder: _retrieval_digest(store_of(settings), encoder, entries.versions[encoder])
            for encoder in entries.retrieved
        }
        drawn = {
            encoder: digests
            for encoder, version in entries.versions.items()
            if (digests := _few_label_digests(store.linear_probes(encoder, version)))
        }
        marked = {"left_out": dict(entries.left_out), "retired": list(entries.retired), "few_labels": drawn}
        return {
            "probes": probes,
            "retrieval": retrieval,
            "reference": digest_left_in(REFERENCE_SPACE.folder(settings)),
            "missing": list(entries.missing),
            **{key: value for key, value in marked.items() if value},
            "gap_mm": settings.experiments.dataset.gap_mm,
            "bootstrap": settings.experiments.evaluation.bootstrap,
            "seed": settings.experiments.evaluation.seed,
            "areas": area_digest(settings, "name"),
            "synthetic": is_synthetic(settings),
            "code_version": int(self.code_version),
        }

    def compute(self, settings: Settings, partition: None, folder: Path, inputs: Inputs, *, recompute: bool) -> None:
        """Write the table in all its forms, and its picture.

        Raises
        ------
        StoreError
            A probe was computed again in the meantime.
        """
        from cytonet_pipeline.evaluation.table.metrics_table import write_metrics
        from cytonet_pipeline.reporting.border_figure import border_figure
        from cytonet_pipeline.reporting.metrics_figure import metrics_figure
        from cytonet_pipeline.reporting.retrieval_figure import retrieval_figure

        rows, marks = write_metrics(folder, self._entries(settings, inputs), settings, store_of(settings))
        if not rows.empty:
            metrics_figure(rows, folder / "metrics.png", marks)
            border_figure(rows, folder / "borders.png", marks)
            retrieval_figure(rows, folder / "retrieval.png", marks)

    def summary(self, settings: Settings, partition: None = None) -> Summary:
        """See `Stage.summary`; scores on the unseen brain with all labels."""
        from cytonet_pipeline.evaluation.table.table_text import remarks_in

        folder = self.folder(settings)
        rows = read_table(folder / "metrics.parquet", "metrics")
        shown = rows[(rows["labels_per_area"] == 0) & (rows["split"] == "unseen_brain")]
        scored = [record for record in shown.to_dict("records") if not math.isnan(record["macro_f1"])]
        numbers = {
            "rows": len(rows),
            "encoders": int(rows["encoder"].nunique()),
            **{f"{r['encoder']} {r['protocol']} unseen brain macro F1": r["macro_f1"] for r in scored},
        }
        unseen = rows[rows["split"] == "unseen_brain"]
        for encoder, of_encoder in unseen.groupby("encoder", sort=False):
            numbers |= {f"{encoder} {name}": value for name, value in retrieval_numbers(of_encoder).items()}
        named = {"macro F1": "metrics.png", "borders and position": "borders.png", "retrieval": "retrieval.png"}
        pictures = {title: folder / name for title, name in named.items() if (folder / name).exists()}
        page = verified(folder / "metrics.md").read_text(encoding="utf-8")
        digest = stamp_digest(folder)
        return Summary(
            folder, digest, reasons=remarks_in(page), numbers=numbers, pictures=pictures, texts={"table": page}
        )

    def _entries(self, settings: Settings, inputs: Inputs) -> "Entries":
        """Return what the inputs name, if it is still there."""
        from cytonet_pipeline.evaluation.table.metrics_table import Entries

        store = store_of(settings)
        versions = {}
        for encoder, digest in inputs["probes"].items():
            versions[encoder] = store.current_encoder(encoder).name
            if digest_of_result(store.linear_probes(encoder, versions[encoder]) / "metrics.parquet") != digest:
                raise _made_again(encoder)
        for encoder, digest in inputs["retrieval"].items():
            if _retrieval_digest(store, encoder, versions[encoder]) != digest:
                raise _made_again(encoder)
        return Entries(
            versions,
            tuple(inputs["missing"]),
            inputs.get("left_out", {}),
            tuple(inputs.get("retired", ())),
            tuple(inputs["retrieval"]),
        )


METRICS_TABLE = MetricsTableStage()


def _made_again(encoder: str) -> StoreError:
    return StoreError(
        f"table of results: the scores of {encoder} were computed again while the table was made.",
        to_fix="cytonet run",
    )


def _retrieval_digest(store: Store, encoder: str, version: str) -> str:
    return digest_of_result(store.linear_probes(encoder, version, "retrieval") / "metrics.parquet")


def _few_label_digests(probes: Path) -> dict[str, str]:
    """Return the digest of what each protocol with few labels predicted, by folder: measured beside its scores."""
    files = sorted([*probes.glob("*_n*/predictions.parquet"), *probes.glob("*_n*/drawn_predictions.parquet")])
    return {path.parent.name: digest_of_result(path) for path in files}


def table_entries(settings: Settings) -> "Entries":
    """Find the encoders whose scores are current, of whichever experiments file, and say why others are left out."""
    from cytonet_pipeline.evaluation.table.metrics_table import Entries

    own, store = settings.experiments.encoders, store_of(settings)
    versions: dict[str, str] = {}
    left_out: dict[str, str] = {}
    retired, retrieved = [], []
    files = _files_of(store.encoders(), settings)
    for encoder in store.encoders():
        version = store.current_version(encoder)
        if version is None or not (store.linear_probes(encoder, version) / "metrics.parquet").exists():
            continue
        if encoder not in files:
            left_out[encoder] = "no experiments file has an encoder of that name"
            continue
        of_file = settings
        if files[encoder] != settings.experiments_file:
            of_file = settings.model_copy(update={"experiments_file": files[encoder]})
        reason = _why_not_comparable(encoder, of_file, settings)
        if reason:
            left_out[encoder] = reason
            continue
        versions[encoder] = version
        if LINEAR_PROBE.has_retrieval(of_file, encoder):
            retrieved.append(encoder)
        if of_file.encoder(encoder).retired:
            retired.append(encoder)
    wanted = [name for name, block in own.items() if not block.retired]
    missing = tuple(name for name in wanted if name not in versions and name not in left_out)
    return Entries(versions, missing, left_out, tuple(retired), tuple(retrieved))


def _files_of(encoders: Sequence[str], settings: Settings) -> dict[str, Path]:
    """Return the experiments file of each encoder; those beside it are read only if it does not have them all."""
    files = dict.fromkeys(settings.experiments.encoders, settings.experiments_file)
    if set(encoders) <= files.keys():
        return files
    try:
        return {name: path for name, (path, _) in read_all_experiments(settings.experiments_file).items()} | files
    except ConfigurationError as error:
        _log.warning("table of results: only encoders of %s: %s", settings.experiments_file, error.what)
        return files


def _why_not_comparable(encoder: str, of_file: Settings, settings: Settings) -> str:
    """Return why an encoder's scores must not stand beside the others; empty if they may.

    Parameters
    ----------
    of_file : Settings
        Those of the experiments file that has the encoder.
    settings : Settings
        Those that the table is made with.
    """
    try:
        inputs = LINEAR_PROBE.inputs(of_file, encoder)
        recorded = LINEAR_PROBE.recorded_inputs(of_file, encoder)
        current = LINEAR_PROBE.is_made_from(inputs, of_file, encoder)
    except (StoreError, TrainingError) as error:
        return error.what
    remedy = f"cytonet run --encoders {encoder}"
    if recorded is None:
        return f"its scores are incomplete or damaged; {remedy}"
    here = LINEAR_PROBE.evaluation_of(settings)
    if inputs["evaluation"] != here:
        differing = _differences(inputs["evaluation"], here, "", "here")
        return f"{of_file.experiments_file.name} evaluates it with other settings ({differing})"
    if not current:
        differing = _differences(LINEAR_PROBE.with_later_inputs(recorded, inputs), inputs, "was ", "now")
        return f"its scores are not current ({differing or 'an area has another name now'}); {remedy}"
    return ""


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], was: str, now: str) -> str:
    """List by key what differs between two sets of inputs; of digests the name alone."""
    before, after = (json.loads(json.dumps(inputs, default=str)) for inputs in (before, after))
    found = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            changed = sorted(name for name in {**old, **new} if old.get(name) != new.get(name))
            of_brains = f"patch index of {', '.join(f'sub-{brain}' for brain in changed)}"
            found.append(of_brains if key == "indices" else _differences(old, new, was, now))
        else:
            found.append(_TITLES.get(key, f"{key} {was}{old}, {now} {new}"))
    return "; ".join(dict.fromkeys(found))
