"""The reference space that sections are painted from: surfaces give depth, the atlas gives areas.

Any folder in TemplateFlow names will do: the synthetic one that `write_reference` makes, or a real one. Read here with
nibabel alone, so that synthetic brains do not rest on the code that they are there to test.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from cytonet_pipeline.errors import ReferenceSpaceError
from cytonet_pipeline.phantom.anatomy import ATLAS_GRID, T1W_GRID, Anatomy, Volumes
from cytonet_pipeline.phantom.areas import area_table
from cytonet_pipeline.phantom.mesh import SurfaceSamples, sample_surface, vertex_normals
from cytonet_pipeline.store import write_json

SPACE = "tpl-MNIColin27"
_ATLAS = f"{SPACE}_atlas-Phantom_dseg"
_SAMPLES_MM = 1.3
# Deeper than this below the pial surface no cortex is looked for.
_DEEPEST_MM = 7.0
# Up to this far from the surface the plane through the nearest sample is a better measure than the distance to it.
_PLANE_MM = 1.5


@dataclass(frozen=True)
class Reference:
    """A reference space as the painter reads it: the vertices of both hemispheres one after the other."""

    pial: SurfaceSamples
    white: SurfaceSamples
    pial_tree: cKDTree
    white_tree: cKDTree
    inflated_mm: np.ndarray
    hemisphere: np.ndarray
    label: np.ndarray
    table: pd.DataFrame
    atlas: np.ndarray
    atlas_affine: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> "Reference":
        """Read surfaces and atlas of a folder in TemplateFlow names.

        Raises
        ------
        ReferenceSpaceError
            A surface or the atlas is missing.
        """
        pial, white, inflated = (_both_hemispheres(folder, kind) for kind in ("pial", "white", "inflated"))
        image: Any = nibabel.load(_one(folder, f"{SPACE}_atlas-*_dseg.nii.gz"))
        atlas = np.asarray(image.dataobj).astype(np.int32)
        table = pd.read_csv(_one(folder, f"{SPACE}_atlas-*_dseg.tsv"), sep="\t")
        pial_samples, white_samples = (sample_surface(s.points, s.faces, _SAMPLES_MM) for s in (pial, white))
        label = _vertex_labels(white, atlas, image.affine, table)
        return cls(
            pial_samples,
            white_samples,
            cKDTree(pial_samples.points_mm),
            cKDTree(white_samples.points_mm),
            inflated.points,
            white.hemisphere,
            label,
            table,
            atlas,
            image.affine,
        )

    def extent_mm(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and highest corner of the pial surfaces."""
        return self.pial.points_mm.min(axis=0), self.pial.points_mm.max(axis=0)

    def pial_distance_mm(self, points_mm: np.ndarray) -> np.ndarray:
        """Return the signed distance from the pial surface, positive outside."""
        return _signed_distance(self.pial, self.pial_tree, points_mm)[0]

    def distances_mm(self, points_mm: np.ndarray, rough_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return signed distances from the pial and the white surface, positive outside, and the nearest white vertex.

        Parameters
        ----------
        points_mm : (N, 3) array
        rough_mm : (N,) array
            About how far each point is from the pial surface. Where this is far, it is returned as it is, the white
            distance from the white surface has only a meaningful sign, and the vertex is 0.
        """
        pial, white = rough_mm.copy(), np.copysign(_DEEPEST_MM, rough_mm)
        vertex = np.zeros(len(points_mm), np.int64)
        near = np.flatnonzero(np.abs(rough_mm) < _DEEPEST_MM + 3)
        pial[near] = self.pial_distance_mm(points_mm[near])
        near = near[(pial[near] < 2.0) & (pial[near] > -_DEEPEST_MM)]
        white[near], vertex[near] = _signed_distance(self.white, self.white_tree, points_mm[near])
        return pial, white, vertex

    def atlas_at(self, points_mm: np.ndarray) -> np.ndarray:
        """Return the atlas index of the voxel that each point lies in; 0 outside the volume."""
        return _voxels_at(self.atlas, self.atlas_affine, points_mm)

    def indices(self, kind: str) -> np.ndarray:
        """Return the atlas indices of a kind: `area`, `gap` or `subcortical`."""
        return self.table.loc[self.table["kind"] == kind, "index"].to_numpy()

    def areas_of_labels(self) -> np.ndarray:
        """Return the annotation index of each atlas index; 0 for what is not an area."""
        area_of = np.zeros(int(self.table["index"].max()) + 1, np.int32)
        areas: pd.DataFrame = self.table[self.table["kind"] == "area"]
        area_of[areas["index"]] = areas["area"]
        return area_of


def write_reference(folder: Path, anatomy: Anatomy) -> None:
    """Write the synthetic reference space in TemplateFlow names."""
    folder.mkdir(parents=True)
    template, atlas = anatomy.volumes(T1W_GRID), anatomy.volumes(ATLAS_GRID)
    _write_volume(folder / f"{SPACE}_res-01_T1w.nii.gz", template.t1w, template)
    _write_volume(folder / f"{SPACE}_res-01_desc-brain_mask.nii.gz", template.brain_mask, template)
    _write_volume(folder / f"{_ATLAS}.nii.gz", atlas.label, atlas)
    area_table().to_csv(folder / f"{_ATLAS}.tsv", sep="\t", index=False)
    for side, hemisphere in (("L", anatomy.left), ("R", anatomy.right)):
        for kind in ("pial", "white", "inflated"):
            path = folder / f"{SPACE}_hemi-{side}_{kind}.surf.gii"
            _write_surface(path, getattr(hemisphere, f"{kind}_mm"), hemisphere.faces)
    write_json(
        folder / "template_description.json",
        {
            "Identifier": "MNIColin27",
            "Name": "Synthetic stand-in for Colin-27, drawn by a program: no brain was measured",
            "Synthetic": True,
            "License": "CC0",
            "res": {"01": {"shape": list(T1W_GRID[0]), "zooms": [1.0, 1.0, 1.0], "origin": T1W_GRID[1].tolist()}},
        },
    )


@dataclass(frozen=True)
class _Surfaces:
    points: np.ndarray
    faces: np.ndarray
    hemisphere: np.ndarray


def _both_hemispheres(folder: Path, kind: str) -> _Surfaces:
    points: list[np.ndarray] = []
    faces: list[np.ndarray] = []
    hemisphere: list[np.ndarray] = []
    for side in ("L", "R"):
        surface: Any = nibabel.load(_one(folder, f"{SPACE}_hemi-{side}_{kind}.surf.gii"))
        faces.append(surface.agg_data("triangle").astype(np.int64) + sum(len(p) for p in points))
        points.append(surface.agg_data("pointset").astype(float))
        hemisphere.append(np.full(len(points[-1]), side))
    return _Surfaces(np.concatenate(points), np.concatenate(faces), np.concatenate(hemisphere))


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise ReferenceSpaceError(
            f"{folder}: {len(found) or 'no'} files {pattern}, one is needed to paint sections from.",
            looked_for=str(folder / pattern),
            to_fix="name the folder of a whole reference space, or none: then a synthetic one is made",
        )
    return found[0]


def _vertex_labels(white: _Surfaces, atlas: np.ndarray, affine: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """Return the cortical atlas index of each white vertex, looked up at several depths; 0 where there is none."""
    cortical = table.loc[table["kind"] != "subcortical", "index"].to_numpy()
    normals = vertex_normals(white.points, white.faces)
    label = np.zeros(len(white.points), np.int32)
    for height_mm in (1.4, 0.7, 2.1, 0.0):
        here = _voxels_at(atlas, affine, white.points + height_mm * normals)
        label = np.where((label == 0) & np.isin(here, cortical), here, label)
    return label


def _voxels_at(volume: np.ndarray, affine: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    back = np.linalg.inv(affine)
    at = np.round(points_mm @ back[:3, :3].T + back[:3, 3]).astype(int)
    inside = ((at >= 0) & (at < volume.shape)).all(axis=1)
    values = np.zeros(len(points_mm), volume.dtype)
    values[inside] = volume[tuple(at[inside].T)]
    return values


def _signed_distance(samples: SurfaceSamples, tree: cKDTree, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    distance, nearest = tree.query(points_mm)
    height = np.einsum("ij,ij->i", points_mm - samples.points_mm[nearest], samples.normals[nearest])
    return np.where(distance < _PLANE_MM, height, np.copysign(distance, height)), samples.vertex[nearest]


def _write_volume(path: Path, data: np.ndarray, volumes: Volumes) -> None:
    image: Any = nibabel.Nifti1Image(data, volumes.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(volumes.affine, code="mni")
    image.set_qform(volumes.affine, code="mni")
    # nibabel's own .gz carries the time of writing.
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))


def _write_surface(path: Path, points_mm: np.ndarray, faces: np.ndarray) -> None:
    arrays = [
        nibabel.gifti.gifti.GiftiDataArray(points_mm.astype(np.float32), intent="NIFTI_INTENT_POINTSET"),
        nibabel.gifti.gifti.GiftiDataArray(faces.astype(np.int32), intent="NIFTI_INTENT_TRIANGLE"),
    ]
    path.write_bytes(nibabel.gifti.gifti.GiftiImage(darrays=arrays).to_bytes())
