"""Features of patches of one brain: an encoder applied to scans. The computation itself is in `learning`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Brain
from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.learning.data.scans import SectionScans
from cytonet_pipeline.learning.embedding import embed_patches
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.settings import DatasetBlock


def features_of(
    encoder_folder: Path,
    rows: pd.DataFrame,
    brain: Brain,
    block: DatasetBlock,
    report: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Compute the features of patches of a brain that the encoder knows of.

    Parameters
    ----------
    encoder_folder : Path
        Folder of the encoder's version; its `sections.parquet` has the paths of scans and how to read them.
    rows : DataFrame
        `brain`, `sample`, `x_px`, `y_px` and, for encoders of method `position`, `ref_x_mm`, `ref_y_mm`, `ref_z_mm`.
    report : callable, optional
        Called with the number of patches done since the last call.

    Returns
    -------
    (N, D) float16 array

    Raises
    ------
    DataFault
        A feature is not finite, or too large for the half precision of the table.
    """
    scans = SectionScans(brain.root, EncoderFolder(encoder_folder).sections, block.window_of)
    features = embed_patches(encoder_folder, rows, scans, report=report)
    faulty = ~np.isfinite(features).all(axis=1)
    if faulty.any():
        first = rows.iloc[int(np.argmax(faulty))]
        raise DataFault(
            f"sub-{brain.name}: {int(faulty.sum())} of {len(rows)} patches have features that are not finite, "
            f"the first in sample {first['sample']} at x {first['x_px']}, y {first['y_px']} px.",
            looked_for=str(encoder_folder),
            to_fix="train the encoder again with a smaller learning rate",
        )
    return features
