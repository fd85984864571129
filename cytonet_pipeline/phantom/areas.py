"""The areas of the synthetic reference: their names and where they lie on a hemisphere.

Names follow Julich-Brain where the place suggests one; nothing else is taken from it. Places are unit vectors of the
sphere that a hemisphere is folded from: lateral, anterior, superior. Names in the same brackets are neighbours of
similar structure (`cells.py`).
"""

import numpy as np
import pandas as pd

RIGHT_OFFSET = 1000
GAP_INDEX = 60
SUBCORTICAL_INDEX = 70

# Seeds of the Voronoi cells. The five areas around the central sulcus are strips along it instead: see CENTRAL_STRIPS.
SEEDS: dict[str, tuple[float, float, float]] = {
    "Area Fp1 (FPole)": (0.25, 0.95, 0.15),
    "Area Fo1 (OFC)": (0.15, 0.65, -0.75),
    "Area 33 (ACC)": (-0.85, 0.55, 0.10),
    "Area 8d1 (SFG)": (0.00, 0.65, 0.75),
    "Area MFG1 (MFG)": (0.75, 0.60, 0.35),
    "Area 45 (IFG)": (0.80, 0.60, -0.15),
    "Area 44 (IFG)": (0.95, 0.35, 0.00),
    "Area 6d1 (SFG)": (0.35, 0.40, 0.85),
    "Area 6mp (SMA)": (-0.75, 0.15, 0.65),
    "Area 5M (SPL)": (-0.75, -0.40, 0.55),
    "Area 7A (SPL)": (0.15, -0.60, 0.75),
    "Area PF (IPL)": (0.85, -0.40, 0.35),
    "Area PGa (IPL)": (0.70, -0.70, 0.20),
    "Area TE 1 (STG)": (0.97, -0.05, -0.25),
    "Area TE 3 (STG)": (0.85, -0.40, -0.20),
    "Area TI (TPole)": (0.65, 0.35, -0.65),
    "Area FG2 (FusG)": (0.15, -0.45, -0.90),
    "Area Ph1 (PhG)": (-0.55, 0.00, -0.80),
    "Area 31 (PCC)": (-0.90, -0.45, 0.00),
    "Area hOc1 (CalcS)": (-0.35, -0.93, 0.00),
    "Area hOc5 (LOC)": (0.45, -0.88, -0.20),
}
GAP_SEED = (0.75, -0.20, -0.65)

# From the fundus of the central sulcus forwards, mm of the unfolded surface; the crowns beside it are 11 mm away.
CENTRAL_STRIPS: dict[str, tuple[float, float]] = {
    "Area 4a (PreCG)": (5.0, 16.0),
    "Area 4p (PreCG)": (0.0, 5.0),
    "Area 3a (PostCG)": (-4.5, 0.0),
    "Area 3b (PostCG)": (-9.5, -4.5),
    "Area 1 (PostCG)": (-17.0, -9.5),
}
AREAS: tuple[str, ...] = (*CENTRAL_STRIPS, *SEEDS)
GAP_NAME = "Temporal-to-Occipital (GapMap)"
SUBCORTICAL_NAME = "Putamen (Basal Ganglia)"


def area_table() -> pd.DataFrame:
    """Return the atlas table: index, name, hemisphere, area, color, kind."""
    rows = [(number, name, "area") for number, name in enumerate(AREAS, start=1)]
    rows += [(GAP_INDEX, GAP_NAME, "gap"), (SUBCORTICAL_INDEX, SUBCORTICAL_NAME, "subcortical")]
    return pd.DataFrame(
        [
            (number + offset, name, hemisphere, number, _color(position), kind)
            for hemisphere, offset in (("L", 0), ("R", RIGHT_OFFSET))
            for position, (number, name, kind) in enumerate(rows)
        ],
        columns=["index", "name", "hemisphere", "area", "color", "kind"],
    )


def _color(position: int) -> str:
    # Steps of the golden angle keep neighbours in the list apart in hue.
    hue = position * 0.381966 % 1.0
    level = (0.95, 0.75, 0.55)[position % 3]
    wheel = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    red, green, blue = np.round(255 * level * (0.25 + 0.75 * wheel)).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"
