"""Mapping a table of points from one space of a brain to another, for `cytonet map`."""

from pathlib import Path

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Brain, Dataset, Section
from cytonet_pipeline.errors import ConfigurationError, ReferenceSpaceError
from cytonet_pipeline.names import bare, describe_known
from cytonet_pipeline.registration import BrainChain, resolve_chain
from cytonet_pipeline.registration.chain.sources import pixel_um_of
from cytonet_pipeline.registration.reference.files import find_files
from cytonet_pipeline.registration.reference.volumes import read_volume
from cytonet_pipeline.settings import Settings

MM = ["x_mm", "y_mm", "z_mm"]
SCAN = ["sample", "x_px", "y_px"]
SPACES = ("MNIColin27", "brain")
_EXAMPLE = f"its first line names the columns, separated by tabs: {' '.join(MM)}, or {' '.join(SCAN)}"


def map_table(settings: Settings, brain: str, points: Path, to: str) -> tuple[pd.DataFrame, list[str]]:
    """Map the points of a TSV file.

    A registration is fitted to the brain. Its transform has values beyond it too, which mean less the farther away a
    point lies: such points are mapped, and counted in a remark.

    Parameters
    ----------
    points : Path
        TSV with columns x_mm, y_mm, z_mm: in the brain's own space if `to` is MNIColin27, in Colin-27 if `to` is
        brain. Or sample, x_px, y_px: full-resolution pixels of a scan, corner origin. One of the two, not both.
    to : {"MNIColin27", "brain"}
        Target space.

    Returns
    -------
    table : pd.DataFrame
        The given columns, with x_mm, y_mm, z_mm replaced by, or followed by, those in the target space.
    remarks : list of str
        How many points have no image there (NaN), and how many lie outside of the template's volume.

    Raises
    ------
    ConfigurationError
        The file or the target cannot be interpreted.
    DataFault
        The brain, its transform, or the scan of a section cannot be used.
    """
    if to not in SPACES:
        raise ConfigurationError(f"--to {to}: no such space.", to_fix=" or ".join(SPACES))
    table = _read(points)
    source = Dataset(settings.data, settings.experiments.dataset).brain(brain)
    chain = resolve_chain(source)
    if set(SCAN) <= set(table.columns):
        source_mm = _scan_to_brain(source, chain, table, points)
        mapped_mm = chain.brain_to_reference(source_mm) if to == "MNIColin27" else source_mm
        colin_mm = mapped_mm if to == "MNIColin27" else None
    else:
        source_mm = table[MM].to_numpy(np.float64)
        mapped_mm = chain.brain_to_reference(source_mm) if to == "MNIColin27" else chain.reference_to_brain(source_mm)
        colin_mm = mapped_mm if to == "MNIColin27" else source_mm
    mapped = table.assign(**dict(zip(MM, mapped_mm.T, strict=True)))
    without = int(np.isnan(mapped_mm).any(axis=1).sum())
    remarks = [f"{without} of {len(mapped)} points have no image there (n/a)"] if without else []
    return mapped, remarks if colin_mm is None else [*remarks, *_remarks_on_place(settings.reference, colin_mm)]


def _remarks_on_place(reference: Path, colin_mm: np.ndarray) -> list[str]:
    """Say how many points lie outside of the template's volume, or why that is not known."""
    try:
        low_mm, high_mm = read_volume(find_files(reference)["mask"]).bounds_mm()
    except ReferenceSpaceError as error:
        return [f"whether the points lie in Colin-27 was not checked: {error.what}"]
    outside = int(((colin_mm < low_mm) | (colin_mm > high_mm)).any(axis=1).sum())
    if not outside:
        return []
    return [
        f"{outside} of {len(colin_mm)} points lie outside of the volume of Colin-27, where no registration was fitted: "
        "their images are extrapolated"
    ]


def _read(points: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(points, sep="\t", na_values=["n/a"], dtype={"sample": str})
    except pd.errors.EmptyDataError:
        raise ConfigurationError(f"{points}: the file is empty.", to_fix=_EXAMPLE) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{points}: not a readable TSV ({error}).", to_fix=_EXAMPLE) from error
    in_mm, in_scan = set(MM) <= set(table.columns), set(SCAN) <= set(table.columns)
    if not in_mm and not in_scan:
        raise ConfigurationError(
            f"{points}: needs the columns {' '.join(MM)}, or {' '.join(SCAN)}; it has {' '.join(table.columns)}.",
            to_fix=_EXAMPLE,
        )
    if in_mm and in_scan:
        raise ConfigurationError(
            f"{points}: has both {' '.join(MM)} and {' '.join(SCAN)}; it is unclear which is meant.",
            to_fix="remove one of the two",
        )
    if table.empty:
        raise ConfigurationError(f"{points}: has no points, only column names.", to_fix="add one line per point")
    for column in MM if in_mm else ("x_px", "y_px"):
        _require_numbers(table[column], points)
    return table


def _require_numbers(column: pd.Series, points: Path) -> None:
    if pd.api.types.is_numeric_dtype(column):
        return
    wrong = column[pd.to_numeric(column, errors="coerce").isna() & column.notna()]
    raise ConfigurationError(
        f"{points}: column {column.name} holds {wrong.iloc[0]!r} in line {wrong.index[0] + 2}, which is not a number.",
        to_fix="write numbers with a decimal point, n/a where one is missing",
    )


def _scan_to_brain(brain: Brain, chain: BrainChain, table: pd.DataFrame, points: Path) -> np.ndarray:
    if table["sample"].isna().any():
        line = int(np.flatnonzero(table["sample"].isna())[0]) + 2
        raise ConfigurationError(f"{points}: line {line} names no sample.", to_fix="name the section of each point")
    samples = table["sample"].map(lambda name: bare(name, "sample"))
    unknown = sorted(set(samples) - set(chain.sections))
    if unknown:
        raise ConfigurationError(
            f"{points}: sub-{brain.name} has no usable section {', '.join(unknown)}; "
            f"{describe_known(unknown[0], chain.sections)}.",
            to_fix="correct the name; why a section is left out: cytonet doctor",
        )
    sources = {section.sample: section for section in brain.sections}
    mapped_mm = np.full((len(table), 3), np.nan)
    for sample, rows in table.groupby(samples).indices.items():
        pixel_mm = _pixel_um(sources[str(sample)]) / 1000
        xy_mm = table.iloc[rows][["x_px", "y_px"]].to_numpy(np.float64) * pixel_mm
        mapped_mm[rows] = chain.scan_to_brain(str(sample), xy_mm)
    return mapped_mm


def _pixel_um(section: Section) -> float:
    pixel_um = pixel_um_of(section)
    if pixel_um is None:
        raise ConfigurationError(
            f"sub-{section.brain} sample-{section.sample}: neither a scan nor a pixel size is known.",
            to_fix="write PixelSize into the sidecar, or map positions in mm",
        )
    return pixel_um
