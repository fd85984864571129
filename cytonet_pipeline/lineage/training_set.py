"""Training sets: exactly which sections, transforms and patches an encoder may see, under a version that names them.

The version is a digest of all that decides the weights, so what lineage points to is never overwritten. Which brains
take part is decided in `members.py`, which of them are sound in `brains.py`, and that no scan has two names in
`copies.py`; differences are described in `compare.py`.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

import cytonet_pipeline
from cytonet_pipeline.errors import DamagedResult, StoreError, TrainingError
from cytonet_pipeline.lineage.ancestry import find_ancestor, find_external_weights, require_no_leak
from cytonet_pipeline.lineage.brains import IndexedBrain, read_brain
from cytonet_pipeline.lineage.copies import require_no_copies
from cytonet_pipeline.lineage.few_labels import DrawnLabels, draw_labels, label_warnings
from cytonet_pipeline.lineage.members import (
    brains_in,
    brains_to_come,
    require_known_unseen_brain,
    scans_in,
    stored_brains_left_out,
)
from cytonet_pipeline.patches import assign_splits, take_subset
from cytonet_pipeline.settings import TRAINING_CODE_VERSION, EncoderBlock, Settings, content_for_version
from cytonet_pipeline.store import (
    Store,
    atomic_folder,
    digest_array,
    digest_of,
    is_current,
    read_record,
    read_table,
    table,
    write_record,
    write_stamp,
    write_table,
)

_IN_VERSION = [
    "brain", "sample", "role", "digest", "pixel_um", "window_low", "window_high", "mask_digest", "transform_digest",
    "patches_digest", "n_training_patches",
]  # fmt: skip
_PATCH_COLUMNS = [column.name for column in table("training_patches").columns]


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What an encoder may see.

    Attributes
    ----------
    encoder, version : str
    sections : DataFrame
        Table `training_sections`: all sections of all sound brains that take part, with what each is for.
    record : dict
        Content of `training_set.json`: configuration, digests, counts, who was left out and why.
    """

    encoder: str
    version: str
    sections: pd.DataFrame
    record: dict[str, Any] = field(repr=False)


def resolve_training_set(encoder: str, settings: Settings, store: Store) -> tuple[TrainingSet, pd.DataFrame]:
    """Decide what an encoder may see, from what the store holds now. Nothing is written.

    Returns
    -------
    training_set : TrainingSet
    patches : DataFrame
        Table `training_patches`: those of training sections that the encoder learns from (`samples` of them), and all
        of validation sections, by which training is monitored.

    Raises
    ------
    DamagedResult
        What the store holds of a brain is not as it was written.
    TrainingError
        No brain offers a training section, and why; the data set does not know the unseen brain; a scan has two names;
        or the weights to continue from are missing, or have seen what this encoder is tested on.
    ConfigurationError
        The data set cannot be read, so nobody knows which brains it releases.
    """
    held_out = settings.held_out(encoder)
    require_known_unseen_brain(encoder, settings)
    brains, left_out = _sound_brains(settings, store)
    sections = _sections_with_roles(brains, settings, held_out)
    _require_no_copies(encoder, sections, held_out, store)
    patches = _available_patches(brains, sections)
    _require_training(encoder, patches, left_out)
    drawn = _drawn(encoder, patches, settings)
    patches = drawn.patches if drawn is not None else _subset(patches, settings.encoder(encoder))
    patches = table("training_patches").validate(patches[_PATCH_COLUMNS]).reset_index(drop=True)
    trained = patches.loc[patches["role"] == "train", ["brain", "sample"]].value_counts().rename("n")
    seen = sections.join(trained, on=["brain", "sample"])["n"].fillna(0).astype(np.int64)
    sections = table("training_sections").validate(sections.assign(n_training_patches=seen))
    sections = sections[[c.name for c in table("training_sections").columns]]
    ancestor = _ancestor(encoder, sections, settings, store)
    record = _record(encoder, sections, patches, settings, held_out, ancestor) | {"left_out": left_out}
    record["warnings"] = _warnings(sections, held_out, left_out, ancestor)
    if drawn is not None:
        record["labels"] = {"by_area": drawn.counts, "chosen_on": drawn.chosen_on}
        record["warnings"] += label_warnings(drawn, settings.encoder(encoder))
    return TrainingSet(encoder, record["version"], sections, record), patches


def write_training_set(store: Store, training_set: TrainingSet) -> None:
    """Write a training set below its version; one that is there already and whole stays as it is."""
    folder = store.training_set(training_set.version)
    if is_current(folder, {"version": training_set.version}):
        return
    with atomic_folder(folder) as temporary:
        write_table(temporary / "sections.parquet", training_set.sections, "training_sections")
        write_record(temporary / "training_set.json", training_set.record)
        write_stamp(temporary, {"version": training_set.version})


def read_training_set(store: Store, version: str) -> TrainingSet:
    """Read a training set by its version: from its own folder, else from that of the encoder trained on it.

    Raises
    ------
    StoreError
        No such version.
    """
    trained = (store.encoder(encoder, version) for encoder in store.encoders())
    for folder in (store.training_set(version), *trained):
        if (folder / "training_set.json").exists():
            record = read_record(folder / "training_set.json")
            sections = read_table(folder / "sections.parquet", "training_sections")
            return TrainingSet(str(record["encoder"]), version, sections, record)
    raise StoreError(
        f"training set {version}: not in the store.",
        looked_for=str(store.training_set(version) / "training_set.json"),
        to_fix=f"it has {', '.join(store.training_sets()) or 'none'}",
    )


def _sound_brains(settings: Settings, store: Store) -> tuple[list[IndexedBrain], dict[str, str]]:
    """Read the brains that take part; return the others with the reasons."""
    brains, left_out = [], stored_brains_left_out(settings, store)
    for name in brains_in(store):
        if name in left_out:
            continue
        try:
            brains.append(read_brain(store, name))
        except DamagedResult:
            # Left out it would give every encoder another version, and everything would be trained again.
            raise
        except StoreError as reason:
            left_out[name] = reason.what
    left_out |= {name: f"{name}: in the data set, not ingested yet." for name in brains_to_come(settings, store)}
    return brains, dict(sorted(left_out.items()))


def _require_no_copies(encoder: str, sections: pd.DataFrame, held_out: str, store: Store) -> None:
    """Refuse copies, also of an unseen brain that takes no part any more: its new name may be among the others."""
    gone = scans_in(store, [] if held_out in set(sections["brain"]) else [held_out]).assign(role="unseen_brain")
    columns = list(gone.columns)
    require_no_copies(encoder, pd.concat([sections[columns], gone], ignore_index=True))


def _sections_with_roles(brains: list[IndexedBrain], settings: Settings, held_out: str) -> pd.DataFrame:
    """All sections, sorted by brain and section, with role and intensity window."""
    block = settings.experiments.dataset
    frames = []
    for brain in brains:
        roles = assign_splits(
            brain.name, brain.positions_mm, block, held_out, reach_mm=brain.reach_mm, with_validation=True
        )
        low, high = _windows(brain, settings)
        frames.append(
            brain.sections.drop(columns=["position_mm", "reach_mm", "bits"]).assign(
                role=brain.sections["sample"].map(roles), window_low=low, window_high=high
            )
        )
    return pd.concat(frames, ignore_index=True) if frames else table("training_sections").empty()


def _windows(brain: IndexedBrain, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Return the grey values of each section that become 0 and 255: NaN for the full range, exchanged if inverted."""
    block = settings.experiments.dataset
    given, invert, none = block.window_of(brain.name), block.invert_of(brain.name), np.full(len(brain.sections), np.nan)
    if given is None and not invert:
        return none, none
    largest = 2.0 ** brain.sections["bits"].to_numpy() - 1
    low, high = (largest * 0 + edge for edge in given or (0, largest))
    return (high, low) if invert else (low, high)


def _available_patches(brains: list[IndexedBrain], sections: pd.DataFrame) -> pd.DataFrame:
    """All patches of training and validation sections, with `role`."""
    roles = sections[sections["role"].isin(["train", "validation"])][["brain", "sample", "role"]]
    frames = [brain.patches.merge(roles, on=["brain", "sample"], validate="many_to_one") for brain in brains]
    return pd.concat(frames, ignore_index=True) if frames else table("training_patches").empty()


def _subset(patches: pd.DataFrame, block: EncoderBlock) -> pd.DataFrame:
    """`samples` of the training patches, and all validation patches."""
    training = take_subset(patches[patches["role"] == "train"], block.samples, block.brain_floor)
    return pd.concat([training, patches[patches["role"] == "validation"]]).sort_index()


def _drawn(encoder: str, patches: pd.DataFrame, settings: Settings) -> DrawnLabels | None:
    """The patches of an encoder that is trained on a few labels; None for every other one."""
    block = settings.encoder(encoder)
    if block.labels_per_area is None:
        return None
    return draw_labels(encoder, patches, block, settings.experiments.evaluation.samples_per_area)


def _ancestor(encoder: str, sections: pd.DataFrame, settings: Settings, store: Store) -> dict[str, Any] | None:
    block = settings.encoder(encoder)
    if block.weights is not None:
        return find_external_weights(block.weights)
    if block.init_from is None:
        return None
    ancestor = find_ancestor(block.init_from, store)
    require_no_leak(encoder, ancestor, sections)
    return ancestor


def _require_training(encoder: str, patches: pd.DataFrame, left_out: dict[str, str]) -> None:
    if (patches["role"] == "train").any():
        return
    raise TrainingError(
        f"encoder {encoder}: the store has no section to train on.",
        looked_for=list(left_out.values()),
        to_fix="materialise the patch index of at least one brain other than the unseen one; sections nearer than "
        "gap_mm to a test section do not count",
    )


def _record(
    encoder: str,
    sections: pd.DataFrame,
    patches: pd.DataFrame,
    settings: Settings,
    held_out: str,
    ancestor: dict[str, Any] | None,
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "encoder": settings.encoder(encoder).model_dump(mode="json"),
        "dataset": settings.experiments.dataset.model_dump(mode="json"),
        "held_out": held_out,
    }
    digests = {
        "sections": sections_digest(sections, labels=settings.encoder(encoder).sees_labels),
        "patch_ids": _patch_ids_digest(patches),
    }
    relevant = {
        "encoder": content_for_version(settings.encoder(encoder)),
        "dataset": content_for_version(settings.experiments.dataset),
    }
    inherited = {} if ancestor is None else {"init_from": ancestor}
    if ancestor is not None:
        digests["init_from"] = ancestor["digest"]
    return {
        **inherited,
        "encoder": encoder,
        "version": digest_of([encoder, relevant, held_out, digests, TRAINING_CODE_VERSION]),
        "config": config,
        "code_version": TRAINING_CODE_VERSION,
        "package_version": cytonet_pipeline.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "brains": sorted(sections["brain"].unique()),
        "held_out": held_out,
        "sections_by_role": {role: int(n) for role, n in sections["role"].value_counts().sort_index().items()},
        "patches_by_role": {role: int(n) for role, n in patches["role"].value_counts().sort_index().items()},
        "sections_digest": digests["sections"],
        "patch_ids_digest": digests["patch_ids"],
    }


def sections_digest(sections: pd.DataFrame, *, labels: bool) -> str:
    """Return the digest of what decides the weights in a table `training_sections`, whatever the order of its rows.

    Parameters
    ----------
    labels : bool
        Whether annotations count: an encoder that never sees them is not stale when somebody annotates.
    """
    columns = [*_IN_VERSION, "annotation_digest"] if labels else _IN_VERSION
    rows = sections.sort_values(["brain", "section", "sample"])[columns].astype(object)
    return digest_of(rows.where(rows.notna(), None).to_dict("list"))


def _patch_ids_digest(patches: pd.DataFrame) -> str:
    return digest_of(
        {role: digest_array(np.sort(rows["patch_id"].to_numpy(np.uint64))) for role, rows in patches.groupby("role")}
    )


def _warnings(
    sections: pd.DataFrame, held_out: str, left_out: dict[str, str], ancestor: dict[str, Any] | None
) -> list[str]:
    warnings = [f"left out: {reason}" for reason in left_out.values()]
    if ancestor is not None and ancestor["sections_seen"] is None:
        warnings.append(f"nobody knows what {ancestor['given']} was trained on: it may have seen the test sections")
    if held_out not in set(sections["brain"]):
        warnings.append(f"the unseen brain {held_out} is not in the store: there will be no scores on it")
    for brain, rows in sections.groupby("brain"):
        if brain != held_out and "seen_brains" not in set(rows["role"]):
            warnings.append(f"{brain}: too few sections to spare any for testing")
        if brain != held_out and rows["n_training_patches"].sum() == 0:
            warnings.append(f"{brain}: no patch to train on")
    return warnings
