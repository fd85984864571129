"""The patch index of a brain: one row per patch, with its position in the scan, the brain and the reference.

It is made in parts of a few dozen sections, so that memory does not grow with the number of patches. Each part is
independent of the others, so that two are made at once with the same bytes. `index_files` reads and writes them.
"""

import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Brain
from cytonet_pipeline.patches.ids import order_of
from cytonet_pipeline.patches.index_files import part_name, write_part
from cytonet_pipeline.patches.reference_columns import add_reference_columns
from cytonet_pipeline.patches.reuse import EarlierIndex
from cytonet_pipeline.patches.section_plan import PlannedSection, plan_sections
from cytonet_pipeline.patches.section_rows import Ground, record_of, section_rows
from cytonet_pipeline.patches.splits import assign_splits
from cytonet_pipeline.progress import track
from cytonet_pipeline.registration import BrainChain, ReferenceSpace
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline.store import atomic_file, digest_array, digest_of, table

log = logging.getLogger(__name__)

# At the poster's density some 80,000 rows: few enough to have two in memory, enough to be worth a file.
SECTIONS_IN_PART = 32
# NumPy, SciPy and Arrow release the GIL most of the time.
_WORKERS = 2


@dataclass(frozen=True, eq=False)
class _Part:
    """Sections that are indexed together, by number; `records` holds what is known of them beforehand."""

    sections: list[PlannedSection]
    records: dict[str, dict[str, Any]]


def index_brain(
    folder: Path,
    brain: Brain,
    sections: pd.DataFrame,
    chain: BrainChain,
    reference: ReferenceSpace,
    block: DatasetBlock,
    *,
    earlier: Path | None = None,
    workers: int = _WORKERS,
) -> str:
    """Sample the cortex of a brain and write its patch index.

    Parameters
    ----------
    folder : Path
        Folder for `part-*.parquet`; it holds none yet.
    sections : DataFrame
        The brain's `section_scans`; sections that are `ok` or `flagged` take part.
    chain : BrainChain
        From the sections to the reference.
    earlier : Path, optional
        Folder of an index of this brain from the same program: rows that would be the same are copied from it.
    workers : int
        Number of parts that are made at once. It does not affect the bytes.

    Returns
    -------
    str
        Digest of all rows.
    """
    ground = Ground(brain.name, chain, reference, block)
    before = EarlierIndex.read(earlier) if earlier else EarlierIndex({})
    parts = _parts(brain, sections, ground)
    dataset = block.model_dump(mode="json")

    def make(number: int) -> tuple[str, int]:
        part, target = parts[number], folder / part_name(number, len(parts))
        unchanged = before.whole_part(part.records, dataset)
        if unchanged is None:
            rows, records = _make_rows(part, ground, before)
            digest, left_out = _digest(rows), _left_out(records)
            parameters = {"dataset": dataset, "sections": records, "left_out": left_out, "digest": digest}
            write_part(target, rows, parameters)
            return digest, left_out
        with atomic_file(target) as temporary:
            shutil.copyfile(unchanged, temporary)
        copied = before.parameters[unchanged]
        return str(copied["digest"]), int(copied["left_out"])

    with ThreadPoolExecutor(workers) as threads:
        made = list(track(threads.map(make, range(len(parts))), f"patches of {brain.name}", total=len(parts)))
    _log_left_out(brain.name, sum(left_out for _, left_out in made))
    return digest_of([digest for digest, _ in made])


def build_index(
    brain: Brain, sections: pd.DataFrame, chain: BrainChain, reference: ReferenceSpace, block: DatasetBlock
) -> pd.DataFrame:
    """Build the index of a brain as one table in memory: for small brains, notebooks and tests.

    Returns
    -------
    DataFrame
        Table `patch_index`, sorted by section and along a Morton curve within it, the same as by `index_brain`. `attrs`
        holds what `write_index` puts into the file's metadata: `sections` (by sample: `position_mm`, `reach_mm`,
        `represents_mm`, `transform_digest`, `mask`, `split`, `inputs`, `drawn`, `left_out`, `problem`) and `left_out`,
        the number of patches that have no position in the reference.
    """
    ground = Ground(brain.name, chain, reference, block)
    made = [_make_rows(part, ground, EarlierIndex({})) for part in _parts(brain, sections, ground)]
    index = pd.concat([rows for rows, _ in made], ignore_index=True)
    records = {sample: record for _, part in made for sample, record in part.items()}
    left_out = _left_out(records)
    _log_left_out(brain.name, left_out)
    index.attrs = {"sections": records, "left_out": left_out}
    return index


def _parts(brain: Brain, sections: pd.DataFrame, ground: Ground) -> list[_Part]:
    """Divide all sections into parts, by section number; one part without sections for a brain that has none."""
    plan = plan_sections(brain, sections, ground.chain)
    positions_mm = {section.sample: section.position_mm for section in plan}
    reach_mm = {section.sample: section.reach_mm for section in plan}
    block = ground.block
    splits = assign_splits(brain.name, positions_mm, block, block.held_out, reach_mm=reach_mm) if plan else {}
    plan.sort(key=lambda section: (section.number, section.sample))
    chunks = [plan[start : start + SECTIONS_IN_PART] for start in range(0, len(plan), SECTIONS_IN_PART)] or [[]]
    return [_Part(chunk, {s.sample: record_of(s, splits[s.sample], ground) for s in chunk}) for chunk in chunks]


def _make_rows(part: _Part, ground: Ground, before: EarlierIndex) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Return the rows of a part, and the complete records of its sections."""
    kept, results = before.rows(part.records)
    fresh, fresh_results = _draw([s for s in part.sections if s.sample not in results], ground)
    results |= fresh_results
    records = {s.sample: part.records[s.sample] | results[s.sample] for s in part.sections}
    frames = [frame for frame in (kept, fresh) if len(frame)]
    if not frames:
        return table("patch_index").empty(), records
    rows = pd.concat(frames, ignore_index=True)
    # Stable: the rows of a section stay in their order.
    rows = rows.sort_values(["section", "sample"], kind="stable", ignore_index=True) if len(results) > 1 else rows
    rows["split"] = rows["sample"].map({sample: record["split"] for sample, record in records.items()})
    return table("patch_index").validate(rows)[[c.name for c in table("patch_index").columns]], records


def _draw(sections: list[PlannedSection], ground: Ground) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Draw the rows of some sections, without their split, and return the results of drawing by sample."""
    drawn = {section.sample: section_rows(section, ground) for section in sections}
    frames = [frame for frame, _ in drawn.values() if len(frame)]
    rows = (
        add_reference_columns(pd.concat(frames, ignore_index=True), ground) if frames else pd.DataFrame({"sample": []})
    )
    remaining: Mapping[Any, int] = rows["sample"].value_counts().to_dict()
    results = {
        sample: {"drawn": len(frame), "left_out": len(frame) - remaining.get(sample, 0), "problem": problem}
        for sample, (frame, problem) in drawn.items()
    }
    if len(rows):
        rows["order"] = order_of(rows["patch_id"].to_numpy(), ground.block.seed)
    return rows, results


def _digest(rows: pd.DataFrame) -> str:
    return digest_array(pd.util.hash_pandas_object(rows, index=False).to_numpy(np.uint64))


def _left_out(records: Mapping[str, Mapping[str, Any]]) -> int:
    return sum(int(record["left_out"]) for record in records.values())


def _log_left_out(brain: str, left_out: int) -> None:
    if left_out:
        log.warning("%s: %d patches have no place in the reference and are left out", brain, left_out)
