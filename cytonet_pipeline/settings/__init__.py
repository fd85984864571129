"""What to work on: the environment says where things lie, the experiments file what to do with them.

Both are validated strictly: a key that nobody reads is a misspelt key. Nothing here is read at import.
"""

from cytonet_pipeline.settings.encoder_block import (
    CONTROLS,
    SUPERVISED,
    TRAINED,
    TRAINING_CODE_VERSION,
    WITHOUT_WEIGHTS,
    AugmentationBlock,
    EncoderBlock,
    LossBlock,
    Method,
    OptimizerBlock,
)
from cytonet_pipeline.settings.environment import Settings
from cytonet_pipeline.settings.experiments import DatasetBlock, EvaluationBlock, Experiments, IngestBlock
from cytonet_pipeline.settings.keys import content_for_version, keys_affecting
from cytonet_pipeline.settings.names import accept_names
from cytonet_pipeline.settings.project import SHIPPED, project_file, project_folder
from cytonet_pipeline.settings.reading import read_all_experiments, read_experiments
from cytonet_pipeline.settings.strict import Strict, read_strictly
from cytonet_pipeline.settings.variants import row_name

__all__ = [
    "CONTROLS",
    "SHIPPED",
    "SUPERVISED",
    "TRAINED",
    "TRAINING_CODE_VERSION",
    "WITHOUT_WEIGHTS",
    "AugmentationBlock",
    "DatasetBlock",
    "EncoderBlock",
    "EvaluationBlock",
    "Experiments",
    "IngestBlock",
    "LossBlock",
    "Method",
    "OptimizerBlock",
    "Settings",
    "Strict",
    "accept_names",
    "content_for_version",
    "keys_affecting",
    "project_file",
    "project_folder",
    "read_all_experiments",
    "read_experiments",
    "read_strictly",
    "row_name",
]
