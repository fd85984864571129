"""The reference space: template, atlas and surfaces of Colin-27 (or of a synthetic stand-in), looked up at points.

A folder with TemplateFlow names is checked once, when it is loaded; after that every query is about points in RAS mm.
Transforms into the space are elsewhere.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from cytonet_pipeline.registration.reference.borders import border_points_mm, distance_to_borders_mm
from cytonet_pipeline.registration.reference.cortex import HEMISPHERES, Cortex, CortexPlace
from cytonet_pipeline.registration.reference.files import (
    DESCRIPTION,
    SurfaceKind,
    check_labels,
    check_surfaces,
    find_files,
    read_atlas_table,
    read_description,
    read_surface,
)
from cytonet_pipeline.registration.reference.geodesics import geodesic_distances, medoid, surface_graph
from cytonet_pipeline.registration.reference.meshes import Mesh
from cytonet_pipeline.registration.reference.volumes import Volume, read_labels, read_volume
from cytonet_pipeline.store import digest_file, digest_of


class ReferenceSpace:
    """Template, atlas and surfaces, in RAS mm. Created by `ReferenceSpace.load`.

    Attributes
    ----------
    folder : Path
    digest : str
        Digest of every file that is read.
    description : dict
        Content of `template_description.json`, empty without one.
    synthetic : bool
        Whether the description calls this a synthetic brain.
    atlas_labels : DataFrame
        Columns index, name, hemisphere, area, color, kind; one row per label of the atlas volume.
    """

    # Several steps of a run load the same space: what was computed on it, such as search trees, serves them all.
    _latest: ClassVar[tuple[tuple[object, ...], "ReferenceSpace"] | None] = None

    def __init__(
        self,
        folder: Path,
        digest: str,
        description: dict[str, Any],
        atlas_labels: pd.DataFrame,
        volumes: dict[str, Volume],
        meshes: dict[str, Mesh],
    ) -> None:
        self.folder = folder
        self.digest = digest
        self.description = description
        self.synthetic = bool(description.get("Synthetic", description.get("synthetic", False)))
        self.atlas_labels = atlas_labels
        self._volumes = volumes
        self._meshes = meshes
        self._last: tuple[np.ndarray, CortexPlace] | None = None

    @classmethod
    def load(cls, folder: Path | str) -> "ReferenceSpace":
        """Read and check a reference folder; one that this process read last, and that is as it was, is not read again.

        Raises
        ------
        ReferenceSpaceError
            A file is missing or damaged, there is not exactly one atlas, or the parts contradict one another.
        """
        folder = Path(folder)
        paths = find_files(folder)
        state = (folder, *(_file_state(path) for path in (*paths.values(), folder / DESCRIPTION)))
        latest = cls._latest  # read once: another thread may replace it meanwhile
        if latest is not None and latest[0] == state:
            return latest[1]
        space = cls._read(folder, paths)
        cls._latest = (state, space)
        return space

    @classmethod
    def _read(cls, folder: Path, paths: dict[str, Path]) -> "ReferenceSpace":
        volumes = {
            "t1w": read_volume(paths["t1w"]),
            "mask": read_volume(paths["mask"]),
            "atlas": read_labels(paths["atlas"]),
        }
        labels = read_atlas_table(paths["table"])
        check_labels(paths, labels, volumes["atlas"])
        meshes = {key: read_surface(path) for key, path in paths.items() if key.startswith("hemi-")}
        check_surfaces(paths, meshes, volumes["mask"])
        digest = digest_of({key: digest_file(path) for key, path in paths.items()})
        return cls(folder, digest, read_description(folder), labels, volumes, meshes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of the files, such as headers that say two things."""
        return tuple(volume.note for volume in self._volumes.values() if volume.note)

    def t1w(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the T1-weighted template: data, and the affine from its indices to mm."""
        return self._volumes["t1w"].data, self._volumes["t1w"].affine

    def atlas(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the atlas: labels (int32), and the affine from its indices to mm."""
        return self._volumes["atlas"].data, self._volumes["atlas"].affine

    def inside_brain(self, points_mm: np.ndarray) -> np.ndarray:
        """Tell which points (N, 3) lie in the brain mask, (N,) bool."""
        return self._volumes["mask"].at(points_mm) > 0

    def inside_template(self, points_mm: np.ndarray) -> np.ndarray:
        """Tell which points (N, 3) lie in the volume of the template, (N,) bool."""
        low_mm, high_mm = self._volumes["t1w"].bounds_mm()
        return np.all((points_mm >= low_mm) & (points_mm <= high_mm), axis=1)

    def atlas_at(self, points_mm: np.ndarray) -> np.ndarray:
        """Look up the index of the atlas label at points, (N,) int32; 0 where there is none."""
        return self._volumes["atlas"].at(points_mm)

    def area_at(self, points_mm: np.ndarray) -> np.ndarray:
        """Look up the area of the atlas at points, alike in both hemispheres, (N,) int32; 0 outside cortical areas."""
        return self._area_of_label[self.atlas_at(points_mm)]

    def on_cortex_label(self, points_mm: np.ndarray) -> np.ndarray:
        """Tell which points (N, 3) carry a cortical label of the atlas, mapped areas and gaps alike, (N,) bool."""
        return self._is_cortex_label[self.atlas_at(points_mm)]

    def hemisphere_at(self, points_mm: np.ndarray, place: CortexPlace | None = None) -> np.ndarray:
        """Return 'L' or 'R' at points, (N,): by the atlas label, otherwise by the nearer pial surface; '' for NaN.

        `place`, the result of `locate` for the same points, saves a search.
        """
        points = np.asarray(points_mm, dtype=np.float64)
        hemisphere = self._hemisphere_of_label[self.atlas_at(points)]
        unlabelled = hemisphere == ""
        if unlabelled.any():
            is_left = self.cortex.locate(points[unlabelled]).is_left if place is None else place.is_left[unlabelled]
            known = np.isfinite(points[unlabelled]).all(axis=1)
            hemisphere[unlabelled] = np.where(known, np.where(is_left, "L", "R"), "")
        return hemisphere

    def border_distance_mm(self, points_mm: np.ndarray, hemispheres: np.ndarray) -> np.ndarray:
        """Return the distance from points (N, 3) to the nearest border of areas in their hemisphere, (N,); `borders`.

        Infinite where the hemisphere (`L` or `R`, (N,)) has no border.
        """
        return distance_to_borders_mm(points_mm, hemispheres, self._borders_mm)

    def depth_at(self, points_mm: np.ndarray) -> np.ndarray:
        """Return the depth at points, (N,) float32: 0 at the pial, 1 at the white surface (`Cortex.locate`)."""
        return self.locate(points_mm).depth

    def normal_at(self, points_mm: np.ndarray) -> np.ndarray:
        """Return unit normals of the cortex at points, pointing to the pial side, (N, 3)."""
        return self.locate(points_mm).normal

    def locate(self, points_mm: np.ndarray) -> CortexPlace:
        """Compute depth, normal and distance from the ribbon at points (N, 3) in one search."""
        points = np.asarray(points_mm, dtype=np.float64)
        # Depth, normal and distance are mostly requested one after the other at the same points.
        last = self._last  # read once: another thread may replace it meanwhile
        if last is None or not np.array_equal(last[0], points, equal_nan=True):
            last = self._last = (points.copy(), self.cortex.locate(points))
        return last[1]

    def surface(self, hemisphere: str, kind: SurfaceKind) -> tuple[np.ndarray, np.ndarray]:
        """Return vertices (V, 3) in mm and faces (F, 3) of a surface. White and inflated share their vertices."""
        mesh = self._meshes[f"hemi-{hemisphere}_{kind}"]
        return mesh.vertices_mm, mesh.faces

    def cortex_points(self, count: int, seed: int = 0) -> np.ndarray:
        """Sample points on the mid-cortical surface, uniform per mm², (count, 3)."""
        return self.cortex.sample_middle(count, seed)

    @cached_property
    def cortex(self) -> Cortex:
        """The ribbon between pial and white surfaces."""
        surfaces: dict[str, dict[str, Mesh]] = {
            kind: {hemi: self._meshes[f"hemi-{hemi}_{kind}"] for hemi in HEMISPHERES} for kind in ("pial", "white")
        }
        return Cortex(surfaces["pial"], surfaces["white"])

    def vertex_areas(self, hemisphere: str) -> np.ndarray:
        """Look up the area of the atlas at each vertex of the white surface, at mid-cortical depth, (V,) int32."""
        return self.area_at(self.cortex.middle[hemisphere][0].vertices_mm)

    def geodesic_mm(self, hemisphere: str, source_vertices: np.ndarray) -> np.ndarray:
        """Compute distances along the white surface from source vertices to all (mm), (S, V); inf if unreachable."""
        return geodesic_distances(self._graphs[hemisphere], source_vertices)

    def area_medoid_distances(self, areas: np.ndarray | list[int] | None = None) -> pd.DataFrame:
        """Compute the geodesic distances between the medoids of areas (mm).

        Parameters
        ----------
        areas : sequence of int, optional
            Areas, as in the atlas table's column `area`; default: all of the kind `area`.

        Returns
        -------
        DataFrame
            Areas × areas, the mean over the hemispheres in which both have vertices; NaN where none has.
        """
        known = self.atlas_labels.query("kind == 'area'")["area"]
        requested = np.unique(known) if areas is None else np.asarray(areas, dtype=np.int64)
        stacked = np.stack([self._medoid_distances[h].reindex(index=requested, columns=requested) for h in HEMISPHERES])
        measured = np.isfinite(stacked)
        total = np.where(measured, stacked, 0).sum(axis=0)
        mean = np.divide(total, measured.sum(axis=0), out=np.full(total.shape, np.nan), where=measured.any(axis=0))
        return pd.DataFrame(mean, index=requested, columns=requested)

    @cached_property
    def _borders_mm(self) -> dict[str, np.ndarray]:
        return border_points_mm(*self.atlas(), self.atlas_labels)

    @cached_property
    def _graphs(self) -> dict[str, Any]:
        return {hemi: surface_graph(self.cortex.white[hemi]) for hemi in HEMISPHERES}

    @cached_property
    def _medoid_distances(self) -> dict[str, pd.DataFrame]:
        """Distances between medoids (mm) of all areas that have a vertex, areas × areas, by hemisphere."""
        return {hemi: self._between_medoids(hemi) for hemi in HEMISPHERES}

    def _between_medoids(self, hemisphere: str) -> pd.DataFrame:
        vertex_areas = self.vertex_areas(hemisphere)
        areas = np.unique(vertex_areas[vertex_areas > 0])
        graph = self._graphs[hemisphere]
        medoids = np.array([medoid(graph, np.flatnonzero(vertex_areas == area)) for area in areas], dtype=np.int64)
        distances = np.full((len(areas), len(areas)), np.nan)
        for row, source in enumerate(medoids):
            distances[row] = self.geodesic_mm(hemisphere, source[None])[0, medoids]
        return pd.DataFrame(distances, index=areas, columns=areas)

    @cached_property
    def _area_of_label(self) -> np.ndarray:
        table = np.zeros(self.atlas_labels["index"].max() + 1, dtype=np.int32)
        areas = self.atlas_labels[self.atlas_labels["kind"] == "area"]
        table[areas["index"]] = areas["area"]
        return table

    @cached_property
    def _is_cortex_label(self) -> np.ndarray:
        table = np.zeros(self.atlas_labels["index"].max() + 1, dtype=bool)
        table[self.atlas_labels.loc[self.atlas_labels["kind"] != "subcortical", "index"]] = True
        return table

    @cached_property
    def _hemisphere_of_label(self) -> np.ndarray:
        table = np.full(self.atlas_labels["index"].max() + 1, "", dtype="<U1")
        table[self.atlas_labels["index"]] = self.atlas_labels["hemisphere"]
        return table


def _file_state(path: Path) -> tuple[object, ...]:
    """Return what changes whenever a file is written or replaced; empty if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return (path.name, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
