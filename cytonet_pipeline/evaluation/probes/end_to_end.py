"""The classifier that was trained together with its network, as the poster's training from scratch has one.

It is read as `learning` wrote it and applied to the features; nothing is fitted here.
"""

from pathlib import Path

from cytonet_pipeline.evaluation.probes.heads import LinearHead

CLASSIFIER = "classifier.safetensors"


def read_classifier(encoder_folder: Path) -> LinearHead:
    """Classifier of an encoder of method `scratch`, on the encoder's features.

    Raises
    ------
    StoreError
        The training left none.
    """
    return LinearHead.read(encoder_folder / CLASSIFIER)
