"""Learning: losses, encoders, augmentation, loading, the training loop, checkpoints, embedding.

`python -m cytonet_pipeline.learning` trains; `learning.prepare` lays out an encoder's folder before, and checks it
afterwards. Importing this package alone does not import torch; it makes the names of backbones, distances and transfer
functions known to the check of experiments files.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytonet_pipeline.learning.backbones.backbones import BACKBONES
from cytonet_pipeline.learning.backbones.external import LIBRARIES
from cytonet_pipeline.learning.losses.distances import DISTANCES
from cytonet_pipeline.learning.losses.transfer import TRANSFER_FUNCTIONS
from cytonet_pipeline.settings import accept_names

if TYPE_CHECKING:
    from cytonet_pipeline.learning.backbones.encoders import load_encoder
    from cytonet_pipeline.learning.data.scans import SectionScans
    from cytonet_pipeline.learning.embedding import embed_patches
    from cytonet_pipeline.learning.losses.contrastive import DistanceWeightedContrastiveLoss, SupervisedContrastiveLoss
    from cytonet_pipeline.learning.measures import (
        effective_rank,
        knn_predict,
        knn_probabilities,
        mean_cosine,
        same_brain_excess,
    )

_HOMES = {
    "DistanceWeightedContrastiveLoss": "losses.contrastive",
    "SectionScans": "data.scans",
    "SupervisedContrastiveLoss": "losses.contrastive",
    "effective_rank": "measures",
    "embed_patches": "embedding",
    "knn_predict": "measures",
    "knn_probabilities": "measures",
    "load_encoder": "backbones.encoders",
    "mean_cosine": "measures",
    "same_brain_excess": "measures",
}

__all__ = [
    "MALLOC_ENVIRONMENT",
    "PATH_ENVIRONMENT",
    "DistanceWeightedContrastiveLoss",
    "SectionScans",
    "SupervisedContrastiveLoss",
    "effective_rank",
    "embed_patches",
    "knn_predict",
    "knn_probabilities",
    "load_encoder",
    "mean_cosine",
    "same_brain_excess",
    "training_command",
    "training_environment",
]

# For processes that compute on the CPU. By default glibc returns large freed blocks to the system, and the next step
# gets them back page by page, each cleared by the kernel first. Before glibc 2.35 more than 32 MiB would be ignored.
MALLOC_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}

# For every Python that is started with `-m`. By default the current folder comes first on its module path, and a folder
# `cytonet_pipeline` there, such as a checkout, would be imported in place of this package. Processes that torchrun and
# Dagster start inherit the variable, unlike the option -P.
PATH_ENVIRONMENT = {"PYTHONSAFEPATH": "1"}

accept_names("backbone", BACKBONES, LIBRARIES)
accept_names("distance", DISTANCES)
accept_names("transfer", TRANSFER_FUNCTIONS)


def training_command(folder: Path, data: Path, *, threads: int, packs: str | None = None) -> list[str]:
    """Return what follows `python -m` to train the encoder of a prepared folder: this package and its arguments.

    Parameters
    ----------
    threads : int
        CPU threads per rank.
    packs : str, optional
        Folder of packed patches on the node; variables in it are expanded there.
    """
    command = [__name__, str(folder), "--data", str(data), "--threads", str(threads)]
    return [*command, "--packs", packs] if packs else command


def training_environment(threads: int) -> dict[str, str]:
    """Return the variables of a training process, beside those of its launcher: threads, memory, module path."""
    return {"OMP_NUM_THREADS": str(threads), **MALLOC_ENVIRONMENT, **PATH_ENVIRONMENT}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
