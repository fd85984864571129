"""Reading one brain from its files: sections, placements and pixel sizes put together.

Everything that can be decided without opening a scan is decided here, the rest by the survey of `histology`.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cytonet_pipeline.dataset import matrices, section_table
from cytonet_pipeline.dataset.areas import Areas, area_table_path, read_areas
from cytonet_pipeline.dataset.brain import Brain, Section
from cytonet_pipeline.dataset.brain_files import find_brain_files, follow_warp
from cytonet_pipeline.dataset.discovery import Sections, discover_sections, doubt, reject
from cytonet_pipeline.dataset.matrices import Placement, read_placements
from cytonet_pipeline.dataset.section_table import read_sections
from cytonet_pipeline.dataset.series import reflected
from cytonet_pipeline.dataset.sidecars import sidecar_pixel_um, sidecars_of
from cytonet_pipeline.dataset.unused_files import files_passed_over
from cytonet_pipeline.dataset.withdrawals import withdraw_listed, withdrawals_path
from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.settings import DatasetBlock

# Two pixel sizes that differ by a larger share disagree.
SIZE_TOLERANCE = 0.01
_MOST_NAMED = 3


def read_brain(root: Path, brain: str, block: DatasetBlock) -> Brain:
    """Read a brain; anything wrong with it or its sections becomes a problem or a reason, not an exception."""
    roots = (root, *block.allowed_roots)
    result = _sections(root, brain, block.stain, roots)
    files = find_brain_files(root, brain, roots)
    placements, fault = _placements(matrices.table_path(root, brain), roots)
    if fault:
        result.problems.append(fault)
    sections = [_with_placement(_with_pixel_size(section), placements, fault, roots) for section in result.sections]
    sections = _reject_reflected(sections, matrices.table_path(root, brain))
    sections = _doubt_numbers(sections)
    areas, fault = _areas(root)
    sections = [_with_settings(section, areas, block) for section in sections]
    if fault:
        result.problems.append(fault)
    if not sections:
        result.problems.append(
            f"no section of sub-{brain}; put scans into sub-{brain}/micr, or a table to "
            f"{section_table.table_path(root, brain).relative_to(root)}."
        )
    elif not any(section.status == "ok" for section in sections):
        result.problems.append(f"none of the {len(sections)} sections can be used; the first: {sections[0].reason}")
    sources = (*_sources(root, brain, sections, roots), *files.sources)
    return Brain(
        name=brain,
        root=root,
        sections=tuple(sorted(sections, key=lambda s: (s.section, s.sample))),
        to_reference=files.to_reference,
        from_reference=files.from_reference,
        surfaces=files.surfaces,
        problems=(*result.problems, *files.problems),
        notes=(*_unused(placements, sections), *_passed_over(root, brain, sections, sources, result)),
        sources=sources,
    )


def _sections(root: Path, brain: str, stain: str, roots: Sequence[Path]) -> Sections:
    found = _listed_sections(root, brain, stain, roots)
    found.sections, problems = withdraw_listed(found.sections, withdrawals_path(root, brain))
    found.problems += problems
    return found


def _listed_sections(root: Path, brain: str, stain: str, roots: Sequence[Path]) -> Sections:
    table = section_table.table_path(root, brain)
    if not table.is_file():
        return discover_sections(root, brain, stain)
    try:
        return read_sections(table, root, brain, stain, roots)
    except DataFault as fault:
        return Sections(problems=[fault.what])


def _placements(path: Path, roots: Sequence[Path]) -> tuple[dict[str, Placement], str]:
    try:
        return read_placements(path, roots), ""
    except DataFault as fault:
        return {}, fault.what


def _with_pixel_size(section: Section) -> Section:
    """Add the pixel size of the sidecar; it takes precedence over the section table."""
    if section.scan is None or section.status == "withdrawn":
        return section
    try:
        pixel_um = sidecar_pixel_um(section.scan)
    except DataFault as fault:
        return reject(section, fault.what)
    if pixel_um is None:
        return section
    listed = section.pixel_um
    if listed is not None and abs(listed - pixel_um) > SIZE_TOLERANCE * pixel_um and section.status == "ok":
        section = doubt(
            section,
            f"{sidecars_of(section.scan)[0].name} gives {pixel_um:g} µm a pixel, the section table {listed:g}; the "
            "first is used, correct one.",
        )
    return replace(section, pixel_um=pixel_um)


def _with_placement(section: Section, placements: dict[str, Placement], fault: str, roots: Sequence[Path]) -> Section:
    placement = placements.get(section.sample)
    if placement is None:
        missing = fault or (
            f"no matrix for sample {section.sample}; add its row to "
            f"sub-{section.brain}_from-scan_to-brain_mode-points_xfm.tsv."
        )
        return reject(section, missing)
    if placement.fault:
        return reject(section, placement.fault)
    section = replace(section, matrix=placement.matrix, warp=placement.warp, warp_origin=placement.warp_origin)
    problems = follow_warp(placement.warp, roots).problems if placement.warp else []
    return reject(section, problems[0]) if problems else section


def _reject_reflected(sections: list[Section], table: Path) -> list[Section]:
    """Reject sections whose matrix mirrors them against the others: their patches would be in the wrong place."""
    usable = {s.sample: s.matrix for s in sections if s.status == "ok" and s.matrix is not None}
    mirrored = set(reflected(usable))
    reason = (
        "{table}, sample {sample}: the matrix is reflected, it shows the section from the other side than those of the "
        "other sections; correct the row, or mirror the scan's plane by its warp if the section was mounted that way."
    )
    return [
        reject(s, reason.format(table=table.name, sample=s.sample)) if s.sample in mirrored else s for s in sections
    ]


def _doubt_numbers(sections: list[Section]) -> list[Section]:
    """Flag sections that share a section number: it is what tells them apart for people."""
    samples: dict[int, list[str]] = defaultdict(list)
    for section in sections:
        if section.status == "ok":
            samples[section.section].append(section.sample)
    return [
        doubt(
            section,
            f"the number {section.section} is also that of {', '.join(_others(samples[section.section], section))}; "
            "give each section its own number in a section table.",
        )
        if len(samples[section.section]) > 1
        else section
        for section in sections
    ]


def _others(samples: Sequence[str], section: Section) -> list[str]:
    others = [f"sample {sample}" for sample in samples if sample != section.sample]
    return others if len(others) <= _MOST_NAMED else [*others[:_MOST_NAMED], f"{len(others) - _MOST_NAMED} more"]


def _with_settings(section: Section, areas: Areas | None, block: DatasetBlock) -> Section:
    """Add the areas of the data set and, where the section table gives none, the number of the cortex in masks."""
    value = block.mask_value_of(section.brain) if section.mask_value is None else section.mask_value
    value = None if section.mask is None else value
    if section.areas is areas and section.mask_value == value:
        return section
    return replace(section, areas=areas, mask_value=value)


def _areas(root: Path) -> tuple[Areas | None, str]:
    """Read the areas of the data set, and what is wrong with their table."""
    try:
        return read_areas(root), ""
    except DataFault as fault:
        return None, f"{fault.what} {fault.to_fix}".strip()


def _unused(placements: dict[str, Placement], sections: Sequence[Section]) -> list[str]:
    extra = sorted(set(placements) - {section.sample for section in sections})
    return [f"the matrices of {len(extra)} samples belong to no section: {', '.join(extra[:5])}."] if extra else []


def _passed_over(
    root: Path, brain: str, sections: Sequence[Section], sources: Sequence[Path], found: Sections
) -> list[str]:
    """Describe the files of a brain that are neither used nor mentioned in the reason of a section."""
    images = [path for s in sections for path in (s.scan, s.mask, s.annotation) if path is not None]
    return files_passed_over(root, brain, [*images, *sources, *found.mentioned], found.passed_over)


def _sources(root: Path, brain: str, sections: Sequence[Section], roots: Sequence[Path]) -> list[Path]:
    tables = [
        matrices.table_path(root, brain),
        section_table.table_path(root, brain),
        withdrawals_path(root, brain),
        area_table_path(root),
    ]
    sidecars = [path for section in sections if section.scan is not None for path in sidecars_of(section.scan)]
    warps = [path for s in sections if s.warp is not None for path in follow_warp(s.warp, roots).sources]
    return [path for path in (*tables, *sidecars) if path.is_file()] + warps
