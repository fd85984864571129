"""Encoders that continue from others (`init_from`): what they inherit, and that it leaks nothing.

An encoder has seen what its ancestor saw, and the ancestor's ancestors. The record of its training set says so by
itself: it stays true when an ancestor has been deleted.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from cytonet_pipeline.errors import StoreError, TrainingError
from cytonet_pipeline.store import Store, digest_file, read_record, read_table, verdict_on_encoder, verified

WEIGHTS = "encoder.safetensors"
Seen = dict[str, list[str]]
# Roles of sections that an ancestor must not have been trained on.
_KEPT_FREE = ("gap", "seen_brains", "unseen_brain")
_MOST_NAMED = 5


def find_ancestor(given: str, store: Store) -> dict[str, Any]:
    """Find the weights that `init_from` names, and what is known of them.

    Parameters
    ----------
    given : str
        `encoder` (its current version), `encoder@version`, or a path to `encoder.safetensors` or its folder.

    Returns
    -------
    dict
        `given`, `path`, `digest` of the file, `encoder` and `version` (None for a file without lineage),
        `sections_seen` (samples by brain; None where nobody knows), `scans_seen` (digests of their scans, as far as
        they are known: a section that was renamed since is still the same scan).

    Raises
    ------
    TrainingError
        There are no such weights, or the training run that made them failed its check.
    """
    path = _path_of(given, store)
    if not path.exists():
        raise TrainingError(
            f"init_from {given}: no weights there.",
            looked_for=str(path),
            to_fix="name an encoder of the store that is trained (cytonet run --encoders NAME), or an existing file",
        )
    if path.with_name("encoder.json").exists() and not (verdict := verdict_on_encoder(path.parent)).ok:
        raise TrainingError(
            f"init_from {given}: this version failed its check: {'; '.join(verdict.reasons)}.",
            looked_for=str(path.with_name("encoder.json")),
            to_fix="continue from a version that is sound",
        )
    found: dict[str, Any] = {"given": given, "path": str(path), "digest": digest_file(verified(path))}
    record_path, sections_path = (path.with_name(name) for name in ("training_set.json", "sections.parquet"))
    if not (record_path.exists() and sections_path.exists()):
        return {**found, "encoder": None, "version": None, "sections_seen": None, "scans_seen": []}
    record = read_record(record_path)
    own = read_table(sections_path, "training_sections", columns=["brain", "sample", "digest", "n_training_patches"])
    own = own[own["n_training_patches"] > 0]
    before = record.get("init_from") or {}
    return {
        **found,
        "encoder": record["encoder"],
        "version": record.get("version"),
        "sections_seen": _joined(_samples(own), record.get("init_from")),
        "scans_seen": sorted({*own["digest"], *before.get("scans_seen", [])}),
    }


def find_external_weights(given: str) -> dict[str, Any]:
    """Find the file of `method: pretrained`, as `find_ancestor` does; what it has seen nobody here knows.

    Raises
    ------
    TrainingError
        There is no such file.
    """
    path = Path(given).expanduser().absolute()
    if not path.is_file():
        raise TrainingError(
            f"weights {given}: no such file.",
            looked_for=str(path),
            to_fix="put the file there, nothing is downloaded; docs/experiments.md names the files that people use",
        )
    known: dict[str, Any] = {"encoder": None, "version": None, "sections_seen": None}
    return {"given": given, "path": str(path), "digest": digest_file(path), **known}


def require_no_leak(encoder: str, ancestor: dict[str, Any], sections: pd.DataFrame) -> None:
    """Refuse an ancestor that was trained on sections by which this encoder is tested.

    Raises
    ------
    TrainingError
        It was; names some of them.
    """
    seen = {(brain, sample) for brain, samples in (ancestor["sections_seen"] or {}).items() for sample in samples}
    scans = set(ancestor["scans_seen"])
    kept_free = sections[sections["role"].isin(_KEPT_FREE)]
    rows = zip(kept_free["brain"], kept_free["sample"], kept_free["digest"], strict=True)
    both = [f"{brain}/{sample}" for brain, sample, digest in rows if (brain, sample) in seen or digest in scans]
    if both:
        more = f" and {len(both) - _MOST_NAMED} more" if len(both) > _MOST_NAMED else ""
        raise TrainingError(
            f"encoder {encoder}: init_from {ancestor['given']} was trained on sections that it is to be tested on, or "
            f"near them: {', '.join(both[:_MOST_NAMED])}{more}.",
            to_fix="continue from an encoder with the same held_out and split",
        )


def ancestors_of(encoder: str, store: Store, version: str | None = None) -> list[dict[str, Any]]:
    """Return what an encoder continues from, the nearest first: `encoder`, `version`, `digest`, `path` of each.

    Raises
    ------
    StoreError
        The encoder has not been trained.
    """
    folder = store.current_encoder(encoder) if version is None else store.encoder(encoder, version)
    chain: list[dict[str, Any]] = []
    while (folder / "training_set.json").exists():
        given = read_record(folder / "training_set.json").get("init_from")
        if given is None:
            return chain
        chain.append({key: given[key] for key in ("encoder", "version", "digest", "path")})
        if given["encoder"] is None:
            return chain
        folder = store.encoder(given["encoder"], given["version"])
    return chain


def seen_before(record: dict[str, Any], brain: str, sample: str) -> bool:
    """Return whether an ancestor of a training set's encoder was trained on a section."""
    given = record.get("init_from") or {}
    return sample in (given.get("sections_seen") or {}).get(brain, [])


def _path_of(given: str, store: Store) -> Path:
    if "/" in given or given.endswith(".safetensors"):
        path = Path(given).expanduser().absolute()
        return path / WEIGHTS if path.is_dir() else path
    encoder, _, version = given.partition("@")
    try:
        return (store.encoder(encoder, version) if version else store.current_encoder(encoder)) / WEIGHTS
    except StoreError as error:
        raise TrainingError(
            f"init_from {given}: {error.what}", looked_for=error.looked_for, to_fix=error.to_fix
        ) from error


def _samples(sections: pd.DataFrame) -> Seen:
    return {str(brain): sorted(rows["sample"]) for brain, rows in sections.groupby("brain", sort=True)}


def _joined(own: Seen, before: dict[str, Any] | None) -> Seen | None:
    """Join an encoder's own sections with its ancestor's; None if it is unknown what that one saw."""
    if before is None:
        return own
    if before["sections_seen"] is None:
        return None
    return {b: sorted({*own.get(b, []), *before["sections_seen"].get(b, [])}) for b in {*own, *before["sections_seen"]}}
