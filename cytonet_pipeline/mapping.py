"""Points by hand: a table of positions from one space of a brain to another, for `cytonet map`."""

from pathlib import Path

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.registration import BrainChain, resolve_chain
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, read_table

MM = ["x_mm", "y_mm", "z_mm"]
SCAN = ["sample", "x_px", "y_px"]


def map_table(settings: Settings, brain: str, points: Path, to: str) -> tuple[pd.DataFrame, int]:
    """Map the points of a TSV.

    Parameters
    ----------
    points : Path
        TSV with columns x_mm, y_mm, z_mm: in the brain's own space if `to` is MNIColin27, in Colin-27 if `to` is
        brain. Or sample, x_px, y_px: full-resolution pixels of a scan, corner origin.
    to : {"MNIColin27", "brain"}
        Target space.

    Returns
    -------
    table : pd.DataFrame
        The given columns, with x_mm, y_mm, z_mm replaced by, or followed by, those in the target space.
    without : int
        Points that have no image there (NaN).

    Raises
    ------
    ConfigurationError
        The file or the target is not understood.
    """
    if to not in {"MNIColin27", "brain"}:
        raise ConfigurationError(f"--to {to}: no such space.", to_fix="MNIColin27 or brain")
    table = _read(points)
    chain = resolve_chain(Dataset(settings.data, settings.experiments.dataset).brain(brain))
    if set(SCAN) <= set(table.columns):
        source_mm = _scan_to_brain(settings, brain, chain, table)
        mapped_mm = chain.brain_to_reference(source_mm) if to == "MNIColin27" else source_mm
    else:
        source_mm = table[MM].to_numpy(np.float64)
        mapped_mm = chain.brain_to_reference(source_mm) if to == "MNIColin27" else chain.reference_to_brain(source_mm)
    mapped = table.assign(**dict(zip(MM, mapped_mm.T, strict=True)))
    return mapped, int(np.isnan(mapped_mm).any(axis=1).sum())


def _read(points: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(points, sep="\t", na_values=["n/a"], dtype={"sample": str})
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{points}: not a readable TSV ({error}).") from error
    if not (set(MM) <= set(table.columns) or set(SCAN) <= set(table.columns)):
        raise ConfigurationError(
            f"{points}: needs the columns {' '.join(MM)}, or {' '.join(SCAN)}; it has {' '.join(table.columns)}.",
            to_fix="the first line names the columns, separated by tabs",
        )
    for column in {*MM, "x_px", "y_px"} & set(table.columns):
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise ConfigurationError(f"{points}: column {column} holds something that is no number.")
    return table


def _scan_to_brain(settings: Settings, brain: str, chain: BrainChain, table: pd.DataFrame) -> np.ndarray:
    samples = table["sample"].str.removeprefix("sample-")
    sections = read_table(
        Store(settings.store).section_scans(brain) / "sections.parquet", "section_scans", columns=["sample", "pixel_um"]
    )
    pixel_um = dict(zip(sections["sample"], sections["pixel_um"], strict=True))
    unknown = sorted(set(samples) - set(chain.sections))
    if unknown:
        raise ConfigurationError(f"sub-{brain}: no usable section {', '.join(unknown)}.", to_fix="see cytonet doctor")
    mapped_mm = np.full((len(table), 3), np.nan)
    for sample, rows in table.groupby(samples).indices.items():
        pixel_mm = pixel_um[str(sample)] / 1000
        xy_mm = table.iloc[rows][["x_px", "y_px"]].to_numpy(np.float64) * pixel_mm
        mapped_mm[rows] = chain.scan_to_brain(str(sample), xy_mm)
    return mapped_mm
