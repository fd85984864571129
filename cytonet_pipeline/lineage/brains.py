"""Which brains of the store are sound, and what the store knows of their sections and patches.

Dagster's blocking checks act only within one run, so a brain's own verdicts are read here: all three steps must be
sound, and the index must be made from the scans, transforms and reference that are there now.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytonet_pipeline.errors import DamagedResult, StoreError
from cytonet_pipeline.patches import read_index, read_index_parameters
from cytonet_pipeline.store import (
    REFERENCE_MM,
    Store,
    Verdict,
    damaged,
    digest_array,
    digest_of,
    read_stamp,
    read_table,
    stamp_path,
)

_INDEX_COLUMNS = [
    "patch_id", "brain", "sample", "x_px", "y_px", *REFERENCE_MM, "annotated_area", "order",
]  # fmt: skip
_SCAN_COLUMNS = [
    "brain", "sample", "section", "path", "digest", "pixel_um", "bits", "mask_digest",
    "annotation_digest",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class IndexedBrain:
    """A sound brain.

    Attributes
    ----------
    sections : DataFrame
        One row per usable section: `brain`, `sample`, `section`, `path`, `digest`, `pixel_um`, `bits`, `mask_digest`,
        `annotation_digest`, `transform_digest`, `patches_digest`, `n_patches`, `position_mm`, `reach_mm`.
    patches : DataFrame
        The columns of the patch index that training reads.
    """

    name: str
    sections: pd.DataFrame
    patches: pd.DataFrame

    @property
    def positions_mm(self) -> dict[str, float]:
        """Position of each section along the series, by sample."""
        return dict(zip(self.sections["sample"], self.sections["position_mm"], strict=True))

    @property
    def reach_mm(self) -> dict[str, float]:
        """How far each section reaches from its position along the series, by sample."""
        return dict(zip(self.sections["sample"], self.sections["reach_mm"], strict=True))


def read_brain(store: Store, brain: str) -> IndexedBrain:
    """Read what training needs of a brain.

    Raises
    ------
    StoreError
        A step failed or has not run, or the index is older than what it was made from; the message is the reason.
    DamagedResult
        What is known of the brain is not as it was written: whether it can take part is not known either.
    """
    reason = next(_reasons_against(store, brain), None)
    if reason is not None:
        raise StoreError(reason)
    scans = read_table(store.section_scans(brain) / "sections.parquet", "section_scans", columns=_SCAN_COLUMNS)
    made_from = pd.DataFrame.from_dict(read_index_parameters(store, brain)["sections"], orient="index")
    patches = read_index(store, brain, columns=_INDEX_COLUMNS)
    if made_from.empty:
        raise StoreError(f"{brain}: no section can be used.")
    known = made_from.reindex(columns=["position_mm", "reach_mm", "transform_digest"]).fillna({"reach_mm": 0.0})
    sections = scans.merge(known, left_on="sample", right_index=True)
    sections = sections[sections["digest"].notna() & sections["path"].notna()].sort_values(["section", "sample"])
    digests = patches_digests(patches)
    counts = patches["sample"].value_counts()
    sections = sections.assign(
        patches_digest=sections["sample"].map(digests).fillna(digest_of([])),
        n_patches=sections["sample"].map(counts).fillna(0).astype(np.int64),
    )
    return IndexedBrain(brain, sections.reset_index(drop=True), patches)


def patches_digests(patches: pd.DataFrame) -> dict[str, str]:
    """Return, by sample, the digest of its patches' ids and places, whatever the order of the rows."""
    ordered = patches.sort_values(["sample", "patch_id"], kind="stable")
    places = ordered[list(REFERENCE_MM)].to_numpy(np.float32)
    ids, samples = ordered["patch_id"].to_numpy(np.uint64), ordered["sample"].to_numpy()
    borders = np.flatnonzero(np.append(True, samples[1:] != samples[:-1])) if len(samples) else np.empty(0, int)
    ends = np.append(borders[1:], len(samples))
    return {
        str(samples[start]): digest_of([digest_array(ids[start:end]), digest_array(places[start:end])])
        for start, end in zip(borders, ends, strict=len(borders) > 0)
    }


def _reasons_against(store: Store, brain: str) -> Iterator[str]:
    """Yield why a brain cannot take part; nothing if it can."""
    folders = {
        "reference_space": store.reference_space(),
        "section_scans": store.section_scans(brain),
        "colin27_transforms": store.colin27_transforms(brain),
        "patch_index": store.patch_index(brain),
    }
    verdicts = {}
    for step, folder in folders.items():
        try:
            verdicts[step] = Verdict.read(folder)
        except DamagedResult:
            raise
        except StoreError:
            yield f"{brain}: {step} has not run."
            return
        if not verdicts[step].ok:
            yield f"{brain}: {step} failed: {'; '.join(verdicts[step].reasons) or 'no reason given'}"
            return
    made_from = read_stamp(folders["patch_index"])
    if made_from is None:
        # Written in one piece: a verdict without a stamp has lost it.
        raise damaged(stamp_path(folders["patch_index"]), "missing")
    sources = {"reference": "reference_space", "sections": "section_scans", "transforms": "colin27_transforms"}
    now = {name: verdicts[step].digest for name, step in sources.items()}
    outdated = [name for name, digest in now.items() if made_from.get(name) != digest]
    if outdated:
        yield f"{brain}: patch_index is older than the {' and '.join(outdated)} that it was made from."
