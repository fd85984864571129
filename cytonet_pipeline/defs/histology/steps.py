"""The three steps that bring one brain in: scans, transforms, index. No Dagster here.

A data fault never leaves these functions: it becomes the brain's verdict, beside whatever is sound, so that one bad
brain does not take a whole backfill with it.
"""

import logging
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cytonet_pipeline.defs import currency
from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import (
    REFERENCE_MM,
    Store,
    Verdict,
    atomic_folder,
    beside,
    digest_of,
    read_stamp,
    read_table,
    write_json,
    write_stamp,
    write_table,
)

if TYPE_CHECKING:
    import pandas as pd

    from cytonet_pipeline.dataset import Brain
    from cytonet_pipeline.registration import PointTransform

log = logging.getLogger(__name__)

CORTEX_POINTS_FOR_QC = 4000
_TOLD_OF_INDEX = [
    "brain", *REFERENCE_MM, "annotated_area", "cortex_fraction", "obliquity_deg", "split", "order",
]  # fmt: skip


def take_inventory(settings: Settings, brain_name: str, *, recompute: bool = False) -> Verdict:
    """Survey the sections of a brain: `sections.parquet` and a contact sheet; unchanged sections are not opened."""
    work = partial(_inventory, afresh=recompute)
    return _step(currency.section_scans(settings, brain_name), work, settings, brain_name, recompute)


def resolve_transforms(settings: Settings, brain_name: str, *, recompute: bool = False) -> Verdict:
    """Resolve the chain of a brain to Colin-27 and measure it: `chain.json`, `quality.json` and a picture."""
    return _step(currency.colin27_transforms(settings, brain_name), _transforms, settings, brain_name, recompute)


def index_patches(settings: Settings, brain_name: str, *, recompute: bool = False) -> Verdict:
    """Sample the cortex of a brain into `part-*.parquet`; rows that would come out the same are kept."""
    work = partial(_index, afresh=recompute)
    return _step(currency.patch_index(settings, brain_name), work, settings, brain_name, recompute)


Work = Callable[[Settings, "Brain", Path], Verdict]


def _step(result: currency.Result, work: Work, settings: Settings, brain_name: str, recompute: bool) -> Verdict:
    from cytonet_pipeline.dataset import Dataset

    if result.current and not recompute:
        return Verdict.read(result.folder)
    brain = Dataset(settings.data, settings.experiments.dataset).brain(brain_name)
    with atomic_folder(result.folder) as folder:
        try:
            verdict = work(settings, brain, folder)
        except DataFault as fault:
            log.error("%s", fault)
            verdict = Verdict.failed(fault)
        verdict.write(folder)
        write_stamp(folder, result.inputs)
    return verdict


def _inventory(settings: Settings, brain: "Brain", folder: Path, *, afresh: bool) -> Verdict:
    from cytonet_pipeline import histology
    from cytonet_pipeline.reporting.contact_sheet import contact_sheet

    stored = _of_this_program(Store(settings.store).section_scans(brain.name), "section_scans")
    earlier = histology.read_inventory(stored) if stored is not None and not afresh else None
    inventory = histology.take_inventory(brain, settings.experiments.dataset, earlier)
    sections = inventory.rows
    write_table(folder / "sections.parquet", sections, "section_scans", {"brain": brain.name})
    histology.write_pictures(folder, inventory.pictures)
    contact_sheet(brain, sections, beside(folder, "contact_sheet.png"), inventory.pictures)
    counts = sections["status"].value_counts().to_dict()
    usable = sections["status"].isin(["ok", "flagged"])
    figures = {
        "sections": len(sections),
        **{f"sections {status}": int(counts.get(status, 0)) for status in ("ok", "flagged", "rejected", "withdrawn")},
        "annotated sections": int((usable & sections["annotation_path"].notna()).sum()),
        "masks derived from the reference": int((usable & sections["mask_path"].isna()).sum()),
        "scans GB": round(float(sections["bytes"].sum()) / 1e9, 3),
        "median tissue fraction": _median(sections.loc[usable, "tissue_fraction"]),
        "median focus": _median(sections.loc[usable, "focus"]),
        "median staining": _median(sections.loc[usable, "staining"]),
        "gaps in the series": len(histology.gaps(sections)),
    }
    reasons = [*brain.problems, *_faults_of_sections(sections)]
    # Times of change are among the inputs: a file that was only touched must not make everything after it again.
    told = sections.drop(columns="inputs")
    digest = digest_of(told.astype(object).where(told.notna(), None).values.tolist())
    if not usable.any():
        return Verdict("failed", (f"sub-{brain.name}: no usable section.", *reasons), "", figures)
    return Verdict("ok", tuple(reasons), digest, figures)


def _faults_of_sections(sections: "pd.DataFrame") -> list[str]:
    """What is wrong with the files of sections, rejected or not; not how a section compares with others."""
    rejected = sections["status"] == "rejected"
    told = sections["reason"].where(rejected, sections["remarks"].fillna(""))
    told = told.where(sections["status"] != "withdrawn", "")
    return [f"section {sample}: {text}" for sample, text in zip(sections["sample"], told, strict=True) if text]


def _transforms(settings: Settings, brain: "Brain", folder: Path) -> Verdict:
    from cytonet_pipeline.patches import cortex_points
    from cytonet_pipeline.patches.annotated_points import annotated_points
    from cytonet_pipeline.patches.outlines import cortex_outlines
    from cytonet_pipeline.registration import ReferenceSpace, measure_chain, resolve_chain
    from cytonet_pipeline.reporting.transform_figure import transform_figure

    store = Store(settings.store)
    _require(store.reference_space(), "reference space")
    _require(store.section_scans(brain.name), "section scans")
    sections = read_table(store.section_scans(brain.name) / "sections.parquet", "section_scans")
    reference = ReferenceSpace.load(settings.reference)
    chain = resolve_chain(brain)
    chain.write(folder)
    points_mm = cortex_points(brain, sections, chain, CORTEX_POINTS_FOR_QC)
    annotated = annotated_points(brain, sections, chain, CORTEX_POINTS_FOR_QC)
    quality = measure_chain(chain, reference, points_mm, annotated=annotated)
    problems = list(quality.problems)
    if not quality.passed:
        # Once more beside the other brains' chains: handing over another one's is a mistake that can be named.
        others = _chains_of_others(settings, brain.name)
        quality = measure_chain(chain, reference, points_mm, annotated=annotated, others=others)
        problems = [*_same_as(chain.to_reference, others, brain), *quality.problems]
    write_json(folder / "quality.json", quality.as_dict())
    outlines_mm = cortex_outlines(brain, sections, chain)
    transform_figure(chain, reference, points_mm, quality, beside(folder, "transform.png"), outlines_mm)
    reasons = (*problems, *quality.notes)
    return Verdict("ok" if quality.passed else "failed", reasons, chain.digest, _scalars(quality.as_dict()))


def _chains_of_others(settings: Settings, brain_name: str) -> "dict[str, PointTransform]":
    from cytonet_pipeline.dataset import Dataset
    from cytonet_pipeline.registration import load_transform

    dataset = Dataset(settings.data, settings.experiments.dataset)
    chains = {}
    for name in dataset.brains():
        path = dataset.brain(name).to_reference
        if name == brain_name or path is None:
            continue
        try:
            chains[name] = load_transform(path)
        except DataFault as fault:
            log.info("sub-%s: not compared with: %s", name, fault)
    return chains


def _same_as(transform: "PointTransform", others: "dict[str, PointTransform]", brain: "Brain") -> list[str]:
    """A transform that does not fit and is another brain's: say whose."""
    owners = [f"sub-{name}" for name, other in others.items() if other.digest == transform.digest]
    return [f"sub-{brain.name}: {brain.to_reference} is the transform of {' and '.join(owners)}."] if owners else []


def _index(settings: Settings, brain: "Brain", folder: Path, *, afresh: bool) -> Verdict:
    from cytonet_pipeline.patches import index_brain, read_parts
    from cytonet_pipeline.registration import BrainChain, ReferenceSpace
    from cytonet_pipeline.reporting.index_figure import index_figure

    store = Store(settings.store)
    _require(store.section_scans(brain.name), "section scans")
    _require(store.colin27_transforms(brain.name), "transforms")
    sections = read_table(store.section_scans(brain.name) / "sections.parquet", "section_scans")
    chain = BrainChain.read(store.colin27_transforms(brain.name))
    reference = ReferenceSpace.load(settings.reference)
    block = settings.experiments.dataset
    earlier = None if afresh else _of_this_program(store.patch_index(brain.name), "patch_index")
    digest = index_brain(folder, brain, sections, chain, reference, block, earlier=earlier)
    index = read_parts(folder, columns=_TOLD_OF_INDEX)
    index_figure(index, beside(folder, "patches.png"))
    if index.empty:
        return Verdict.failed(f"sub-{brain.name}: no patch in the cortex; look at its masks and at {folder.parent}.")
    annotated = index["annotated_area"] > 0
    figures = {
        "patches": len(index),
        "annotated patches": int(annotated.sum()),
        "areas annotated": int(index.loc[annotated, "annotated_area"].nunique()),
        "median cortex fraction": _median(index["cortex_fraction"]),
        "median obliquity deg": _median(index["obliquity_deg"]),
        **{f"patches {split}": int(n) for split, n in index["split"].value_counts().items()},
    }
    return Verdict("ok", (), digest, figures)


def _of_this_program(folder: Path, step: str) -> Path | None:
    """A result that was made by the present code of its step, whatever it was made from; None if there is none."""
    stamp = read_stamp(folder)
    return folder if stamp is not None and stamp.get("code") == currency.CODE_VERSIONS[step] else None


def _require(folder: Path, what: str) -> None:
    """Refuse to build on a result that nothing may use; blocking checks do not reach across runs."""
    verdict = Verdict.read(folder)
    if not verdict.ok:
        raise DataFault(
            f"not computed: the {what} cannot be used.",
            looked_for=str(beside(folder, "status.json")),
            to_fix="; ".join(reason.splitlines()[0] for reason in verdict.reasons),
        )


def _scalars(values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if isinstance(value, (bool, int, float))}


def _median(values: "pd.Series") -> float | None:
    median = values.median()
    return None if math.isnan(median) else round(float(median), 4)
