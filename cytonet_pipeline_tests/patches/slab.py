"""A brain whose cortex is a flat slab: every length, area, depth and angle of it is known without computing.

The slab fills z = 0 … 4 mm; the pial surface is on top. Sections are coronal (planes of constant y), their scans show
x = -10 … 10 mm and z = 9 … -5 mm, so that the slab takes rows 5 to 9 mm.
"""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import tifffile

from cytonet_pipeline.dataset import Brain, Section
from cytonet_pipeline.registration import Affine, BrainChain, PointTransform, SectionPlacement
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline.store import table

WIDTH_MM, HEIGHT_MM = 20.0, 14.0
PIXEL_UM = 10.0
THICK_MM = 4.0
SLAB_MM2 = WIDTH_MM * THICK_MM
BLOCK = DatasetBlock(patch_um=2000, density_per_mm3=5, held_out="B99")


class SlabReference:
    """The reference space of the slab: depth, area and normals from z alone; areas are the hemispheres."""

    digest = "slab"
    atlas_labels = pd.DataFrame({"index": [7, 1007, 9], "kind": ["area", "area", "subcortical"]})

    def inside_brain(self, points_mm: np.ndarray) -> np.ndarray:
        return (points_mm[:, 2] > -5) & (points_mm[:, 2] < THICK_MM)

    def depth_at(self, points_mm: np.ndarray) -> np.ndarray:
        return np.clip((THICK_MM - points_mm[:, 2]) / THICK_MM, 0, 1).astype(np.float32)

    def normal_at(self, points_mm: np.ndarray) -> np.ndarray:
        return np.tile([0.0, 0.0, 1.0], (len(points_mm), 1))

    def locate(self, points_mm: np.ndarray) -> SimpleNamespace:
        return SimpleNamespace(depth=self.depth_at(points_mm), normal=self.normal_at(points_mm))

    def hemisphere_at(self, points_mm: np.ndarray, place: object = None) -> np.ndarray:
        return np.where(points_mm[:, 0] < 0, "L", "R")

    def atlas_at(self, points_mm: np.ndarray) -> np.ndarray:
        return np.where(points_mm[:, 0] < 0, 7, 1007).astype(np.int32)


@dataclass
class Slab:
    """A brain, its survey and its chain, as `build_index` takes them."""

    brain: Brain
    sections: pd.DataFrame
    chain: BrainChain
    reference: SlabReference

    def arguments(self, block: DatasetBlock = BLOCK) -> tuple:
        return self.brain, self.sections, self.chain, self.reference, block


def coronal(y_mm: float, scale: float = 1.0, tilt_deg: float = 0.0) -> np.ndarray:
    """Return the matrix of a section at y, its scan shrunk by `scale`, tilted about the slab's x axis."""
    tilt = np.deg2rad(tilt_deg)
    down = np.array([0, np.sin(tilt), -np.cos(tilt)]) * scale
    corner = np.array([-WIDTH_MM / 2, y_mm, 2.0]) - down * 7.0 / scale
    return np.column_stack([[scale, 0, 0], down, [0, 0, 0], corner])


def slab_brain(
    folder: Path,
    ys_mm: list[float],
    *,
    name: str = "B01",
    mask_px: list[int] | None = None,
    masked: bool = True,
    scale: float = 1.0,
    tilt_deg: float = 0.0,
    warp: PointTransform | None = None,
    to_reference: PointTransform | None = None,
) -> Slab:
    """Make a slab brain with a section at each of `ys_mm`; `mask_px`: pixels per mm of each mask."""
    rows, sections, placements = [], [], {}
    for k, y_mm in enumerate(ys_mm):
        sample = f"{1000 + k}"
        mask = folder / f"{name}-{sample}-mask.tif" if masked else None
        if mask:
            write_slab_mask(mask, (mask_px or [5] * len(ys_mm))[k])
        annotation = folder / f"{name}-{sample}-areas.tif"
        tifffile.imwrite(annotation, np.repeat([[3] * 10 + [300] * 10], 14, axis=0).astype(np.uint16))
        sections.append(Section(name, sample, 1000 + k, folder / f"{sample}.tif", mask, annotation))
        placements[sample] = SectionPlacement(sample, coronal(y_mm, scale, tilt_deg), warp)
        rows.append(survey_row(name, sample, 1000 + k, scale, masked))
    inside = to_reference or Affine(np.eye(4))
    chain = BrainChain(name, placements, inside, inside.inverse())
    survey = table("section_scans").validate(pd.DataFrame(rows))
    return Slab(Brain(name, folder, tuple(sections)), survey, chain, SlabReference())


def write_slab_mask(path: Path, px_per_mm: int) -> None:
    mask = np.zeros((14 * px_per_mm, 20 * px_per_mm), dtype=np.uint8)
    mask[5 * px_per_mm : 9 * px_per_mm] = 255
    tifffile.imwrite(path, mask)


def survey_row(brain: str, sample: str, section: int, scale: float = 1.0, masked: bool = True) -> dict:
    """Return a valid row of `section_scans`, whose scan has a field of view of 20 × 14 mm."""
    known = SimpleNamespace(digest=f"scan-{brain}-{sample}", mask=f"mask-{brain}-{sample}" if masked else None)
    # Sampling asks for few of the survey's columns: the others stay empty.
    return dict.fromkeys(column.name for column in table("section_scans").columns) | {
        "brain": brain,
        "sample": sample,
        "section": section,
        "path": f"{sample}.tif",
        "digest": known.digest,
        "bytes": 1,
        "width_px": round(WIDTH_MM * 1000 / PIXEL_UM),
        "height_px": round(HEIGHT_MM * 1000 / PIXEL_UM),
        "pixel_um": PIXEL_UM,
        "levels": 1,
        "bits": 8,
        "compression": "none",
        "tissue_fraction": 0.5,
        "focus": 1.0,
        "background": 255.0,
        "mask_path": known.mask,
        "mask_digest": known.mask,
        "annotation_path": "areas.tif",
        "annotation_digest": f"areas-{brain}-{sample}",
        "transform_digest": "t",
        "status": "ok",
        "reason": "",
    }
