"""The folder of one version of an encoder: what a training reads there and what it leaves.

It holds everything but the scans: a training can be moved to another machine by copying it.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.settings import DatasetBlock, EncoderBlock
from cytonet_pipeline.store import digest_array, digest_of, read_record, read_table


class EncoderFolder:
    """Paths and contents of `encoders/<encoder>/<version>`."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self.weights = self.path / "encoder.safetensors"
        self.classifier = self.path / "classifier.safetensors"
        self.record = self.path / "encoder.json"
        self.history = self.path / "history.parquet"
        self.progress = self.path / "progress.json"
        self.checkpoints = self.path / "checkpoints"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration: `encoder`, `version`, `block`, `dataset`."""
        if not (self.path / "config.json").exists():
            raise TrainingError(
                f"{self.path}: not the folder of an encoder, it has no config.json.",
                to_fix="give encoders/<encoder>/<version> of a store, as laid out by `cytonet run`",
            )
        return read_record(self.path / "config.json")

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
        """The training set's patches, in schema `training_patches`."""
        return read_table(self.path / "patches.parquet", "training_patches")

    def fingerprint(self) -> str:
        """Digest of all that a checkpoint depends on: the configuration and the patches."""
        relevant = self.patches[["patch_id", "role", "annotated_area"]]
        return digest_of([self.config, digest_array(pd.util.hash_pandas_object(relevant, index=False).to_numpy())])
