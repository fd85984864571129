"""Questions to the store: what an encoder has seen, and which encoders have seen a section."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow.dataset

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.lineage.ancestry import seen_before
from cytonet_pipeline.lineage.training_set import TrainingSet, read_training_set
from cytonet_pipeline.store import Store, read_record, read_table


class Use(NamedTuple):
    """One trained version of an encoder, and a section's role in it."""

    encoder: str
    version: str
    role: str
    current: bool


def sections_of(encoder: str, store: Store, version: str | None = None) -> pd.DataFrame:
    """Return the sections that an encoder knows of, with their roles.

    Parameters
    ----------
    version : str, optional
        Default: the current one.

    Returns
    -------
    DataFrame
        Table `training_sections`. Those that went into the weights have `role` train and `n_training_patches` above
        0; `validation` sections were monitored; the others were kept from it.

    Raises
    ------
    StoreError
        The encoder has not been trained, or has no such version.
    """
    folder = store.current_encoder(encoder) if version is None else store.encoder(encoder, version)
    if not folder.exists():
        raise StoreError(
            f"encoder {encoder}: has no version {version}.",
            looked_for=str(folder),
            to_fix=f"it has {', '.join(store.encoder_versions(encoder)) or 'none'}",
        )
    return read_table(folder / "sections.parquet", "training_sections")


def encoders_of(brain: str, sample: str, store: Store) -> list[Use]:
    """Return every trained version of every encoder that knows a section, and the section's role in it.

    Returns
    -------
    list of Use
        Sorted by encoder and version; `current` says whether evaluation uses that version. Empty if no encoder knows
        the section. `inherited`: it was kept from the encoder itself, but the weights that it continues from had been
        trained on it.
    """
    this = (pyarrow.dataset.field("brain") == brain) & (pyarrow.dataset.field("sample") == sample)
    uses = []
    for encoder in store.encoders():
        current = store.current_version(encoder)
        for version in store.encoder_versions(encoder):
            folder = store.encoder(encoder, version)
            # Written at the end of training: a folder without it was only prepared.
            if not (folder / "encoder.json").exists():
                continue
            found = read_table(folder / "sections.parquet", "training_sections", columns=["role"], where=this)
            roles = list(found["role"])
            if "train" not in roles and seen_before(_record_of(folder), brain, sample):
                roles = ["inherited"]
            uses += [Use(encoder, version, role, version == current) for role in roles]
    return uses


def _record_of(folder: Path) -> dict[str, Any]:
    path = folder / "training_set.json"
    return read_record(path) if path.exists() else {}


def find_training_set(name: str, store: Store) -> TrainingSet:
    """Find a training set by what people call it.

    Parameters
    ----------
    name : str
        `encoder` (its current version, else the one that it is to be trained on), `encoder@version`, or a version.

    Raises
    ------
    StoreError
        Nothing in the store has that name.
    """
    encoder, _, version = name.partition("@")
    if version:
        found = read_training_set(store, version)
        if found.encoder == encoder:
            return found
        raise StoreError(f"training set {version}: belongs to {found.encoder}, not to {encoder}.")
    known = store.current_version(name) or store.wanted_version(name)
    if known is not None:
        return read_training_set(store, known)
    if name in store.training_sets() or any(name in store.encoder_versions(e) for e in store.encoders()):
        return read_training_set(store, name)
    raise StoreError(
        f"{name}: neither an encoder with a training set nor the version of one.",
        looked_for=[str(store.root / "encoders"), str(store.root / "training_sets")],
        to_fix=f"it has {', '.join([*store.encoders(), *store.training_sets()]) or 'none'}",
    )
