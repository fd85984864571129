"""The weights that a training begins with: random ones, or those of another encoder (`init_from`)."""

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.learning.backbones.encoders import Encoder, load_backbone, new_encoder
from cytonet_pipeline.learning.backbones.grey_values import grey_statistics
from cytonet_pipeline.learning.data.sources import PatchSource
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.store import digest_file


def first_encoder(folder: EncoderFolder, source: PatchSource) -> Encoder:
    """The encoder before the first step.

    Raises
    ------
    TrainingError
        The weights to continue from are not those that the version was named after, or of another backbone.
    """
    block = folder.block
    statistics = grey_statistics(source, folder.patches, folder.work_px)
    encoder = new_encoder(block.backbone, *statistics, block.seed)
    given = folder.config.get("init_from")
    if given is not None:
        if not folder.first.exists() or digest_file(folder.first) != given["digest"]:
            raise TrainingError(
                f"{folder.first}: not the weights that this version continues from.",
                looked_for=str(given["path"]),
                to_fix=f"delete {folder.path} and materialise training_set and encoder again",
            )
        load_backbone(encoder, folder.first)
    return encoder
