"""The three steps that bring one brain in: scans, transforms, index. No Dagster here.

A data fault never leaves these functions: it becomes the brain's verdict, beside whatever is sound, so that one bad
brain does not take a whole backfill with it.
"""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cytonet_pipeline.defs import currency
from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import (
    Store,
    Verdict,
    atomic_folder,
    beside,
    digest_array,
    digest_of,
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


def take_inventory(settings: Settings, brain_name: str, *, recompute: bool = False) -> Verdict:
    """Survey all sections of a brain: `sections.parquet` and a contact sheet."""
    return _step(currency.section_scans(settings, brain_name), _inventory, settings, brain_name, recompute)


def resolve_transforms(settings: Settings, brain_name: str, *, recompute: bool = False) -> Verdict:
    """Resolve the chain of a brain to Colin-27 and measure it: `chain.json`, `quality.json` and a picture."""
    return _step(currency.colin27_transforms(settings, brain_name), _transforms, settings, brain_name, recompute)


def index_patches(settings: Settings, brain_name: str, *, recompute: bool = False) -> Verdict:
    """Sample the cortex of a brain into `part-*.parquet`."""
    return _step(currency.patch_index(settings, brain_name), _index, settings, brain_name, recompute)


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


def _inventory(settings: Settings, brain: "Brain", folder: Path) -> Verdict:
    from cytonet_pipeline.histology import survey
    from cytonet_pipeline.reporting.contact_sheet import contact_sheet

    sections = survey(brain, settings.experiments.dataset)
    write_table(folder / "sections.parquet", sections, "section_scans", {"brain": brain.name})
    contact_sheet(brain, sections, beside(folder, "contact_sheet.png"))
    counts = sections["status"].value_counts().to_dict()
    usable = sections["status"].isin(["ok", "flagged"])
    figures = {
        "sections": len(sections),
        **{f"sections {status}": int(counts.get(status, 0)) for status in ("ok", "flagged", "rejected", "withdrawn")},
        "annotated sections": int((usable & sections["annotation_path"].notna()).sum()),
        "scans GB": round(float(sections["bytes"].sum()) / 1e9, 3),
        "median tissue fraction": _median(sections.loc[usable, "tissue_fraction"]),
        "median focus": _median(sections.loc[usable, "focus"]),
    }
    faults = sections.loc[sections["status"] == "rejected"]
    reasons = [f"section {row.sample}: {row.reason}" for row in faults.itertuples()]
    digest = digest_of(sections.astype(object).where(sections.notna(), None).values.tolist())
    if not usable.any():
        return Verdict("failed", (f"sub-{brain.name}: no usable section.", *brain.problems, *reasons), "", figures)
    return Verdict("ok", tuple(reasons), digest, figures)


def _transforms(settings: Settings, brain: "Brain", folder: Path) -> Verdict:
    from cytonet_pipeline.patches import cortex_points
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
    quality = measure_chain(chain, reference, points_mm)
    problems = list(quality.problems)
    if not quality.passed:
        # Once more beside the other brains' chains: handing over another one's is a mistake that can be named.
        others = _chains_of_others(settings, brain.name)
        quality = measure_chain(chain, reference, points_mm, others=others)
        problems = [*_same_as(chain.to_reference, others, brain), *quality.problems]
    write_json(folder / "quality.json", quality.as_dict())
    transform_figure(chain, reference, points_mm, quality, beside(folder, "transform.png"))
    return Verdict("ok" if quality.passed else "failed", tuple(problems), chain.digest, _scalars(quality.as_dict()))


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


def _index(settings: Settings, brain: "Brain", folder: Path) -> Verdict:
    import pandas as pd

    from cytonet_pipeline.patches import build_index, write_index
    from cytonet_pipeline.registration import BrainChain, ReferenceSpace
    from cytonet_pipeline.reporting.index_figure import index_figure

    store = Store(settings.store)
    block = settings.experiments.dataset
    _require(store.section_scans(brain.name), "section scans")
    _require(store.colin27_transforms(brain.name), "transforms")
    sections = read_table(store.section_scans(brain.name) / "sections.parquet", "section_scans")
    chain = BrainChain.read(store.colin27_transforms(brain.name))
    reference = ReferenceSpace.load(settings.reference)
    index = build_index(brain, sections, chain, reference, block)
    write_index(folder, index, block.model_dump(mode="json"))
    digest = digest_array(pd.util.hash_pandas_object(index, index=False).to_numpy())
    index_figure(index, beside(folder, "patches.png"))
    if index.empty:
        return Verdict.failed(f"sub-{brain.name}: no patch in the cortex; look at its masks and at {folder.parent}.")
    figures = {
        "patches": len(index),
        "annotated patches": int((index["annotated_area"] > 0).sum()),
        "areas annotated": int(index.loc[index["annotated_area"] > 0, "annotated_area"].nunique()),
        "median cortex fraction": _median(index["cortex_fraction"]),
        "median obliquity deg": _median(index["obliquity_deg"]),
        **{f"patches {split}": int(n) for split, n in index["split"].value_counts().items()},
    }
    return Verdict("ok", (), digest, figures)


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
