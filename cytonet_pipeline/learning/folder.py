"""The folder of one version of an encoder: what training reads there and what it leaves.

It holds everything but the scans: copying it moves a training run to another machine.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.settings import DatasetBlock, EncoderBlock, keys_affecting
from cytonet_pipeline.store import REFERENCE_MM, digest_array, digest_of, read_record, read_table

# What training writes. The record, which says that the others are complete, comes first: it is removed first.
RESULTS = ("encoder.json", "encoder.safetensors", "best.safetensors", "classifier.safetensors", "history.parquet")
_NAMES = ("brain", "sample", "role")
_DECISIVE = ("patch_id", "role", *REFERENCE_MM, "annotated_area")


class EncoderFolder:
    """Paths and contents of `encoders/<encoder>/<version>`."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self.weights = self.path / "encoder.safetensors"
        self.best = self.path / "best.safetensors"
        self.classifier = self.path / "classifier.safetensors"
        self.record = self.path / "encoder.json"
        self.history = self.path / "history.parquet"
        self.progress = self.path / "progress.json"
        self.checkpoints = self.path / "checkpoints"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration: `encoder`, `version`, `block`, `dataset` and, if any, `init_from`."""
        if not (self.path / "config.json").exists():
            raise TrainingError(
                f"{self.path}: not the folder of an encoder, it has no config.json.",
                to_fix="give encoders/<encoder>/<version> of a store, as laid out by `cytonet run`",
            )
        return read_record(self.path / "config.json")

    @property
    def first(self) -> Path:
        """The weights that training starts from, or those of `method: pretrained`; there if `init_from` is."""
        return self.path / first_weights_name(self.config)

    @property
    def name(self) -> str:
        """Name of the encoder."""
        return str(self.config["encoder"])

    @property
    def version(self) -> str:
        """Digest of what this encoder may see and how it is trained."""
        return str(self.config["version"])

    @cached_property
    def block(self) -> EncoderBlock:
        """The experiments entry."""
        return EncoderBlock.model_validate(self.config["block"])

    @cached_property
    def dataset(self) -> DatasetBlock:
        """The `dataset:` block that the patches come from."""
        return DatasetBlock.model_validate(self.config["dataset"])

    @property
    def work_px(self) -> int:
        """Edge of the network's input (px)."""
        return self.block.work_px(self.dataset.patch_um)

    @cached_property
    def sections(self) -> pd.DataFrame:
        """The training set's sections, in schema `training_sections`."""
        return read_table(self.path / "sections.parquet", "training_sections")

    @cached_property
    def patches(self) -> pd.DataFrame:
        """The training set's patches, in schema `training_patches`; names as categories: ten million rows are meant."""
        patches = read_table(self.path / "patches.parquet", "training_patches", categories=_NAMES)
        # Sorted, so that a code does not depend on which name came first.
        return patches.assign(
            **{n: patches[n].cat.reorder_categories(sorted(patches[n].cat.categories)) for n in _NAMES}
        )

    def fingerprint(self) -> str:
        """Digest of all that a checkpoint depends on: the configuration and the patches, not how they are read."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        computation = keys_affecting(EncoderBlock, "computation")
        block = {key: value for key, value in self.config["block"].items() if key not in computation}
        patches = {name: digest_array(_plain(self.patches[name])) for name in _DECISIVE}
        return digest_of([{**self.config, "block": block}, patches])


def first_weights_name(config: Mapping[str, Any]) -> str:
    """Return the name that the file of `init_from` or `weights` has in the folder; its suffix says how to read it."""
    return f"init{Path((config.get('init_from') or {}).get('path', '')).suffix or '.safetensors'}"


def _plain(column: pd.Series) -> np.ndarray:
    """Return a column as numbers; a name becomes its place among the sorted names."""
    return (column.cat.codes if isinstance(column.dtype, pd.CategoricalDtype) else column).to_numpy()
