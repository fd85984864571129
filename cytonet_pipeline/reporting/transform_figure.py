"""Where a brain's sections come to lie in the reference, and what the numbers say of the way there."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cytonet_pipeline.registration import BrainChain, ReferenceSpace
from cytonet_pipeline.registration.quality import ChainQuality
from cytonet_pipeline.reporting.slices import Frame, Plane, cut, name_ends, scale_bar, show
from cytonet_pipeline.reporting.style import SEQUENTIAL, bare, new_figure, panels, save

_SHOWN_NUMBERS = {
    "jacobian_min": "smallest Jacobian",
    "jacobian_p01": "Jacobian, 1st percentile",
    "folded_share": "folded share",
    "inside_brain_share": "cortex inside the brain",
    "on_cortex_share": "cortex on cortex",
    "round_trip_mm_p95": "there and back, p95 (mm)",
}
_CORONALS = 3


def transform_figure(
    chain: BrainChain, reference: ReferenceSpace, points_mm: np.ndarray, quality: ChainQuality, path: Path
) -> Path:
    """Draw the transforms of a brain into a file.

    Parameters
    ----------
    points_mm : (N, 3) array
        Points of the brain's own cortex, brain mm.
    """
    samples = nearest_sections(chain, points_mm)
    mapped_mm = chain.brain_to_reference(points_mm)
    found = np.isfinite(mapped_mm).all(axis=1)
    numbers = {name: value for name, value in quality.as_dict().items() if name in _SHOWN_NUMBERS}
    title = f"sub-{chain.brain} in {reference.folder.name}: " + ("passed" if quality.passed else "problems, see below")
    figure = draw_transform(
        reference, mapped_mm[found], samples[found], list(chain.positions_mm()), numbers, quality.problems, title
    )
    return save(figure, path)


def nearest_sections(chain: BrainChain, points_mm: np.ndarray) -> np.ndarray:
    """Sample of the section that each point (N, 3), brain mm, lies nearest to; (N,) of str."""
    samples = np.array(list(chain.sections), dtype=str)
    if len(samples) == 0 or len(points_mm) == 0:
        return np.full(len(points_mm), "", dtype=str)
    off_mm = np.stack([np.abs(chain.brain_to_scan(str(sample), points_mm)[1]) for sample in samples])
    return samples[np.nanargmin(off_mm, axis=0)]


def draw_transform(
    reference: ReferenceSpace,
    mapped_mm: np.ndarray,
    samples: np.ndarray,
    series: Sequence[str],
    numbers: Mapping[str, object],
    problems: Sequence[str],
    title: str,
) -> Figure:
    """Draw cortex points of sections over the template.

    Parameters
    ----------
    mapped_mm : (N, 3) array
        Points in the reference.
    samples : (N,) array of str
        Section of each point.
    series : sequence of str
        Samples in the order of the series: they give the colours.
    """
    t1w, affine = reference.t1w()
    frame = Frame.around(*reference.atlas(), margin_mm=12.0)
    rank = {sample: i / max(1, len(series) - 1) for i, sample in enumerate(series)}
    shade = np.array([rank.get(str(sample), 0.0) for sample in samples])
    figure = new_figure(title, 10, 7.2)
    axes = panels(figure, 2, 3)
    for place, plane in zip(axes, ("sagittal", "axial"), strict=False):
        _draw_all(place, t1w, affine, frame, plane, mapped_mm, shade)  # type: ignore[arg-type]
    _write_numbers(axes[2], numbers, problems, len(series))
    for place, sample in zip(axes[3:], _spread(series, samples), strict=False):
        of_section = mapped_mm[samples == sample]
        _draw_section(place, t1w, affine, frame, of_section, sample)
    for place in axes[3 + len(_spread(series, samples)) :]:
        place.set_axis_off()
    return figure


def _draw_all(
    axes: Axes, t1w: np.ndarray, affine: np.ndarray, frame: Frame, plane: Plane, points: np.ndarray, shade: np.ndarray
) -> None:
    held, right, up = {"sagittal": (0, 1, 2), "axial": (2, 0, 1)}[plane]
    at_mm = -30.0 if plane == "sagittal" else 10.0
    show(axes, cut(t1w, affine, plane, at_mm, frame), plane, frame, cmap="gray")
    axes.scatter(points[:, right], points[:, up], c=shade, cmap=SEQUENTIAL, vmin=0, vmax=1, s=1.5, linewidths=0)
    axes.set_title(f"all sections, seen along {'xyz'[held]}")
    axes.set(xlim=frame.extent(plane)[:2], ylim=frame.extent(plane)[2:])
    name_ends(axes, plane)
    scale_bar(axes, frame, plane)


def _draw_section(
    axes: Axes, t1w: np.ndarray, affine: np.ndarray, frame: Frame, points: np.ndarray, sample: str
) -> None:
    at_mm = float(np.median(points[:, 1]))
    show(axes, cut(t1w, affine, "coronal", at_mm, frame), "coronal", frame, cmap="gray")
    axes.scatter(points[:, 0], points[:, 2], s=3, color="#F0E442", linewidths=0)
    spread_mm = float(np.ptp(points[:, 1]))
    axes.set_title(f"section {sample} at y = {at_mm:.0f} mm\n(spans {spread_mm:.0f} mm in y)", fontsize=9)
    axes.set(xlim=frame.extent("coronal")[:2], ylim=frame.extent("coronal")[2:])
    name_ends(axes, "coronal")


def _spread(series: Sequence[str], samples: np.ndarray) -> list[str]:
    """A few sections with points, evenly along the series, its ends left out."""
    present = set(map(str, samples))
    with_points = [sample for sample in series if sample in present]
    if len(with_points) <= _CORONALS:
        return with_points
    at = np.linspace(0, len(with_points) - 1, _CORONALS + 2)[1:-1].round().astype(int)
    return [with_points[i] for i in at]


def _write_numbers(axes: Axes, numbers: Mapping[str, object], problems: Sequence[str], n_sections: int) -> None:
    bare(axes)
    lines = [f"{'sections':<26}{n_sections:>8}"]
    for key, name in _SHOWN_NUMBERS.items():
        value = numbers.get(key)
        said = f"{value:.3g}" if isinstance(value, (int, float)) else "–"
        lines.append(f"{name:<26}{said:>8}")
    axes.text(0.02, 0.95, "\n".join(lines), transform=axes.transAxes, va="top", family="monospace", fontsize=8.5)
    if problems:
        text = "\n".join(f"• {problem.splitlines()[0]}" for problem in problems[:4])
        axes.text(
            0.02, 0.45, text, transform=axes.transAxes, va="top", fontsize=8, color="#B00000", wrap=True
        ).set_in_layout(False)
