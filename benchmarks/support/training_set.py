"""A training set on small scans of noise: it measures how fast training is, not what it learns."""

from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.prepare import write_encoder_folder
from cytonet_pipeline.patches import order_of, patch_ids
from cytonet_pipeline.settings import DatasetBlock, EncoderBlock
from cytonet_pipeline.store import table

BRAINS = ("B01", "B02", "B03", "B04")
TILE_PX = 256


def write_training_set(
    root: Path, name: str, block: EncoderBlock, *, pixel_um: float, work_px: int, size_px: int, patches: int
) -> EncoderFolder:
    """Write scans and an encoder's folder on them.

    Parameters
    ----------
    pixel_um : float
        Of the scans and of the network's input: patches come from the level that a pyramid would offer.
    work_px : int
        Edge of the network's input.
    size_px, patches : int
        Edge of a scan; patches of a scan, of which there are two a brain.
    """
    dataset = DatasetBlock(density_per_mm3=1, held_out="B20", patch_um=work_px * pixel_um)
    sections, rows = [], []
    for brain in BRAINS:
        for number in (1, 2):
            sample, path = f"{number:04d}", Path(f"sub-{brain}") / f"sub-{brain}_sample-{number:04d}_{name}.tif"
            _write_scan(root / "brains" / path, size_px, seed=10 * BRAINS.index(brain) + number)
            role = "validation" if (brain, number) == (BRAINS[-1], 2) else "train"
            sections.append(_section(brain, sample, number, role, path, pixel_um, patches))
            rows.append(_patches(brain, sample, number, role, pixel_um, work_px, size_px, patches))
    table_of_patches = pd.concat(rows, ignore_index=True)
    table_of_patches["order"] = order_of(table_of_patches["patch_id"].to_numpy(np.uint64), 0)
    columns = [column.name for column in table("training_patches").columns]
    folder = root / "store" / "encoders" / name / "v1"
    write_encoder_folder(
        folder, name, "v1", block, dataset, pd.DataFrame(sections), table_of_patches[columns], {"encoder": name}
    )
    return EncoderFolder(folder)


def _write_scan(path: Path, size_px: int, seed: int) -> None:
    """Deflated tiles, as scanners' software and converters write them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grains = np.random.default_rng(seed).integers(60, 250, (size_px // 4, size_px // 4), dtype=np.uint8)
    image = np.kron(grains, np.ones((4, 4), dtype=np.uint8))
    tifffile.imwrite(path, image, tile=(TILE_PX, TILE_PX), compression="zlib", predictor=True)


def _patches(
    brain: str, sample: str, number: int, role: str, pixel_um: float, work_px: int, size_px: int, n: int
) -> pd.DataFrame:
    margin = min(work_px, size_px // 2 - 1)
    x, y = np.random.default_rng(number).integers(margin, size_px - margin, (2, n))
    return pd.DataFrame(
        {
            "patch_id": patch_ids(brain, sample, x, y),
            "brain": brain,
            "sample": sample,
            "role": role,
            "x_px": x,
            "y_px": y,
            "ref_x_mm": x * pixel_um / 1000,
            "ref_y_mm": number * 2.0,
            "ref_z_mm": -y * pixel_um / 1000,
            "annotated_area": np.where(x < size_px // 2, 3, 7),
        }
    ).drop_duplicates("patch_id")


def _section(brain: str, sample: str, number: int, role: str, path: Path, pixel_um: float, patches: int) -> dict:
    return {
        "brain": brain,
        "sample": sample,
        "section": number,
        "role": role,
        "n_patches": patches,
        "n_training_patches": patches if role == "train" else 0,
        "path": str(path),
        "digest": f"{path.stem}{pixel_um:g}",
        "pixel_um": pixel_um,
        "window_low": np.nan,
        "window_high": np.nan,
        "mask_digest": None,
        "annotation_digest": None,
        "transform_digest": "t",
        "patches_digest": "p",
    }
