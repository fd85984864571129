"""Compute features of patches, read from the scans at the encoder's pixel size."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cytonet_pipeline.learning.backbones.encoders import Encoder, load_encoder
from cytonet_pipeline.learning.data.scans import ScanOpener, read_by_section
from cytonet_pipeline.learning.device import compute_device
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.store import REFERENCE_MM

HISTOGRAM_BINS = 32


def embed_patches(
    path: Path,
    patches: pd.DataFrame,
    scans: ScanOpener,
    *,
    batch_size: int = 512,
    threads: int = 2,
    device: torch.device | None = None,
    report: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Compute the features of patches of the index.

    Parameters
    ----------
    path : Path
        Folder of the encoder's version.
    patches : DataFrame
        Rows of the patch index: `brain`, `sample`, `x_px`, `y_px`, `ref_x_mm`, `ref_y_mm`, `ref_z_mm`.
    scans : callable
        Opens the scan of a section (`SectionScans`).
    batch_size : int
        Patches per forward pass; the features do not depend on it.
    threads : int
        Sections read ahead at the same time.
    device : torch.device, optional
        Default: a GPU if there is one.
    report : callable, optional
        Called with the number of patches done since the last call.

    Returns
    -------
    (N, D) float16 array
        In the order of `patches`. `intensity`: mean, standard deviation and histogram of the grey values; `position`:
        |x|, y and z in the reference (mm): hemispheres are merged, so left and right homologues share a place.
    """
    folder = EncoderFolder(path)
    if folder.block.method == "position":
        return position_features(patches).astype(np.float16)
    device = device or compute_device()
    features_of: Callable[[np.ndarray], np.ndarray] = intensity_features
    if folder.block.method != "intensity":
        features_of = _through(load_encoder(path), batch_size, device)
    features: np.ndarray | None = None
    read = read_by_section(patches, scans, folder.work_px, folder.block.working_pixel_um, threads=threads)
    for rows, images in read:
        part = features_of(images)
        if features is None:
            features = np.empty((len(patches), part.shape[1]), dtype=np.float16)
        features[rows] = part
        if report:
            report(len(rows))
    return np.empty((0, 0), dtype=np.float16) if features is None else features


def intensity_features(images: np.ndarray) -> np.ndarray:
    """Return mean, standard deviation (of 0..1) and a 32-bin histogram (shares) of uint8 patches: (N, 34) float32."""
    flat = images.reshape(len(images), -1)
    binned = flat // (256 // HISTOGRAM_BINS)
    offsets = np.arange(len(flat))[:, None] * HISTOGRAM_BINS
    counts = np.bincount((binned + offsets).ravel(), minlength=len(flat) * HISTOGRAM_BINS)
    shares = counts.reshape(len(flat), HISTOGRAM_BINS) / max(1, flat.shape[1])
    moments = np.stack([flat.mean(1), flat.std(1)], 1) / 255
    return np.concatenate([moments, shares], 1).astype(np.float32)


def position_features(patches: pd.DataFrame) -> np.ndarray:
    """Return |x|, y, z of the reference position in mm: (N, 3) float32."""
    positions = patches[list(REFERENCE_MM)].to_numpy(np.float32)
    return np.column_stack([np.abs(positions[:, 0]), positions[:, 1:]])


def _through(encoder: Encoder, batch_size: int, device: torch.device) -> Callable[[np.ndarray], np.ndarray]:
    encoder = encoder.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features_of(images: np.ndarray) -> np.ndarray:
        parts = []
        with torch.inference_mode():
            for start in range(0, len(images), batch_size):
                batch = torch.from_numpy(images[start : start + batch_size]).to(device)
                parts.append(encoder(batch[:, None].float() / 255).float().cpu().numpy())
        return np.concatenate(parts)

    return features_of
