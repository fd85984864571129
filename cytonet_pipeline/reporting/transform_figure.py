"""The transforms of a brain: where its sections lie in the reference, and the quality figures of the chain."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import map_coordinates

from cytonet_pipeline.registration import BrainChain, ChainQuality, ReferenceSpace
from cytonet_pipeline.reporting.slices import AXES, Frame, Plane, cut, name_ends, scale_bar, show
from cytonet_pipeline.reporting.style import SEQUENTIAL, bare, new_figure, panels, save

_SHOWN_NUMBERS = {
    "jacobian_min": "minimum Jacobian",
    "jacobian_p01": "Jacobian, 1st percentile",
    "jacobian_p99": "Jacobian, 99th percentile",
    "folded_share": "folded share",
    "inside_brain_share": "cortex inside the brain",
    "on_cortex_share": "cortex points on cortex",
    "opposite_on_cortex_share": "… with the inverse chain",
    "round_trip_mm_p95": "round trip, p95 (mm)",
    "area_agreement": "areas agreeing with atlas",
    "mirrored_area_agreement": "… if mirrored",
}
_SLICES = 3
_OUTLINE = "#F0E442"
Outlines = Mapping[str, Sequence[np.ndarray]]


def transform_figure(
    chain: BrainChain,
    reference: ReferenceSpace,
    points_mm: np.ndarray,
    quality: ChainQuality,
    path: Path,
    outlines_mm: Outlines | None = None,
) -> Path:
    """Draw the transforms of a brain and save the figure.

    Parameters
    ----------
    points_mm : (N, 3) array
        Points of the brain's own cortex, brain mm.
    outlines_mm : mapping of lists of (N, 3) arrays, optional
        By sample, the lines around its cortex, brain mm: drawn over the reference instead of the points.
    """
    samples = nearest_sections(chain, points_mm)
    mapped_mm = chain.brain_to_reference(points_mm)
    found = np.isfinite(mapped_mm).all(axis=1)
    lines = {
        sample: [chain.brain_to_reference(line) for line in lines] for sample, lines in (outlines_mm or {}).items()
    }
    numbers = {name: value for name, value in quality.as_dict().items() if name in _SHOWN_NUMBERS}
    title = f"sub-{chain.brain} in {reference.folder.name}: " + (
        "passed" if quality.passed else "problems, see the text"
    )
    positions_mm = chain.positions_mm()
    figure = draw_transform(
        reference,
        mapped_mm[found],
        samples[found],
        sorted(positions_mm, key=lambda sample: positions_mm[sample]),
        numbers,
        quality.problems,
        title,
        lines,
    )
    return save(figure, path)


def nearest_sections(chain: BrainChain, points_mm: np.ndarray) -> np.ndarray:
    """Return the sample of the section nearest to each point: (N,) of str for (N, 3) points in brain mm."""
    samples = np.array(list(chain.sections), dtype=str)
    if len(samples) == 0 or len(points_mm) == 0:
        return np.full(len(points_mm), "", dtype=str)
    normals = np.stack([chain.section_normal(str(sample)) for sample in samples])
    origins_mm = np.stack([chain.sections[str(sample)].matrix[:, 3] for sample in samples])
    # Distances from planes do not depend on positions within them, so warps play no part.
    off_mm = np.abs(points_mm @ normals.T - (origins_mm * normals).sum(axis=1))
    return samples[np.nan_to_num(off_mm, nan=np.inf).argmin(axis=1)]


def draw_transform(
    reference: ReferenceSpace,
    mapped_mm: np.ndarray,
    samples: np.ndarray,
    series: Sequence[str],
    numbers: Mapping[str, object],
    problems: Sequence[str],
    title: str,
    outlines_mm: Outlines | None = None,
) -> Figure:
    """Draw cortex points and outlines of sections over the template.

    Parameters
    ----------
    mapped_mm : (N, 3) array
        Points in the reference.
    samples : (N,) array of str
        Section of each point.
    series : sequence of str
        Samples in the order of the series, which gives the colours.
    outlines_mm : mapping of lists of (N, 3) arrays, optional
        Lines around the cortex of a few sections, in the reference.
    """
    t1w, affine = reference.t1w()
    frame = Frame.around(*reference.atlas(), margin_mm=12.0)
    rank = {sample: i / max(1, len(series) - 1) for i, sample in enumerate(series)}
    shade = np.array([rank.get(str(sample), 0.0) for sample in samples])
    outlines = outlines_mm or {}
    cut_along = _plane_of_series(mapped_mm, samples)
    figure = new_figure(title, 11.5, 8.2)
    axes = panels(figure, 2, 3)
    across: list[Plane] = [plane for plane in AXES if plane != cut_along]
    for place, plane in zip(axes, across, strict=False):
        _draw_all(place, t1w, affine, frame, plane, mapped_mm, shade)
    _write_numbers(axes[2], numbers, problems, len(series))
    shown = [sample for sample in outlines if outlines[sample]] or _spread(series, samples)
    for place, sample in zip(axes[3:], shown, strict=False):
        _draw_section(
            place, t1w, affine, frame, cut_along, mapped_mm[samples == sample], outlines.get(sample, ()), sample
        )
    for place in axes[3 + len(shown) :]:
        place.set_axis_off()
    return figure


def _plane_of_series(mapped_mm: np.ndarray, samples: np.ndarray) -> Plane:
    """Return the orthogonal plane most nearly parallel to the sections: along its axis their points spread least."""
    spreads_mm = [np.median(np.abs(p - np.median(p, axis=0)), axis=0) for p in _groups(mapped_mm, samples)]
    if not spreads_mm:
        return "coronal"
    held = int(np.argmin(np.median(spreads_mm, axis=0)))
    return next(plane for plane, (axis, _, _) in AXES.items() if axis == held)


def _groups(mapped_mm: np.ndarray, samples: np.ndarray) -> list[np.ndarray]:
    return [mapped_mm[samples == sample] for sample in np.unique(samples)]


def _draw_all(
    axes: Axes, t1w: np.ndarray, affine: np.ndarray, frame: Frame, plane: Plane, points: np.ndarray, shade: np.ndarray
) -> None:
    held, right, up = AXES[plane]
    # Off the midline, where there is cortex to compare with.
    at_mm = {"sagittal": -30.0, "coronal": -20.0, "axial": 10.0}[plane]
    show(axes, cut(t1w, affine, plane, at_mm, frame), plane, frame, cmap="gray")
    axes.scatter(points[:, right], points[:, up], c=shade, cmap=SEQUENTIAL, vmin=0, vmax=1, s=1.5, linewidths=0)
    axes.set_title(f"all sections, seen along {'xyz'[held]}; template at {'xyz'[held]} = {at_mm:.0f} mm", fontsize=9)
    axes.set(xlim=frame.extent(plane)[:2], ylim=frame.extent(plane)[2:])
    name_ends(axes, plane)
    scale_bar(axes, frame, plane)


def _draw_section(
    axes: Axes,
    t1w: np.ndarray,
    affine: np.ndarray,
    frame: Frame,
    plane: Plane,
    points: np.ndarray,
    lines: Sequence[np.ndarray],
    sample: str,
) -> None:
    """Draw the template resampled along the section, which is curved in the reference, with the section's outline."""
    held, right, up = AXES[plane]
    places = np.concatenate([points, *lines])
    places = places[np.isfinite(places).all(axis=1)]
    bent_mm = _bent(places, held, right, up)
    show(axes, _bent_cut(t1w, affine, plane, frame, bent_mm), plane, frame, cmap="gray")
    for line in lines:
        axes.plot(line[:, right], line[:, up], color=_OUTLINE, linewidth=0.7)
    if not lines:
        axes.scatter(points[:, right], points[:, up], s=3, color=_OUTLINE, linewidths=0)
    low_mm, high_mm = np.quantile(places[:, held], [0.01, 0.99])
    axes.set_title(
        f"section {sample} on the template, resampled along it\n{'xyz'[held]} = {low_mm:.0f} to {high_mm:.0f} mm"
    )
    axes.title.set_fontsize(9)
    axes.set(xlim=frame.extent(plane)[:2], ylim=frame.extent(plane)[2:])
    name_ends(axes, plane)


def _terms(across: np.ndarray, upward: np.ndarray) -> np.ndarray:
    # Scaled to about 1, so that the fit is well conditioned.
    x, y = across / 50, upward / 50
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


def _bent(places: np.ndarray, held: int, right: int, up: int) -> np.ndarray:
    """Fit a quadratic sheet to points: its coefficients (6,) along the held axis; flat for fewer than 50 points."""
    if len(places) < 50:
        middle_mm = float(np.median(places[:, held])) if len(places) else 0.0
        return np.array([middle_mm, 0, 0, 0, 0, 0])
    coefficients, *_ = np.linalg.lstsq(_terms(places[:, right], places[:, up]), places[:, held], rcond=None)
    return np.asarray(coefficients)


def _bent_cut(volume: np.ndarray, affine: np.ndarray, plane: Plane, frame: Frame, bent_mm: np.ndarray) -> np.ndarray:
    """Resample a volume on a quadratic sheet, as `slices.cut` does on a plane."""
    held, right, up = AXES[plane]
    left_mm, right_mm, bottom_mm, top_mm = frame.extent(plane)
    across, upward = np.meshgrid(np.arange(left_mm + 0.5, right_mm), np.arange(bottom_mm + 0.5, top_mm))
    points = np.empty((*across.shape, 3))
    points[..., right], points[..., up] = across, upward
    points[..., held] = _terms(across, upward) @ bent_mm
    inverse = np.linalg.inv(affine)
    voxels = points @ inverse[:3, :3].T + inverse[:3, 3]
    return map_coordinates(volume, np.moveaxis(voxels, -1, 0), order=1, cval=0, prefilter=False)


def _spread(series: Sequence[str], samples: np.ndarray) -> list[str]:
    """Choose a few sections with points, evenly spaced along the series without its ends."""
    present = set(map(str, samples))
    with_points = [sample for sample in series if sample in present]
    if len(with_points) <= _SLICES:
        return with_points
    at = np.linspace(0, len(with_points) - 1, _SLICES + 2)[1:-1].round().astype(int)
    return [with_points[i] for i in at]


def _write_numbers(axes: Axes, numbers: Mapping[str, object], problems: Sequence[str], n_sections: int) -> None:
    bare(axes)
    lines = [f"{'sections':<26}{n_sections:>8}"]
    for key, name in _SHOWN_NUMBERS.items():
        value = numbers.get(key)
        text = f"{value:.3f}" if isinstance(value, (int, float)) else "–"
        lines.append(f"{name:<26}{text:>8}")
    axes.text(0.02, 0.98, "\n".join(lines), transform=axes.transAxes, va="top", family="monospace", fontsize=8.5)
    if problems:
        text = "\n".join(textwrap.fill(problem.splitlines()[0], 62) for problem in problems[:3])
        axes.text(0.02, 0.38, text, transform=axes.transAxes, va="top", fontsize=7.5, color="#B00000").set_in_layout(
            False
        )
