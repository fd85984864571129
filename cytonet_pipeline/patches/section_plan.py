"""The plan of a brain's usable sections before anything is drawn: mask, position, and the length that each represents.

Digitised sections are unevenly spaced: a dense run must not get more patches per mm³ of cortex than a sparse one.
The index's metadata holds the plan too, so that a training set can be composed without the scans.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Brain, Section
from cytonet_pipeline.histology import open_annotation, open_mask
from cytonet_pipeline.patches.masks import CortexMask, derive_mask
from cytonet_pipeline.registration import BrainChain, ReferenceSpace
from cytonet_pipeline.registration.chain.placement import series_axis

USABLE = ("ok", "flagged")


@dataclass(frozen=True, eq=False)
class PlannedSection:
    """A usable section with a position in the brain.

    Attributes
    ----------
    source : Section
        As the data set describes it.
    number : int
        Section number.
    pixel_um, width_mm, height_mm : float
        Pixel size and field of view of the scan.
    has_mask, has_annotation : bool
        Whether the survey found them usable.
    mask_digest, annotation_digest : str or None
        Of the files, as the survey found them.
    warped : bool
        Whether its scale differs within the section.
    position_mm : float
        Along the axis of the series, at the middle of the scan.
    reach_mm : float
        How far its field of view, tilted against the series, reaches from that position along the axis.
    represents_mm : float
        Length of the brain that its patches represent.
    """

    source: Section
    number: int
    pixel_um: float
    width_mm: float
    height_mm: float
    has_mask: bool
    has_annotation: bool
    mask_digest: str | None
    annotation_digest: str | None
    warped: bool
    position_mm: float
    reach_mm: float
    represents_mm: float

    @property
    def sample(self) -> str:
        """Its name."""
        return self.source.sample

    def mask(self, chain: BrainChain, reference: ReferenceSpace) -> CortexMask:
        """Return its own cortex mask, or one derived from the reference.

        Raises
        ------
        ScanError
            The mask's file can no longer be read.
        """
        own = self.own_mask()
        return own or derive_mask(chain, self.sample, reference, self.width_mm, self.height_mm)

    def own_mask(self) -> CortexMask | None:
        """Return its own cortex mask; None if it came without a usable one."""
        if not self.has_mask or self.source.mask is None:
            return None
        return CortexMask.from_labels(open_mask(self.source, self.width_mm, self.height_mm))

    def annotation_at(self, xy_mm: np.ndarray) -> np.ndarray:
        """Look up the annotated area at (N, 2) points of the scan plane; 0 where there is none."""
        if not self.has_annotation or self.source.annotation is None:
            return np.zeros(len(xy_mm), dtype=np.int32)
        annotation = open_annotation(self.source, self.width_mm, self.height_mm, self.pixel_um)
        return annotation.at_mm(xy_mm[:, 0], xy_mm[:, 1])


def plan_sections(brain: Brain, sections: pd.DataFrame, chain: BrainChain) -> list[PlannedSection]:
    """List the usable sections of a brain in the order of the series.

    Parameters
    ----------
    sections : DataFrame
        The brain's `section_scans`, whose `status` decides.

    Returns
    -------
    list of PlannedSection
        Without sections whose scan or placement is missing.
    """
    sources = {section.sample: section for section in brain.sections}
    usable = sections[sections["status"].isin(USABLE) & sections["pixel_um"].notna()]
    rows = [r for r in usable.to_dict("records") if r["sample"] in sources and r["sample"] in chain.sections]
    if not rows:
        return []
    centres_mm = np.concatenate([chain.scan_to_brain(row["sample"], _field_of_view_mm(row)[None] / 2) for row in rows])
    # The middle of the scan, not its corner: sections that are tilted against each other intersect outside the tissue.
    axis = series_axis([chain.sections[row["sample"]] for row in rows])
    positions_mm = centres_mm @ axis
    reach_mm = [_reach_mm(row, chain, axis, at_mm) for row, at_mm in zip(rows, positions_mm, strict=True)]
    order = sorted(range(len(rows)), key=lambda i: (positions_mm[i], rows[i]["sample"]))
    normals = np.stack([chain.section_normal(rows[i]["sample"]) for i in order])
    lengths_mm = represented_mm(plane_gaps_mm(centres_mm[order], normals))
    return [
        _plan_one(rows[i], sources[rows[i]["sample"]], chain, (float(positions_mm[i]), reach_mm[i], float(length_mm)))
        for i, length_mm in zip(order, lengths_mm, strict=True)
    ]


def _plan_one(
    row: Mapping[Hashable, Any], source: Section, chain: BrainChain, along: tuple[float, float, float]
) -> PlannedSection:
    position_mm, reach_mm, length_mm = along
    width_mm, height_mm = _field_of_view_mm(row)
    return PlannedSection(
        source=source,
        number=int(row["section"]),
        pixel_um=float(row["pixel_um"]),
        width_mm=float(width_mm),
        height_mm=float(height_mm),
        has_mask=bool(pd.notna(row["mask_path"])),
        has_annotation=bool(pd.notna(row["annotation_path"])),
        mask_digest=_text_or_none(row["mask_digest"]),
        annotation_digest=_text_or_none(row["annotation_digest"]),
        warped=chain.sections[source.sample].warp is not None,
        position_mm=position_mm,
        reach_mm=reach_mm,
        represents_mm=length_mm,
    )


def _reach_mm(row: Mapping[Hashable, Any], chain: BrainChain, axis: np.ndarray, position_mm: float) -> float:
    width_mm, height_mm = _field_of_view_mm(row)
    # The corners suffice for a flat section; a warp moves points within its plane.
    lattice_mm = np.stack(np.meshgrid(np.linspace(0, width_mm, 5), np.linspace(0, height_mm, 5)), axis=-1)
    away = chain.scan_to_brain(row["sample"], lattice_mm.reshape(-1, 2)) @ axis - position_mm
    return float(np.nan_to_num(np.abs(away)).max())


def _text_or_none(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)


def _field_of_view_mm(row: Mapping[Hashable, Any]) -> np.ndarray:
    return np.array([row["width_px"], row["height_px"]]) * float(row["pixel_um"]) / 1000


def represented_mm(gaps_mm: np.ndarray) -> np.ndarray:
    """Return the length of the series that each section represents: half the gaps to both neighbours.

    The half-gap of the first and the last section is mirrored outwards. A series without length represents 1 mm.

    Parameters
    ----------
    gaps_mm : (N - 1,) array
        Distances between neighbouring sections, in the order of the series.

    Returns
    -------
    (N,) array
        Lengths in mm.
    """
    if not np.any(gaps_mm > 0):
        return np.full(len(gaps_mm) + 1, 1.0 / (len(gaps_mm) + 1))
    return (np.append(gaps_mm[0], gaps_mm) + np.append(gaps_mm, gaps_mm[-1])) / 2


def plane_gaps_mm(centres_mm: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Return the distances between the planes of neighbouring sections.

    They are measured along the mean normal of the two, not of the whole series: a section that is placed anew then
    alters the gaps to its two neighbours and no others.

    Parameters
    ----------
    centres_mm : (N, 3) array
        A point of each section in brain space, in the order of the series.
    normals : (N, 3) array
        Unit normals of the sections, of either sign.

    Returns
    -------
    (N - 1,) array
    """
    along = np.sign(np.einsum("ij,ij->i", normals[:-1], normals[1:]))[:, None]
    between = normals[:-1] + np.where(along < 0, -1.0, 1.0) * normals[1:]
    between /= np.linalg.norm(between, axis=1, keepdims=True)
    return np.abs(np.einsum("ij,ij->i", np.diff(centres_mm, axis=0), between))
