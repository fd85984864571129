"""Encoders for programs that know nothing of this package: ONNX, and PyTorch's exported programs (.pt2).

The file takes grey images (N, 1, work_px, work_px), float32 in 0..1 (grey value / 255), N at will, and gives features
(N, D); normalisation is part of it. What else a user must know stands inside: the pixel size above all.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch

from cytonet_pipeline.errors import ConfigurationError, TrainingError
from cytonet_pipeline.learning.backbones.encoders import Encoder, load_encoder, read_metadata
from cytonet_pipeline.store import atomic_file

Format = Literal["onnx", "torch"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
# Beside torch itself, what torch.onnx translates with.
ONNX_PACKAGES = ("onnx", "onnxscript")
METADATA = "encoder.json"
_WANTED = ("working_pixel_um", "work_px", "mean", "std", "backbone", "feature_dim")


def export_encoder(folder: Path | str, to: Path, format: Format) -> Path:
    """Write an encoder in another form.

    Parameters
    ----------
    folder : path
        The folder of an encoder's version, or its `encoder.safetensors`.
    to : Path
        File to write; without a suffix it gets that of the format.
    format : {"onnx", "torch"}
        `onnx`: metadata in `metadata_props`, each value as JSON. `torch`: for `torch.export.load`, metadata in the
        extra file `encoder.json`.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ConfigurationError
        Unknown format, or the packages that it needs are not installed.
    TrainingError
        There is no encoder, or its file is damaged or does not say what size of image it takes.
    """
    if format not in SUFFIXES:
        raise ConfigurationError(f"no export format {format!r}.", to_fix=f"take one of {', '.join(SUFFIXES)}")
    missing = [name for name in ONNX_PACKAGES if format == "onnx" and find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"export to ONNX needs {' and '.join(missing)}.", to_fix=f"pip install {' '.join(ONNX_PACKAGES)}"
        )
    metadata = _metadata(folder)
    encoder, images = load_encoder(folder), torch.zeros(2, 1, metadata["work_px"], metadata["work_px"])
    path = to if to.suffix else to.with_suffix(SUFFIXES[format])
    with atomic_file(path) as temporary, _quiet():
        (_write_onnx if format == "onnx" else _write_torch)(encoder, images, metadata, temporary)
    return path


def _metadata(folder: Path | str) -> dict[str, Any]:
    known = read_metadata(folder)
    missing = [name for name in _WANTED if name not in known]
    if missing:
        raise TrainingError(
            f"{folder}: the encoder does not say its {', '.join(missing)}.",
            to_fix="export an encoder that this pipeline has trained",
        )
    described = {
        "input": "grey images (N, 1, work_px, work_px), float32, grey value / 255, background near 1",
        "output": "features (N, feature_dim)",
        "normalisation": "(image - mean) / std, done inside",
    }
    return {**known, **described}


def _write_torch(encoder: Encoder, images: torch.Tensor, metadata: dict[str, Any], path: Path) -> None:
    program = torch.export.export(encoder, (images,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}})
    with path.open("wb") as stream:
        torch.export.save(program, stream, extra_files={METADATA: json.dumps(metadata, indent=2, sort_keys=True)})


def _write_onnx(encoder: Encoder, images: torch.Tensor, metadata: dict[str, Any], path: Path) -> None:
    program = torch.onnx.export(
        encoder,
        (images,),
        input_names=["images"],
        output_names=["features"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise TrainingError("torch.onnx returned no program.", to_fix="export in the format torch")
    program.model.metadata_props.update({key: json.dumps(value, sort_keys=True) for key, value in metadata.items()})
    program.save(path, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks of its own insides; what it refuses it raises."""
    talkative = logging.getLogger("torch.onnx")
    level = talkative.level
    talkative.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        talkative.setLevel(level)
