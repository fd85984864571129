"""A data set of a few small scans with an encoder's folder on it, enough to train on for seconds.

Left of the middle the tissue has coarse grain, right of it fine grain: two areas that a network can tell apart.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from scipy import ndimage

from cytonet_pipeline.learning.prepare import write_encoder_folder
from cytonet_pipeline.patches import order_of, patch_ids
from cytonet_pipeline.settings import DatasetBlock, EncoderBlock
from cytonet_pipeline.store import table

PIXEL_UM = 64.0
SIZE_PX = 320
BRAINS = ("B01", "B02", "B03")
DATASET = DatasetBlock(density_per_mm3=1, held_out="B20", patch_um=1024.0)


@dataclass(frozen=True)
class TinyTraining:
    """Where the scans and the store lie, and the tables of the training set."""

    data: Path
    store: Path
    sections: pd.DataFrame
    patches: pd.DataFrame

    def folder(self, name="tiny", **block):
        """Lay out the folder of an encoder with 16 px inputs."""
        resolved = EncoderBlock(
            **{
                "method": "cytonet",
                "working_pixel_um": 64.0,
                "steps": 12,
                "batch_size": 32,
                "checkpoint_every": 4,
                "watch_every": 6,
                "optimizer": {"warmup_steps": 2},
                **block,
            }
        )
        folder = self.store / "encoders" / name / "v1"
        write_encoder_folder(folder, name, "v1", resolved, DATASET, self.sections, self.patches, {"encoder": name})
        return folder


def write_tiny_training(root: Path) -> TinyTraining:
    """Write scans of three brains with two sections each, the second of B03 for validation."""
    sections, patches = [], []
    for number, brain in enumerate(BRAINS):
        for section in (1, 2):
            sample = f"{section:04d}"
            path = Path(f"sub-{brain}") / f"sub-{brain}_sample-{sample}.tif"
            (root / "brains" / path).parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(root / "brains" / path, _scan(10 * number + section), tile=(64, 64))
            role = "validation" if (brain, section) == ("B03", 2) else "train"
            sections.append(_section(brain, sample, section, role, str(path)))
            patches.append(_patches(brain, sample, section, role))
    columns = [c.name for c in table("training_patches").columns]
    all_patches = pd.concat(patches, ignore_index=True)
    all_patches["order"] = order_of(all_patches["patch_id"].to_numpy(np.uint64), 0)
    return TinyTraining(root / "brains", root / "store", pd.DataFrame(sections), all_patches[columns])


def _scan(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(SIZE_PX, SIZE_PX))
    coarse, fine = (ndimage.gaussian_filter(noise, s) for s in (2.5, 0.7))
    grain = np.where(np.arange(SIZE_PX) < SIZE_PX // 2, coarse / coarse.std(), fine / fine.std())
    return (140 + seed + 30 * grain).clip(0, 255).astype(np.uint8)


def _patches(brain: str, sample: str, section: int, role: str) -> pd.DataFrame:
    centres = np.arange(24, SIZE_PX - 24, 24)
    x, y = (axis.ravel() for axis in np.meshgrid(centres, centres))
    return pd.DataFrame(
        {
            "patch_id": patch_ids(brain, sample, x, y),
            "brain": brain,
            "sample": sample,
            "role": role,
            "x_px": x,
            "y_px": y,
            "ref_x_mm": x * 0.064,
            "ref_y_mm": section * 2.0,
            "ref_z_mm": -y * 0.064,
            # A third is not annotated.
            "annotated_area": np.where((x + y) % 72 == 0, 0, np.where(x < SIZE_PX // 2, 3, 7)),
        }
    )


def _section(brain: str, sample: str, section: int, role: str, path: str) -> dict:
    return {
        "brain": brain,
        "sample": sample,
        "section": section,
        "role": role,
        "n_patches": 1,
        "n_training_patches": 1,
        "path": path,
        "digest": f"{brain}{sample}",
        "pixel_um": PIXEL_UM,
        "window_low": np.nan,
        "window_high": np.nan,
        "mask_digest": None,
        "annotation_digest": None,
        "transform_digest": "t",
        "patches_digest": "p",
    }
