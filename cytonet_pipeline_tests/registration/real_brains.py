"""The three real brains: their chains, points of their cortex, and what was annotated there."""

from dataclasses import dataclass

import numpy as np
import tifffile

from cytonet_pipeline.dataset import Dataset, Section
from cytonet_pipeline.histology import LabelImage, open_scan
from cytonet_pipeline.registration import Affine, BrainChain, resolve_chain
from cytonet_pipeline.registration.quality.hemispheres import AnnotatedPoints
from cytonet_pipeline.settings import DatasetBlock

FLIP = Affine(np.diag([-1.0, -1.0, 1.0, 1.0]))
MIRROR = Affine(np.diag([-1.0, 1.0, 1.0, 1.0]))
NAMES = ("B01", "B02", "B20")


@dataclass(frozen=True)
class RealBrain:
    """A brain of the real data set, with points of its cortex."""

    chain: BrainChain
    points_mm: np.ndarray
    annotated: AnnotatedPoints


def with_transform(chain, transform, inverse=None):
    return BrainChain(chain.brain, chain.sections, transform, inverse or transform.inverse())


def load_brains(shared_data) -> dict[str, RealBrain]:
    dataset = Dataset(shared_data / "colin27-brains", DatasetBlock(density_per_mm3=1, held_out="B20"))
    brains = {}
    for name in NAMES:
        brain = dataset.brain(name)
        chain = resolve_chain(brain)
        sections = [s for s in brain.sections if s.sample in chain.sections]
        drawn = [_draw(s, 1_500 // len(sections)) for s in sections]
        points = np.concatenate([chain.scan_to_brain(s.sample, xy) for s, (xy, _) in zip(sections, drawn, strict=True)])
        areas = np.concatenate([areas for _, areas in drawn])
        some = areas > 0
        annotated = AnnotatedPoints(points[some], areas[some], np.full(some.sum(), "", dtype="<U1"))
        brains[name] = RealBrain(chain, points, annotated)
    return brains


def _draw(section: Section, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw places in the cortex mask of a section (scan mm), and look up the areas annotated there."""
    mask = tifffile.imread(section.mask)
    with open_scan(section.scan, section.pixel_um) as scan:
        size_mm = np.array([scan.width_px, scan.height_px]) * section.pixel_um / 1000
    random = np.random.default_rng(section.section)
    rows, columns = np.nonzero(mask)
    some = random.integers(len(rows), size=count)
    places = np.column_stack([columns[some], rows[some]]) + random.random((count, 2))
    xy_mm = places / mask.shape[::-1] * size_mm
    if section.annotation is None:
        return xy_mm, np.zeros(count, dtype=np.int32)
    return xy_mm, LabelImage.open(section.annotation, *size_mm).at_mm(xy_mm[:, 0], xy_mm[:, 1])
