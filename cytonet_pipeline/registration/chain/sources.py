"""The files that the transforms of a chain come from: their digests, and loading them again."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytonet_pipeline.dataset import Brain, Section
from cytonet_pipeline.dataset.matrices import table_path
from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration.transforms.files import load_transform, members
from cytonet_pipeline.registration.transforms.plane import Origin, load_plane_transform
from cytonet_pipeline.registration.transforms.point_transform import PointTransform
from cytonet_pipeline.store import digest_file


@dataclass(frozen=True)
class WarpSource:
    """The file of a section's in-plane warp, and the conventions that it follows."""

    path: Path
    origin: Origin
    pixel_um: float | None

    def load(self) -> PointTransform:
        """Load the warp, from corner origin to corner origin."""
        return load_plane_transform(self.path, self.origin, self.pixel_um)

    def to_json(self) -> dict[str, Any]:
        """Return path, origin and pixel size as `chain.json` holds them."""
        return {"path": str(self.path), "origin": self.origin, "pixel_um": self.pixel_um}


@dataclass(frozen=True)
class LoadedTransforms:
    """Both directions between a brain and the reference.

    Attributes
    ----------
    inverse_fault : str
        Why the given inverse could not be used; '' where it could, or where none was given.
    """

    to_reference: PointTransform
    from_reference: PointTransform
    inverse_fault: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of the files."""
        notes = (self.inverse_fault, *self.to_reference.notes, *self.from_reference.notes)
        return tuple(dict.fromkeys(note for note in notes if note))


@dataclass(frozen=True)
class ChainSources:
    """The files that a chain consists of, so that it can be loaded again.

    The table of `matrices` is only named in messages: `chain.json` itself holds its numbers.
    """

    to_reference: Path
    from_reference: Path | None = None
    warps: Mapping[str, WarpSource] = field(default_factory=dict)
    matrices: Path | None = None

    def files(self) -> list[Path]:
        """List every file that loading would read, members of JSON chains included, sorted."""
        named = [self.to_reference, *(warp.path for warp in self.warps.values())]
        if self.from_reference is not None:
            named.append(self.from_reference)
        return sorted({path for name in named for path in members(name)})

    def load(self) -> "LoadedTransforms":
        """Load the transform to the reference and its inverse: the given one, or a numerical one in its place."""
        to_reference = load_transform(self.to_reference)
        if self.from_reference is None:
            return LoadedTransforms(to_reference, to_reference.inverse())
        try:
            return LoadedTransforms(to_reference, load_transform(self.from_reference))
        except TransformError as error:
            fault = f"{error.what} The numerical inverse is used instead."
            return LoadedTransforms(to_reference, to_reference.inverse(), fault)

    def digests(self) -> dict[str, str]:
        """Return the digest of every file, by its path."""
        return {str(path): digest_file(path) for path in self.files()}


def sources_of_brain(brain: Brain) -> ChainSources:
    """Return the sources of a brain's chain, without those of its sections.

    Raises
    ------
    TransformError
        The brain has no transform to the reference.
    """
    if brain.to_reference is None:
        raise _missing(brain)
    given = None if brain.from_reference is None else _absolute(brain.from_reference)
    return ChainSources(_absolute(brain.to_reference), given, matrices=table_path(brain.root, brain.name))


def sources_of_record(record: Mapping[str, Any]) -> ChainSources:
    """Return the sources that a `chain.json` records."""
    given = record["from_reference"]["path"]
    warps = {
        sample: WarpSource(Path(entry["warp"]["path"]), entry["warp"]["origin"], entry["warp"]["pixel_um"])
        for sample, entry in record["sections"].items()
        if entry["warp"] is not None
    }
    return ChainSources(Path(record["to_reference"]["path"]), Path(given) if given else None, warps)


def warp_source(section: Section) -> WarpSource | None:
    """Return the source of a section's warp; None if it has none."""
    if section.warp is None:
        return None
    needs_pixel = section.warp_origin == "centre"
    return WarpSource(_absolute(section.warp), section.warp_origin, pixel_um_of(section) if needs_pixel else None)


def refuse_changed(brain: str, path: Path, digest: str) -> None:
    """Raise TransformError if a file has vanished or changed its digest."""
    if not path.is_file():
        what = "is not there any more"
    elif digest_file(path) != digest:
        what = "changed since the chain was resolved"
    else:
        return
    raise TransformError(
        f"sub-{brain}: {path} {what}.", to_fix=f"resolve the chain again with: cytonet run --brains {brain}"
    )


def _missing(brain: Brain) -> TransformError:
    name = f"sub-{brain.name}"
    return TransformError(
        f"{name}: no transform to MNIColin27.",
        looked_for=f"derivatives/registration/{name}/{name}_from-brain_to-MNIColin27_mode-points_xfm"
        ".{h5,mat,tfm,nii.gz,json}",
        to_fix="put the transform there, or name a chain of ANTs files in the .json (docs/own-brains.md#ants)",
        meanwhile=f"the other brains go on; {name} stays out of every training set",
    )


def pixel_um_of(section: Section) -> float | None:
    """Return the pixel size by the tables, otherwise by the scan itself; None without a scan."""
    if section.pixel_um is not None or section.scan is None:
        return section.pixel_um
    # Only warps that count from pixel centres in scans without a sidecar need the scan: most chains never open one.
    from cytonet_pipeline.histology import open_scan

    with open_scan(section.scan, pick=section.pick) as scan:
        return scan.pixel_um


def _absolute(path: Path) -> Path:
    # Not resolve(): a link keeps the name that the user gave it.
    return Path(os.path.abspath(path))
