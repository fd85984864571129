"""What rests on a section or a brain: models, features, probes, UMAP plots, maps and the table of results.

Asked when a section has vanished, was withdrawn, replaced or changed, and beforehand. The store alone answers: what an
encoder learned from, and which brains the evaluations were made with, is recorded with them.
"""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow.dataset

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.lineage.ancestry import seen_before
from cytonet_pipeline.lineage.queries import sections_of, trained_versions
from cytonet_pipeline.lineage.section_changes import happened_since
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, read_record, read_stamp, read_table

# What a section of each role is to the probes of an encoder.
_TO_PROBES = {
    "train": "probes fitted to",
    "validation": "probes chosen by",
    "seen_brains": "scored on",
    "unseen_brain": "scored on",
}
# Folder of the store: what it holds.
_EVALUATIONS = {"patch_embeddings": "features", "linear_probes": "probes", "umap": "UMAP", "area_maps": "area maps"}


class Affected(NamedTuple):
    """A result of the store that rests on a section or a brain.

    Attributes
    ----------
    what : str
        `weights`, `features`, `probes`, `UMAP`, `area maps` or `table of results`.
    encoder, version : str
        Of which encoder; empty for the table of results.
    current : bool
        Whether it is of the version in use.
    how : str
        How the result used it, in words.
    path : Path
        Where the result lies.
    """

    what: str
    encoder: str
    version: str
    current: bool
    how: str
    path: Path


def affected_by(store: Store, brain: str, samples: Collection[str] | None = None) -> list[Affected]:
    """Find every result that used sections of a brain.

    Parameters
    ----------
    samples : collection of str, optional
        The sections; default: the whole brain.

    Returns
    -------
    list of Affected
        By encoder and version, the weights first; the table of results last. Trained encoders only: a training run
        that has not finished is no result.
    """
    found = [
        result
        for encoder, version, _ in trained_versions(store)
        for result in _of_version(store, encoder, version, brain, samples)
    ]
    probes = {(each.encoder, each.version) for each in found if each.what == "probes"}
    return [*found, *_table(store, probes)]


def sections_changed_under(
    encoder: str, settings: Settings, store: Store, version: str | None = None
) -> dict[tuple[str, str], str]:
    """Return the sections that an encoder learned from or is tested on and to which something has happened since.

    Parameters
    ----------
    version : str, optional
        Default: the one in use.

    Returns
    -------
    dict
        By (brain, sample), what has happened, with what the section is to the encoder.

    Raises
    ------
    StoreError
        The encoder has not been trained.
    ConfigurationError
        There is no data set to compare with.
    """
    sections = sections_of(encoder, store, version)
    used = sections[sections["role"] != "gap"]
    events = happened_since(used, settings, store)
    rows = used.assign(event=events)[events != ""].to_dict("records")
    return {
        (str(row["brain"]), str(row["sample"])): f"{row['event']} ({_use_of(row['role'], row['n_training_patches'])})"
        for row in rows
    }


def _of_version(
    store: Store, encoder: str, version: str, brain: str, samples: Collection[str] | None
) -> Iterator[Affected]:
    folder, current = store.encoder(encoder, version), version == store.current_version(encoder)
    where = pyarrow.dataset.field("brain") == brain
    if samples is not None:
        where &= pyarrow.dataset.field("sample").isin(list(samples))
    rows = sections_of(encoder, store, version, brain=brain)
    rows = rows if samples is None else rows[rows["sample"].isin(list(samples))]
    seen = _seen_by_weights(folder, rows, brain, samples)
    if seen:
        yield Affected("weights", encoder, version, current, seen, folder)
    for kind, what in _EVALUATIONS.items():
        place = store.root / kind / encoder / version
        if not place.is_dir():
            continue
        own = _used_maps(place, where) if kind == "area_maps" else _used_rows(kind, place, rows, brain)
        through = "through the weights" if seen and not seen.startswith("watched") else ""
        if how := "; ".join(filter(None, (own, through))):
            yield Affected(what, encoder, version, current, how, place)


def _seen_by_weights(folder: Path, rows: pd.DataFrame, brain: str, samples: Collection[str] | None) -> str:
    """Say how weights rest on sections, of which `rows` are those that the encoder knows; empty if they do not."""
    patches = int(rows["n_training_patches"].sum())
    if patches:
        n_sections = int((rows["n_training_patches"] > 0).sum())
        return f"learned from {patches} patches" + (f" of {n_sections} sections" if n_sections > 1 else "")
    path = folder / "training_set.json"
    record = read_record(path) if path.exists() else {}
    before = (record.get("init_from") or {}).get("sections_seen") or {}
    inherited = before.get(brain, []) if samples is None else [s for s in samples if seen_before(record, brain, s)]
    if inherited:
        return f"continues from weights that learned from {_counted(len(inherited))}"
    watched = int((rows["role"] == "validation").sum()) if len(rows) else 0
    return f"watched on {_counted(watched)}" if watched and _was_trained(folder) else ""


def _was_trained(folder: Path) -> bool:
    """Whether the weights were watched while training: controls are not."""
    return (folder / "history.parquet").exists()


def _used_rows(kind: str, place: Path, rows: pd.DataFrame, brain: str) -> str:
    """Say how features, probes or a UMAP were made with sections; empty if they were not."""
    used = rows[rows["role"] != "gap"]
    if used.empty or not _was_evaluated(place, brain):
        return ""
    if kind == "patch_embeddings":
        return f"features of {_counted(len(used))}"
    if kind == "umap":
        return f"drawn with {_counted(len(used))}"
    annotated = used[used["annotation_digest"].notna()]
    counts = annotated["role"].map(_TO_PROBES).value_counts(sort=False)
    return ", ".join(f"{verb} {_counted(int(n))}" for verb, n in counts.items())


def _was_evaluated(place: Path, brain: str) -> bool:
    """Whether an evaluation was made with a brain; one without a stamp that can be read counts as such."""
    try:
        stamp: dict[str, Any] | None = read_stamp(place)
    except StoreError:
        return True
    if stamp is None:
        return True
    indices = stamp.get("indices") or (stamp.get("embeddings") or {}).get("indices")
    return indices is None or brain in indices


def _used_maps(place: Path, where: pyarrow.dataset.Expression) -> str:
    points, sections = 0, 0
    for path in sorted(place.glob("*_grid.parquet")):
        grid = read_table(path, "map_grid", columns=["sample"], where=where)
        points, sections = points + len(grid), sections + grid["sample"].nunique()
    return f"{_counted(sections)} mapped at {points} points" if points else ""


def _table(store: Store, probes: Collection[tuple[str, str]]) -> Iterator[Affected]:
    path = store.metrics() / "metrics.parquet"
    if not path.exists():
        return
    rows = read_table(path, "metrics", columns=["encoder", "version"])
    hit = rows[[pair in probes for pair in zip(rows["encoder"], rows["version"], strict=True)]]
    if len(hit):
        how = f"{len(hit)} of {len(rows)} rows"
        yield Affected("table of results", "", "", True, how, store.metrics())


def _use_of(role: str, patches: int) -> str:
    return f"learned from {patches} patches" if patches else role.replace("_", " ")


def _counted(sections: int) -> str:
    return f"{sections} {'section' if sections == 1 else 'sections'}"


def as_json(results: Collection[Affected]) -> str:
    """Return results as JSON for other programs."""
    return json.dumps([{**each._asdict(), "path": str(each.path)} for each in results], indent=2)
