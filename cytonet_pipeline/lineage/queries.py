"""Questions to the store: what an encoder has seen, and which encoders have seen a section."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow.dataset

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.errors import ConfigurationError, StoreError
from cytonet_pipeline.lineage.ancestry import seen_before
from cytonet_pipeline.lineage.learned import describe_learning, learned_from_section, learns
from cytonet_pipeline.lineage.members import brains_in
from cytonet_pipeline.lineage.training_set import TrainingSet, read_training_set
from cytonet_pipeline.names import bare, bare_brain, describe_known, split_section
from cytonet_pipeline.store import Store, read_record, read_table, table


class Use(NamedTuple):
    """One trained version of an encoder, a section's role in it, and what it learned from the section."""

    encoder: str
    version: str
    role: str
    current: bool
    learned: str


def sections_of(encoder: str, store: Store, version: str | None = None, *, brain: str | None = None) -> pd.DataFrame:
    """Return the sections that an encoder knows of, with their roles.

    Parameters
    ----------
    version : str, optional
        Default: the current one.
    brain : str, optional
        Only sections of this brain.

    Returns
    -------
    DataFrame
        Table `training_sections`. Those that went into the weights have `role` train and `n_training_patches` above
        0; `validation` sections were monitored; the others were kept from it. Controls that learn nothing have no
        training patches.

    Raises
    ------
    StoreError
        The encoder has not been trained, or has no such version.
    """
    folder = folder_of(encoder, store, version)
    where = None if brain is None else pyarrow.dataset.field("brain") == brain
    sections = read_table(folder / "sections.parquet", "training_sections", where=where)
    return sections if learns(_record_of(folder)) else sections.assign(n_training_patches=0)


def learning_of(encoder: str, store: Store, version: str | None = None) -> str:
    """Return one sentence on what an encoder learned from; by default its current version.

    Raises
    ------
    StoreError
        The encoder has not been trained, or has no such version.
    """
    folder = folder_of(encoder, store, version)
    return describe_learning(_record_of(folder), read_table(folder / "sections.parquet", "training_sections"))


def folder_of(encoder: str, store: Store, version: str | None = None) -> Path:
    """Return the folder of a version of an encoder; by default of the current one.

    Raises
    ------
    StoreError
        The store has no such encoder or version; names that are near, or all versions.
    """
    if encoder not in store.encoders():
        raise StoreError(
            f"encoder {encoder}: not trained yet, the store has none of that name; "
            f"{describe_known(encoder, store.encoders())}.",
            looked_for=str(store.root / "encoders"),
            to_fix=f"correct the name, or train it: cytonet run --encoders {encoder}",
        )
    folder = store.current_encoder(encoder) if version is None else store.encoder(encoder, version)
    if not folder.exists():
        known = describe_known(str(version), store.encoder_versions(encoder))
        raise StoreError(
            f"encoder {encoder}: has no version {version}; {known}.",
            looked_for=str(folder),
            to_fix="correct the version",
        )
    return folder


def find_section(text: str, store: Store, dataset: Dataset | None = None) -> tuple[str, str]:
    """Find a section by any of its spellings: `B02/4058`, `sub-B02/sample-4058`.

    Parameters
    ----------
    dataset : Dataset, optional
        Its brains and sections are known, too.

    Returns
    -------
    brain, sample : str

    Raises
    ------
    ConfigurationError
        It is no section, or neither the store nor the data set has that brain or section; near names are listed.
    """
    pair = split_section(text)
    if pair is None:
        raise ConfigurationError(f"{text!r}: not a section.", to_fix="name it BRAIN/SAMPLE, for example B01/4332")
    brain, sample = pair
    find_brain(brain, store, dataset, asked=text)
    samples = _samples_of(brain, store)
    if dataset is not None and brain in dataset.brains():
        samples |= {section.sample for section in dataset.brain(brain).sections}
    if sample not in samples:
        raise ConfigurationError(
            f"{text}: brain {brain} has no section {sample}; {describe_known(sample, samples)}.",
            to_fix="correct the name",
        )
    return brain, sample


def find_brain(name: str, store: Store, dataset: Dataset | None = None, *, asked: str = "") -> str:
    """Find a brain by either of its spellings: `B02`, `sub-B02`.

    Parameters
    ----------
    asked : str
        What the person wrote, for the message; default: `name`.

    Raises
    ------
    ConfigurationError
        Neither the store nor the data set has it; near names are listed.
    """
    brain = bare_brain(name)
    known = {*brains_recorded(store), *(dataset.brains() if dataset else [])}
    if brain not in known:
        raise ConfigurationError(
            f"{asked or name}: no brain {brain} in the store or the data set; {describe_known(brain, known)}.",
            to_fix="correct the name",
        )
    return brain


def brains_recorded(store: Store) -> set[str]:
    """Return all brains that the store has or that an encoder knows of, those that were taken out since among them."""
    return {*brains_in(store), *(str(b) for rows in _all_sections(store, ["brain"]) for b in rows["brain"].unique())}


def recorded_sections(brain: str, store: Store) -> pd.DataFrame:
    """Return the sections of a brain as trained encoders know them: a row for each state of a section's files.

    Returns
    -------
    DataFrame
        Table `training_sections`; roles and numbers of patches are those of one of the encoders.
    """
    frames = _all_sections(store, None, pyarrow.dataset.field("brain") == brain)
    if not frames:
        return table("training_sections").empty()
    states = ["sample", "digest", "mask_digest", "annotation_digest", "transform_digest"]
    return pd.concat(frames, ignore_index=True).drop_duplicates(states, ignore_index=True)


def trained_versions(store: Store) -> list[tuple[str, str, Path]]:
    """Return encoder, version and folder of every training run that has finished, in the order of their names."""
    versions = [(name, version) for name in store.encoders() for version in store.encoder_versions(name)]
    found = [(name, version, store.encoder(name, version)) for name, version in versions]
    # Written at the end of training: a folder without it was only prepared.
    return [each for each in found if (each[2] / "encoder.json").exists()]


def _samples_of(brain: str, store: Store) -> set[str]:
    this = pyarrow.dataset.field("brain") == brain
    frames = _all_sections(store, ["sample"], this)
    path = store.section_scans(brain) / "sections.parquet"
    if path.exists():
        frames = [*frames, read_table(path, "section_scans", columns=["sample"])]
    return {str(sample) for rows in frames for sample in rows["sample"]}


def _all_sections(store: Store, columns: list[str] | None, where: Any = None) -> list[pd.DataFrame]:
    paths = [folder / "sections.parquet" for _, _, folder in trained_versions(store)]
    return [read_table(path, "training_sections", columns=columns, where=where) for path in paths]


def encoders_of(brain: str, sample: str, store: Store) -> list[Use]:
    """Return every trained version of every encoder that knows a section, and the section's role in it.

    Returns
    -------
    list of Use
        Sorted by encoder and version; `current` says whether evaluation uses that version. Empty if no encoder knows
        the section. `inherited`: it was kept from the encoder itself, but the weights that it continues from had been
        trained on it.
    """
    brain, sample = bare_brain(brain), bare(sample, "sample")
    this = (pyarrow.dataset.field("brain") == brain) & (pyarrow.dataset.field("sample") == sample)
    uses = []
    for encoder, version, folder in trained_versions(store):
        columns, record = ["role", "n_training_patches"], _record_of(folder)
        found = read_table(folder / "sections.parquet", "training_sections", columns=columns, where=this)
        known = list(zip(found["role"], found["n_training_patches"], strict=True))
        if "train" not in list(found["role"]) and seen_before(record, brain, sample):
            known = [("inherited", 0)]
        current = version == store.current_version(encoder)
        uses += [
            Use(encoder, version, role, current, learned_from_section(record, role, int(patches)))
            for role, patches in known
        ]
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
    known_names = [*store.encoders(), *store.training_sets()]
    raise StoreError(
        f"{name}: neither an encoder with a training set nor the version of one; {describe_known(name, known_names)}.",
        looked_for=[str(store.root / "encoders"), str(store.root / "training_sets")],
        to_fix="correct the name",
    )
