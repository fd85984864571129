"""The reference space: the template with its atlas and its surfaces in three planes."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cytonet_pipeline.registration import ReferenceSpace
from cytonet_pipeline.reporting.slices import AXES, Frame, Plane, cut, name_ends, scale_bar, show
from cytonet_pipeline.reporting.style import area_colors, new_figure, paint, panels, save

_PLANES: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
# Roughly through the hand knob of the central sulcus, where any brain in this space has cortex.
_AT_MM = {"sagittal": -38.0, "coronal": -18.0, "axial": 24.0}
_SURFACES = (("pial", "#D55E00"), ("white", "#0072B2"))


def reference_figure(reference: ReferenceSpace, path: Path) -> Path:
    """Draw the reference space and save the figure."""
    return save(draw_reference(reference), path)


def draw_reference(reference: ReferenceSpace) -> Figure:
    """Draw two rows of three planes: the atlas over the template, and the surfaces over the template."""
    t1w, t1w_affine = reference.t1w()
    atlas, atlas_affine = reference.atlas()
    labels = reference.atlas_labels
    colors = area_colors(dict(zip(labels["index"], labels["color"], strict=True)))
    frame = Frame.around(atlas, atlas_affine, margin_mm=12.0)
    areas = labels.loc[labels["kind"] == "area", "area"].nunique()
    kind = "synthetic reference" if reference.synthetic else "reference"
    figure = new_figure(f"{reference.folder.name} ({kind}): {areas} areas", 10, 7.4)
    for index, axes in enumerate(panels(figure, 2, 3)):
        row, plane = divmod(index, 3)[0], _PLANES[index % 3]
        at_mm = _AT_MM[plane]
        show(axes, cut(t1w, t1w_affine, plane, at_mm, frame), plane, frame, cmap="gray")
        if row == 0:
            show(axes, paint(cut(atlas, atlas_affine, plane, at_mm, frame, labels=True), colors, 0.6), plane, frame)
            axes.set_title(f"{plane}, {'xyz'[AXES[plane][0]]} = {at_mm:g} mm")
        else:
            _draw_surfaces(axes, reference, plane, at_mm)
        name_ends(axes, plane)
        scale_bar(axes, frame, plane)
    figure.supxlabel("top: atlas over T1w; bottom: pial surface orange, white surface blue", fontsize=8)
    return figure


def _draw_surfaces(axes: object, reference: ReferenceSpace, plane: Plane, at_mm: float) -> None:
    held, right, up = AXES[plane]
    for kind, color in _SURFACES:
        for hemisphere in ("L", "R"):
            vertices_mm, faces = reference.surface(hemisphere, kind)  # type: ignore[arg-type]
            segments = crossing_segments(vertices_mm, faces, held, at_mm)
            lines = np.concatenate([segments, np.full((len(segments), 1, 3), np.nan)], axis=1).reshape(-1, 3)
            axes.plot(lines[:, right], lines[:, up], color=color, linewidth=0.8)  # type: ignore[attr-defined]


def crossing_segments(vertices_mm: np.ndarray, faces: np.ndarray, axis: int, at_mm: float) -> np.ndarray:
    """Return the segments along which a plane cuts the triangles of a surface.

    Parameters
    ----------
    vertices_mm : (V, 3) array
    faces : (F, 3) int array
    axis : int
        World axis that the plane is perpendicular to.

    Returns
    -------
    (S, 2, 3) array
        Ends of the segments in mm.
    """
    # A vertex exactly in the plane would give one point instead of a segment.
    height = vertices_mm[:, axis] - at_mm
    height = np.where(height == 0, 1e-9, height)[faces]
    cut_faces = np.flatnonzero((height.min(axis=1) < 0) & (height.max(axis=1) > 0))
    height, corners = height[cut_faces], vertices_mm[faces[cut_faces]]
    # Both cut edges start at the corner that is alone on its side.
    above = height > 0
    alone = np.where(above.sum(axis=1) == 1, above.argmax(axis=1), (~above).argmax(axis=1))
    rows = np.arange(len(cut_faces))
    ends = []
    for step in (1, 2):
        other = (alone + step) % 3
        share = height[rows, alone] / (height[rows, alone] - height[rows, other])
        ends.append(corners[rows, alone] + share[:, None] * (corners[rows, other] - corners[rows, alone]))
    return np.stack(ends, axis=1)
