"""Writing a phantom: the reference space, then brain after brain, all or nothing."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from cytonet_pipeline import progress
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.phantom import dataset, poster
from cytonet_pipeline.phantom.anatomy import build_anatomy
from cytonet_pipeline.phantom.poster import write_poster_brains
from cytonet_pipeline.phantom.reference import SPACE, Reference, write_reference
from cytonet_pipeline.phantom.sections import Painter, SectionPlan
from cytonet_pipeline.store import atomic_folder, write_json
from cytonet_pipeline.store.processes import usable_cores

# Incremented by every change that gives other bytes for the same parameters.
VERSION = 1
_DEFAULTS: dict[str, dict[str, Any]] = {
    "demo": {"brains": ("B01", "B02", "B03", "B20"), "sections": 12, "pixel_um": 64.0},
    "poster": {"brains": poster.BRAINS, "sections": poster.SECTIONS, "pixel_um": poster.PIXEL_UM},
}
_STAMP = "phantom.json"
_PIXELS_UM = (16, 32, 64, 128, 256)  # so that pixels of masks are whole pixels of scans, or the reverse


def write_phantom(
    folder: Path,
    *,
    brains: Sequence[str] | None = None,
    sections: int | None = None,
    seed: int = 0,
    reference: Path | None = None,
    pixel_um: float | None = None,
    scale: Literal["demo", "poster"] = "demo",
) -> None:
    """Write synthetic brains in the input format: `folder`/brains and `folder`/tpl-MNIColin27.

    The same arguments give the same bytes. A folder that already holds this phantom is left alone. Everything is
    written beside `folder` and renamed at the end.

    Parameters
    ----------
    folder : Path
        Created if needed; empty, or a phantom of the same parameters.
    brains : sequence of str, optional
        Names without `sub-`. The last one also gets the inverse of its transform. Default: four, or the poster's nine.
    sections : int, optional
        Sections per brain; default: 12. At the poster's scale sections of all brains together; default: 4128.
    seed : int
        Another seed gives another reference space and other brains; the areas' textures stay.
    reference : Path, optional
        A reference space to paint from instead of the synthetic one. It is used where it lies: nothing is copied, and
        no `tpl-MNIColin27` is written. What is painted falls under its licence.
    pixel_um : float, optional
        Pixel size of the scans (µm), default: 64. The cells keep their size; coarser pixels are for quick tests. At
        the poster's scale it is always 1.
    scale : {"demo", "poster"}
        Sections with painted cells, or as many and as large as the poster's, made of few different tiles.

    Raises
    ------
    ConfigurationError
        The folder holds something else, or the arguments make no sense.
    ReferenceSpaceError
        `reference` is incomplete.
    """
    defaults = _DEFAULTS[scale]
    brains = list(defaults["brains"] if brains is None else brains)
    sections = defaults["sections"] if sections is None else sections
    parameters: dict[str, Any] = {
        "version": VERSION,
        "brains": brains,
        "sections": sections,
        "seed": seed,
        "reference": None if reference is None else str(reference.absolute()),
        "pixel_um": float(pixel_um or defaults["pixel_um"]),
    }
    if scale != "demo":
        # Phantoms of older programs have no such key, and are still the same.
        parameters["scale"] = scale
    _check(parameters)
    if _is_there(folder, parameters):
        return
    with atomic_folder(folder) as writing:
        if reference is None:
            with progress.task("Reference space"):
                write_reference(writing / SPACE, build_anatomy(seed))
        space = Reference.load(reference or writing / SPACE)
        if scale == "poster":
            write_poster_brains(writing / "brains", space, brains, sections, seed)
        else:
            _write_brains(writing / "brains", space, parameters)
        write_json(writing / _STAMP, parameters)


def _check(parameters: dict) -> None:
    brains = parameters["brains"]
    if not brains or len(set(brains)) < len(brains) or not all(name.isalnum() for name in brains):
        raise ConfigurationError(
            f"brains {', '.join(brains) or '(none)'}: each needs a name of its own, of letters and digits."
        )
    poster_scale = parameters.get("scale") == "poster"
    pixels_um, least = ((poster.PIXEL_UM,), len(brains)) if poster_scale else (_PIXELS_UM, 1)
    if parameters["sections"] < least or parameters["pixel_um"] not in pixels_um:
        raise ConfigurationError(
            f"{parameters['sections']} sections at {parameters['pixel_um']:g} µm per pixel cannot be painted.",
            to_fix=f"ask for at least one section per brain, at {', '.join(f'{um:g}' for um in pixels_um)} µm",
        )


def _is_there(folder: Path, parameters: dict) -> bool:
    """Return whether the folder holds this phantom already; refuse one that holds anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    stamp = folder / _STAMP
    try:
        if json.loads(stamp.read_text(encoding="utf-8")) == parameters:
            return True
    except (OSError, ValueError):  # no stamp, or not ours
        pass
    raise ConfigurationError(
        f"{folder}: not empty, and not a phantom of these parameters.",
        looked_for=str(stamp),
        to_fix="name another folder, or remove this one",
    )


def _write_brains(folder: Path, space: Reference, parameters: dict) -> None:
    brains: list[str] = parameters["brains"]
    painters = {name: Painter(space, name, seed=parameters["seed"], pixel_um=parameters["pixel_um"]) for name in brains}
    plans = {name: painters[name].plan(parameters["sections"]) for name in brains}
    origin = (
        f"Their reference space lies elsewhere and is not part of this data set: {parameters['reference']}.\n"
        "What was painted from it falls under its licence."
        if parameters["reference"]
        else f"Their reference space, beside this folder as {SPACE}, is synthetic as well."
    )
    readme = dataset.README.format(reference=origin, pixel_um=parameters["pixel_um"])
    dataset.write_texts(folder, brains, plans, readme)
    dataset.write_area_names(folder, space)
    for name in brains:
        dataset.write_registration(folder, painters[name], plans[name], with_inverse=name == brains[-1])
    sections = [(painters[name], plan) for name in brains for plan in plans[name]]

    def write(section: tuple[Painter, SectionPlan]) -> None:
        painter, plan = section
        dataset.write_section(folder, painter, plan, painter.paint(plan))

    # Threads suffice: nearly all time is spent in NumPy, SciPy and the compressor, which release the GIL.
    with ThreadPoolExecutor(max_workers=min(4, usable_cores())) as pool:
        for _ in progress.track(pool.map(write, sections), "Sections", total=len(sections)):
            pass
