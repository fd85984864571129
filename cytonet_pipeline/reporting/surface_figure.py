"""Vertex values on the inflated surfaces: four views as a figure, and an HTML page with a surface to rotate."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cytonet_pipeline.registration import ReferenceSpace
from cytonet_pipeline.reporting.style import SEQUENTIAL, bare, new_figure, panels, save
from cytonet_pipeline.store import atomic_file

# Hemisphere, name of the view, and whether it is seen from the left.
_VIEWS = (("L", "lateral", True), ("L", "medial", False), ("R", "medial", True), ("R", "lateral", False))
_SIDES: Mapping[str, str] = {"L": "left", "R": "right"}
_NO_VALUE = (0.62, 0.62, 0.62, 1.0)
_DARKEST = 0.55


def surface_picture(
    reference: ReferenceSpace, values: Mapping[str, np.ndarray], path: Path, title: str, unit: str
) -> Path:
    """Draw values of both hemispheres and save the figure; see `draw_surfaces`."""
    return save(draw_surfaces(reference, values, title, unit), path)


def draw_surfaces(reference: ReferenceSpace, values: Mapping[str, np.ndarray], title: str, unit: str) -> Figure:
    """Draw lateral and medial views of both inflated hemispheres.

    Parameters
    ----------
    values : mapping
        By hemisphere (`L`, `R`), one value per vertex of the white (and inflated) surface; NaN is drawn grey.
    unit : str
        Label of the colour bar.
    """
    low, high = value_range(values)
    shades = ScalarMappable(Normalize(low, high), SEQUENTIAL)
    figure = new_figure(title, 11, 2.7)
    axes = panels(figure, 1, len(_VIEWS))
    for place, (hemisphere, name, from_left) in zip(axes, _VIEWS, strict=True):
        vertices_mm, faces = reference.surface(hemisphere, "inflated")
        _draw_mesh(place, vertices_mm, faces, values[hemisphere], shades, from_left=from_left)
        place.set_title(f"{_SIDES[hemisphere]}, {name}", fontsize=9)
    figure.colorbar(shades, ax=axes, label=unit, shrink=0.8, aspect=12)
    return figure


def surface_page(
    reference: ReferenceSpace, values: Mapping[str, np.ndarray], hemisphere: str, path: Path, title: str
) -> Path:
    """Write an HTML page with one hemisphere that can be rotated; it needs no network."""
    from nilearn import plotting  # takes seconds

    low, high = value_range(values)
    page = plotting.view_surf(
        reference.surface(hemisphere, "inflated"),
        values[hemisphere],
        cmap=SEQUENTIAL,
        vmin=low,
        vmax=high,
        symmetric_cmap=False,
        title=html.escape(f"{title}, {_SIDES[hemisphere]} hemisphere"),
    )
    with atomic_file(path) as temporary:
        page.save_as_html(str(temporary))
    return path


def _draw_mesh(
    axes: Axes,
    vertices_mm: np.ndarray,
    faces: np.ndarray,
    values: np.ndarray,
    shades: ScalarMappable,
    *,
    from_left: bool,
) -> None:
    """Paint the triangles that face the viewer, far ones first.

    matplotlib's three-dimensional axes, which nilearn draws on, took 4 s for what takes 1 s here.
    """
    # Seen from the left, anterior is on the left.
    towards_viewer, right = (-1.0, -1.0) if from_left else (1.0, 1.0)
    corners = vertices_mm[faces]  # (F, 3, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = towards_viewer * normals[:, 0] / np.maximum(np.linalg.norm(normals, axis=1), 1e-12)
    if (normals * (corners.mean(axis=1) - vertices_mm.mean(axis=0))).sum() < 0:
        facing = -facing  # faces wound inward
    seen = np.flatnonzero(facing > 0)
    seen = seen[np.argsort(towards_viewer * corners[seen, :, 0].mean(axis=1))]
    of_faces = values[faces[seen]].mean(axis=1)
    colors = np.where(np.isnan(of_faces)[:, None], _NO_VALUE, shades.to_rgba(np.nan_to_num(of_faces)))
    colors[:, :3] *= (_DARKEST + (1 - _DARKEST) * facing[seen])[:, None]
    flat = np.stack([right * corners[seen, :, 1], corners[seen, :, 2]], axis=-1)
    # Edges in the faces' colours close the seams between antialiased triangles. An array is drawn without a loop over
    # triangles, although the signature does not list it.
    polygons: Any = flat
    triangles = PolyCollection(polygons, facecolors=colors, edgecolors=colors, linewidths=0.2, rasterized=True)
    axes.add_collection(triangles, autolim=False)  # which would visit each of them
    axes.update_datalim(flat.reshape(-1, 2))
    axes.autoscale_view()
    axes.set_aspect("equal")
    bare(axes)


def value_range(values: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Return the colour range of both hemispheres: 2nd to 98th percentile, so that a few vertices do not decide it."""
    known = np.concatenate([of_side[np.isfinite(of_side)] for of_side in values.values()])
    if len(known) == 0:
        return 0.0, 1.0
    low, high = np.percentile(known, [2, 98])
    return float(low), float(high) if high > low else float(low) + 1.0
