"""The three stages that bring one brain in: scans, transforms to Colin-27, patch index.

A fault in a brain's data never leaves them: it becomes the brain's verdict, beside whatever is sound, so that one bad
brain does not take a whole backfill with it. Faults of the infrastructure (a full disk, a store of other settings) are
raised.
"""

import contextlib
import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.brain_stage import BrainStage, brain_of, require_usable_result
from cytonet_pipeline.stages.lineage_page import models_text
from cytonet_pipeline.stages.reference import REFERENCE_SPACE
from cytonet_pipeline.stages.stage import Summary, store_of, with_table_version
from cytonet_pipeline.stages.waiting import require_no_loss_found, settle
from cytonet_pipeline.store import (
    Verdict,
    beside,
    digest_left_in,
    digest_of,
    read_table,
    write_json,
    write_table,
)

if TYPE_CHECKING:
    import pandas as pd

    from cytonet_pipeline.dataset import Brain
    from cytonet_pipeline.registration import PointTransform

# Marks a result whose files are read and judged as they are now; another name when some are not any more.
_READ_AS_NOW = ".read_as_2"
CORTEX_POINTS_FOR_QC = 4000
_SUMMARISED_COLUMNS = [
    "brain", "ref_x_mm", "ref_y_mm", "ref_z_mm", "annotated_area", "cortex_fraction", "obliquity_deg", "split", "order",
]  # fmt: skip

_log = logging.getLogger(__name__)


class SectionScansStage(BrainStage):
    """Inventory and quality of the scans of a brain: `sections.parquet` and a contact sheet."""

    name = "section_scans"
    code_version = "2"
    tables: ClassVar = {"section_scans": "sections.parquet"}
    picture = "contact_sheet.png"
    picture_title = "contact sheet"
    figures = (
        "sections", "sections ok", "sections flagged", "sections rejected", "sections withdrawn", "annotated sections",
        "notes on files passed over", "gaps in the series",
    )  # fmt: skip

    def run(self, settings: Settings, partition: str, *, recompute: bool = False) -> None:
        """See `Stage.run`; what was accepted of the brain's losses is used up by it."""
        super().run(settings, partition, recompute=recompute)
        settle(settings, partition)

    def folder(self, settings: Settings, partition: str) -> Path:
        """See `Stage.folder`."""
        return store_of(settings).section_scans(partition)

    def inputs(self, settings: Settings, partition: str) -> dict[str, Any]:
        """See `Stage.inputs`."""
        block = settings.experiments.dataset
        bounds, default = block.plausible_pixel_um, type(block).model_fields["plausible_pixel_um"].default
        return {
            "brain": brain_of(settings, partition).fingerprint(),
            "stain": block.stain,
            "window": block.window_of(partition),
            **({} if block.invert_of(partition) is None else {"invert": block.invert_of(partition)}),
            **({"plausible_pixel_um": list(bounds)} if bounds != default else {}),
            "allowed_roots": [str(root) for root in block.allowed_roots],
            "code": self.code_version,
        }

    def is_made_from(self, inputs: Mapping[str, Any], settings: Settings, partition: str) -> bool:
        """Whether the stored result was made from these inputs, each file read as it is read now."""
        return super().is_made_from(inputs, settings, partition) and self._reads_alike(settings, partition)

    def _reads_alike(self, settings: Settings, partition: str) -> bool:
        """Whether a result was made by a release that reads and judges this brain's files as this one does.

        Headers are read, and thumbnails looked at, once for a result of an earlier release; after that a mark in its
        folder remembers the answer.
        """
        from cytonet_pipeline import histology

        folder = self.folder(settings, partition)
        mark = folder / _READ_AS_NOW
        if mark.exists():
            return True
        brain, block = brain_of(settings, partition), settings.experiments.dataset
        if histology.sections_read_otherwise(brain, block):
            return False
        earlier = histology.read_inventory(folder)
        if earlier is not None and histology.sections_to_examine_again(earlier, brain, block):
            return False
        # Of a store that must not be written to the headers are read again.
        with contextlib.suppress(OSError):
            mark.touch()
        return True

    def summary(self, settings: Settings, partition: str) -> Summary:
        """See `Stage.summary`; with the models that saw the brain."""
        shown = super().summary(settings, partition)
        return replace(shown, texts={**shown.texts, "models": models_text(settings, partition)})

    def ingest(self, settings: Settings, brain: "Brain", folder: Path, *, recompute: bool) -> Verdict:
        """Survey the sections; of those that have not changed since the earlier inventory only doubtful ones again."""
        from cytonet_pipeline import histology
        from cytonet_pipeline.reporting.contact_sheet import contact_sheet

        stored = None if recompute else self.earlier(settings, brain.name)
        earlier = histology.read_inventory(stored) if stored is not None else None
        if stored is not None and earlier is not None and not (stored / _READ_AS_NOW).exists():
            again = histology.sections_to_examine_again(earlier, brain, settings.experiments.dataset)
            earlier = histology.without(earlier, again)
        inventory = histology.take_inventory(brain, settings.experiments.dataset, earlier)
        sections = inventory.rows
        require_no_loss_found(settings, brain, sections)
        write_table(folder / "sections.parquet", sections, "section_scans", {"brain": brain.name})
        histology.write_pictures(folder, inventory.pictures)
        (folder / _READ_AS_NOW).touch()
        contact_sheet(brain, sections, beside(folder, self.picture), inventory.pictures)
        counts = sections["status"].value_counts().to_dict()
        usable = sections["status"].isin(["ok", "flagged"])
        statuses = ("ok", "flagged", "rejected", "withdrawn")
        numbers = {
            "sections": len(sections),
            **{f"sections {status}": int(counts.get(status, 0)) for status in statuses},
            "annotated sections": int((usable & sections["annotation_path"].notna()).sum()),
            "masks derived from the reference": int((usable & sections["mask_path"].isna()).sum()),
            "scans GB": round(float(sections["bytes"].sum()) / 1e9, 3),
            "median tissue fraction": _median(sections.loc[usable, "tissue_fraction"]),
            "median focus": _median(sections.loc[usable, "focus"]),
            "median staining": _median(sections.loc[usable, "staining"]),
            "gaps in the series": len(histology.gaps(sections)),
            "notes on files passed over": len(brain.notes),
        }
        for note in brain.notes:
            _log.warning("sub-%s: %s", brain.name, note)
        reasons = [*brain.problems, *_faults_of_sections(sections)]
        # Times of change are among the inputs: a file that was only touched must not make everything after it stale.
        content = sections.drop(columns="inputs")
        digest = digest_of(content.astype(object).where(content.notna(), None).values.tolist())
        if not usable.any():
            return Verdict("failed", (f"sub-{brain.name}: no usable section.", *reasons), "", numbers)
        return Verdict("ok", tuple(reasons), digest, numbers)


class Colin27TransformsStage(BrainStage):
    """The chain of a brain to Colin-27 and how far to trust it: `chain.json`, `quality.json` and a picture."""

    name = "colin27_transforms"
    code_version = "1"
    picture = "transform.png"
    picture_title = "sections over Colin-27"
    figures = (
        "area_agreement", "mirrored_area_agreement", "on_cortex_share", "inside_brain_share", "inside_template_share",
        "folded_share", "jacobian_p01", "jacobian_p99", "median_gap_mm", "lost_points",
    )  # fmt: skip

    def folder(self, settings: Settings, partition: str) -> Path:
        """See `Stage.folder`."""
        return store_of(settings).colin27_transforms(partition)

    def inputs(self, settings: Settings, partition: str) -> dict[str, Any]:
        """See `Stage.inputs`; and the transform files that are read otherwise since 0.2.1, where there are any."""
        brain = brain_of(settings, partition)
        inputs = {
            "brain": brain.fingerprint(),
            "reference": digest_left_in(REFERENCE_SPACE.folder(settings)),
            "sections": SECTION_SCANS.digest(settings, partition),
            "code": self.code_version,
        }
        read_otherwise = _read_otherwise(brain)
        return {**inputs, "read otherwise since 0.2.1": read_otherwise} if read_otherwise else inputs

    def ingest(self, settings: Settings, brain: "Brain", folder: Path, *, recompute: bool) -> Verdict:
        """Resolve the chain and measure it on points of the cortex."""
        from cytonet_pipeline.patches import cortex_points
        from cytonet_pipeline.patches.outlines import cortex_outlines
        from cytonet_pipeline.patches.quality_points import annotated_points
        from cytonet_pipeline.registration import ReferenceSpace, measure_chain, resolve_chain
        from cytonet_pipeline.reporting.transform_figure import transform_figure

        require_usable_result(REFERENCE_SPACE.folder(settings), "reference space")
        sections = _read_sections(settings, brain)
        reference = ReferenceSpace.load(settings.reference)
        chain = resolve_chain(brain)
        chain.write(folder)
        points_mm = cortex_points(brain, sections, chain, CORTEX_POINTS_FOR_QC)
        annotated = annotated_points(brain, sections, chain, CORTEX_POINTS_FOR_QC)
        quality = measure_chain(chain, reference, points_mm, annotated=annotated)
        problems = list(quality.problems)
        if not quality.passed:
            # Measured again beside the other brains' chains: a chain that belongs to another brain can be named.
            others = _chains_of_others(settings, brain.name)
            quality = measure_chain(chain, reference, points_mm, annotated=annotated, others=others)
            problems = [*_owners_of(chain.to_reference, others, brain), *quality.problems]
        write_json(folder / "quality.json", quality.as_dict())
        outlines_mm = cortex_outlines(brain, sections, chain)
        transform_figure(chain, reference, points_mm, quality, beside(folder, self.picture), outlines_mm)
        numbers = {k: v for k, v in quality.as_dict().items() if isinstance(v, (bool, int, float))}
        return Verdict("ok" if quality.passed else "failed", (*problems, *quality.notes), chain.digest, numbers)


class PatchIndexStage(BrainStage):
    """Patches drawn uniformly from the cortex of a brain: `part-*.parquet` and a picture."""

    name = "patch_index"
    code_version = with_table_version("2", "patch_index")
    tables: ClassVar = {"patch_index": "part-*.parquet"}
    picture = "patches.png"
    picture_title = "where the patches lie"
    figures = ("patches", "annotated patches", "areas annotated", "patches train", "patches validation")

    def folder(self, settings: Settings, partition: str) -> Path:
        """See `Stage.folder`."""
        return store_of(settings).patch_index(partition)

    def inputs(self, settings: Settings, partition: str) -> dict[str, Any]:
        """See `Stage.inputs`."""
        return {
            "reference": digest_left_in(REFERENCE_SPACE.folder(settings)),
            "sections": SECTION_SCANS.digest(settings, partition),
            "transforms": COLIN27_TRANSFORMS.digest(settings, partition),
            "dataset": settings.experiments.dataset.model_dump(mode="json"),
            "code": self.code_version,
        }

    def ingest(self, settings: Settings, brain: "Brain", folder: Path, *, recompute: bool) -> Verdict:
        """Sample the cortex; sections whose rows would come out the same keep them."""
        from cytonet_pipeline.patches import index_brain, read_parts
        from cytonet_pipeline.registration import BrainChain, ReferenceSpace
        from cytonet_pipeline.reporting.index_figure import index_figure

        sections = _read_sections(settings, brain)
        chain = BrainChain.read(COLIN27_TRANSFORMS.require(settings, brain.name, "transforms"))
        reference = ReferenceSpace.load(settings.reference)
        earlier = None if recompute else self.earlier(settings, brain.name)
        block = settings.experiments.dataset
        digest = index_brain(folder, brain, sections, chain, reference, block, earlier=earlier)
        index = read_parts(folder, columns=_SUMMARISED_COLUMNS)
        index_figure(index, beside(folder, self.picture))
        if index.empty:
            reason = f"sub-{brain.name}: no patch in the cortex; look at its masks and at {folder.parent}."
            return Verdict.failed(reason)
        annotated = index["annotated_area"] > 0
        numbers = {
            "patches": len(index),
            "annotated patches": int(annotated.sum()),
            "areas annotated": int(index.loc[annotated, "annotated_area"].nunique()),
            "median cortex fraction": _median(index["cortex_fraction"]),
            "median obliquity deg": _median(index["obliquity_deg"]),
            **{f"patches {split}": int(n) for split, n in index["split"].value_counts().items()},
        }
        return Verdict("ok", (), digest, numbers)


SECTION_SCANS = SectionScansStage()
COLIN27_TRANSFORMS = Colin27TransformsStage()
PATCH_INDEX = PatchIndexStage()


def _read_otherwise(brain: "Brain") -> list[str]:
    warps = {section.warp for section in brain.sections}
    named = [path for path in (brain.to_reference, brain.from_reference, *warps) if path is not None]
    # Only these can be: the readers, which take a while to import, are not needed for the others.
    named = [path for path in named if path.name.endswith((".json", ".nii", ".nii.gz"))]
    if not named:
        return []
    from cytonet_pipeline.registration.transforms.changed_reading import read_otherwise

    return read_otherwise(named)


def _read_sections(settings: Settings, brain: "Brain") -> "pd.DataFrame":
    folder = SECTION_SCANS.require(settings, brain.name, "section scans")
    return read_table(folder / "sections.parquet", "section_scans")


def _faults_of_sections(sections: "pd.DataFrame") -> list[str]:
    """List what is wrong with the files of sections, rejected or not; not how a section compares with others."""
    rejected = sections["status"] == "rejected"
    faults = sections["reason"].where(rejected, sections["remarks"].fillna(""))
    faults = faults.where(sections["status"] != "withdrawn", "")
    return [f"section {sample}: {text}" for sample, text in zip(sections["sample"], faults, strict=True) if text]


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
            _log.info("sub-%s: not compared with: %s", name, fault)
    return chains


def _owners_of(transform: "PointTransform", others: "dict[str, PointTransform]", brain: "Brain") -> list[str]:
    """Name the brains whose transform this is, for a transform that does not fit."""
    owners = [f"sub-{name}" for name, other in others.items() if other.digest == transform.digest]
    return [f"sub-{brain.name}: {brain.to_reference} is the transform of {' and '.join(owners)}."] if owners else []


def _median(values: "pd.Series") -> float | None:
    median = values.median()
    return None if math.isnan(median) else round(float(median), 4)
