"""The chain of a brain: scan plane → brain mm → reference mm, resolved from files once and recorded in `chain.json`.

Chains are put together here; `quality` measures whether they are right.
"""

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cytonet_pipeline.dataset import Brain
from cytonet_pipeline.errors import DataFault, TransformError
from cytonet_pipeline.registration.chain.placement import SectionPlacement, series_axis
from cytonet_pipeline.registration.chain.sources import (
    ChainSources,
    WarpSource,
    refuse_changed,
    sources_of_brain,
    sources_of_record,
    warp_source,
)
from cytonet_pipeline.registration.transforms.plane import Origin
from cytonet_pipeline.registration.transforms.point_transform import PointTransform
from cytonet_pipeline.store import digest_of, read_record, write_record

CHAIN_FILE = "chain.json"


@dataclass(frozen=True, eq=False)
class BrainChain:
    """Everything that is needed to map points between a brain's scans, the brain and the reference.

    Attributes
    ----------
    sections : dict of SectionPlacement
        By sample, without rejected and withdrawn sections.
    to_reference, from_reference : PointTransform
        Brain mm to reference mm, and back (the given inverse, otherwise the numerical one).
    left_out : dict of str
        Sections whose placement cannot be used, with the reason.
    notes : tuple of str
        What a user should know of the files, such as a given inverse that could not be read.
    """

    brain: str
    sections: dict[str, SectionPlacement]
    to_reference: PointTransform
    from_reference: PointTransform
    sources: ChainSources | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def scan_to_brain(self, sample: str, xy_mm: np.ndarray) -> np.ndarray:
        """Map points of a scan (N, 2), mm from the corner, to brain mm (N, 3)."""
        return self._placement(sample).to_brain(xy_mm)

    def brain_to_scan(self, sample: str, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map points of the brain into a section's scan plane: (N, 2) mm, and the signed distance from it, (N,) mm."""
        return self._placement(sample).to_scan(points_mm)

    def brain_to_reference(self, points_mm: np.ndarray) -> np.ndarray:
        """Map points of the brain (N, 3) to reference mm (N, 3)."""
        return self.to_reference(points_mm)

    def reference_to_brain(self, points_mm: np.ndarray) -> np.ndarray:
        """Map points of the reference (N, 3) to brain mm (N, 3); NaN where the transform has no inverse."""
        return self.from_reference(points_mm)

    def map_points(self, points_mm: np.ndarray, to: Literal["MNIColin27", "brain"]) -> np.ndarray:
        """Map points (N, 3) mm of the brain to the reference, or of the reference to the brain."""
        return self.brain_to_reference(points_mm) if to == "MNIColin27" else self.reference_to_brain(points_mm)

    def scan_to_reference(self, sample: str, xy_mm: np.ndarray) -> np.ndarray:
        """Map points of a scan (N, 2), mm from the corner, to reference mm (N, 3)."""
        return self.to_reference(self.scan_to_brain(sample, xy_mm))

    def section_normal(self, sample: str) -> np.ndarray:
        """Return the unit normal of a section in brain space, (3,)."""
        return self._placement(sample).normal

    def section_digest(self, sample: str) -> str:
        """Return the digest of everything that places a section in the reference."""
        return digest_of([self._placement(sample).digest, self.to_reference.digest])

    @cached_property
    def digest(self) -> str:
        """Digest of all transforms of the brain."""
        return digest_of(
            {
                "brain": self.brain,
                "sections": {sample: placement.digest for sample, placement in self.sections.items()},
                "to_reference": self.to_reference.digest,
                "from_reference": self.from_reference.digest,
            }
        )

    def positions_mm(self, through_mm: np.ndarray | None = None) -> dict[str, float]:
        """Return the position of each section along the series, in brain mm on `placement.series_axis`.

        Parameters
        ----------
        through_mm : (3,) array, optional
            Sections that are tilted against each other are closer on one side than on the other: positions are those
            where their planes meet the line along the series through this point. Without it, those of their origins.
        """
        if not self.sections:
            return {}
        axis = series_axis(list(self.sections.values()))
        return {sample: placement.position_mm(axis, through_mm) for sample, placement in self.sections.items()}

    def write(self, folder: Path) -> None:
        """Write `chain.json`: the files with their digests, and the resolved matrices.

        Raises
        ------
        ValueError
            The chain was not made from files.
        """
        if self.sources is None:
            raise ValueError(f"the chain of {self.brain} was not made from files and cannot be written")
        write_record(folder / CHAIN_FILE, self._record(self.sources))

    @classmethod
    def read(cls, folder: Path) -> "BrainChain":
        """Load the chain that `write` recorded.

        Raises
        ------
        StoreError
            There is no `chain.json` that this version reads.
        TransformError
            A file has changed or vanished since.
        """
        record = read_record(folder / CHAIN_FILE)
        for name, digest in record["files"].items():
            refuse_changed(record["brain"], Path(name), digest)
        sources = sources_of_record(record)
        placements = {
            sample: _placement(sample, np.array(entry["matrix"]), sources.warps.get(sample))
            for sample, entry in record["sections"].items()
        }
        loaded = sources.load()
        return cls(
            record["brain"],
            placements,
            loaded.to_reference,
            loaded.from_reference,
            sources,
            record["left_out"],
            tuple(record["notes"]),
        )

    def _placement(self, sample: str) -> SectionPlacement:
        try:
            return self.sections[sample]
        except KeyError:
            reason = self.left_out.get(sample, "it is not among the sections that are in use")
            raise TransformError(f"sub-{self.brain} sample-{sample}: has no place in the brain, {reason}.") from None

    def _record(self, sources: ChainSources) -> dict[str, Any]:
        return {
            "brain": self.brain,
            "digest": self.digest,
            "files": sources.digests(),
            "to_reference": {"path": str(sources.to_reference), "transform": self.to_reference.to_json()},
            "from_reference": {
                "path": str(sources.from_reference) if sources.from_reference else None,
                "transform": self.from_reference.to_json(),
            },
            "sections": {
                sample: {
                    "matrix": np.where(np.isfinite(placement.matrix), placement.matrix, 0.0).tolist(),
                    "warp": sources.warps[sample].to_json() if sample in sources.warps else None,
                    "digest": self.section_digest(sample),
                }
                for sample, placement in self.sections.items()
            },
            "left_out": self.left_out,
            "notes": list(self.notes),
        }


def resolve_chain(brain: Brain) -> BrainChain:
    """Put together the transforms of a brain from its files.

    Sections that are rejected or withdrawn are skipped; one whose own warp or matrix cannot be used is left out with
    its reason. A given inverse that cannot be read is replaced by the numerical one, which is noted.

    Raises
    ------
    TransformError
        The brain has no transform to the reference, or it cannot be used.
    """
    sources = sources_of_brain(brain)
    loaded = sources.load()
    placements: dict[str, SectionPlacement] = {}
    warps: dict[str, WarpSource] = {}
    left_out: dict[str, str] = {}
    for section in brain.sections:
        if section.status != "ok" or section.matrix is None:
            continue
        try:
            warp = warp_source(section)
            placements[section.sample] = _placement(section.sample, section.matrix, warp)
        except DataFault as error:
            left_out[section.sample] = error.what
        else:
            if warp is not None:
                warps[section.sample] = warp
    given = None if loaded.inverse_fault else sources.from_reference
    sources = dataclasses.replace(sources, from_reference=given, warps=warps)
    notes = (*loaded.notes, *_notes_on_warps(placements))
    return BrainChain(brain.name, placements, loaded.to_reference, loaded.from_reference, sources, left_out, notes)


def _notes_on_warps(placements: dict[str, SectionPlacement]) -> list[str]:
    warps = {sample: placement.warp for sample, placement in placements.items() if placement.warp is not None}
    return [f"sample-{sample}: {note}" for sample, warp in warps.items() for note in warp.notes]


def _placement(sample: str, matrix: np.ndarray, source: WarpSource | None) -> SectionPlacement:
    warp = source.load() if source else None
    origin: Origin = source.origin if source else "corner"
    return SectionPlacement(sample, np.array(matrix, dtype=np.float64), warp, origin)
