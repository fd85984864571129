"""Encoders for programs without this package: ONNX, and PyTorch's exported programs (.pt2).

The exported program takes any number N of grey images (N, 1, work_px, work_px), float32 in 0..1 (grey value / 255), and
returns features (N, D); normalisation is part of it. What else a user must know, above all the pixel size, is in the
file's metadata.
"""

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch

from cytonet_pipeline.errors import ConfigurationError, StoreError, TrainingError
from cytonet_pipeline.learning.backbones.encoders import Encoder, load_encoder, read_metadata
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.settings import WITHOUT_WEIGHTS
from cytonet_pipeline.store import atomic_file

Format = Literal["onnx", "torch"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
# What torch.onnx needs beside torch itself.
ONNX_PACKAGES = ("onnx", "onnxscript")
METADATA = "encoder.json"
_REQUIRED = ("working_pixel_um", "work_px", "mean", "std", "backbone", "feature_dim")


def export_encoder(folder: Path | str, to: Path, format: Format) -> Path:
    """Write an encoder in another format.

    Parameters
    ----------
    folder : path
        The folder of an encoder's version, or its `encoder.safetensors`.
    to : Path
        File to write; if it has no suffix, that of the format is added.
    format : {"onnx", "torch"}
        `onnx`: metadata in `metadata_props`, each value as JSON. `torch`: for `torch.export.load`, metadata in the
        extra file `encoder.json`.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    ConfigurationError
        The format is unknown, the packages that it needs are not installed, the encoder is a control without weights,
        or the file cannot be written.
    TrainingError
        There is no encoder, or its file is damaged or lacks metadata such as the size of its images.
    """
    if format not in SUFFIXES:
        raise ConfigurationError(f"no export format {format!r}.", to_fix=f"use one of {', '.join(SUFFIXES)}")
    missing = [name for name in ONNX_PACKAGES if format == "onnx" and find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"export to ONNX needs {' and '.join(missing)}.", to_fix=f"pip install {' '.join(ONNX_PACKAGES)}"
        )
    if os.path.isdir(to):
        raise ConfigurationError(f"{to}: a folder, not a file.", to_fix=f"name a file, such as {to / 'encoder'}")
    _require_weights(folder)
    metadata = _metadata(folder)
    encoder, images = load_encoder(folder), torch.zeros(2, 1, metadata["work_px"], metadata["work_px"])
    path = to if to.suffix else to.with_suffix(SUFFIXES[format])
    try:
        with atomic_file(path) as temporary, _quiet():
            (_write_onnx if format == "onnx" else _write_torch)(encoder, images, metadata, temporary)
    except StoreError as error:
        # It is no file of the store: what helps there does not help here.
        raise ConfigurationError(
            error.what, to_fix="name a file that this user can write, on a disk with space"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be written ({error.strerror or error}).", to_fix="name another file"
        ) from error
    return path


def _require_weights(folder: Path | str) -> None:
    """Refuse controls without weights; what else may be wrong with the folder, reading it says."""
    if not (Path(folder) / "config.json").is_file():
        return
    control = EncoderFolder(folder)
    if control.block.method in WITHOUT_WEIGHTS:
        raise ConfigurationError(
            f"encoder {control.name}: a control of method {control.block.method} has no weights to export.",
            to_fix=f"export an encoder of another method than {' and '.join(sorted(WITHOUT_WEIGHTS))}",
        )


def _metadata(folder: Path | str) -> dict[str, Any]:
    known = read_metadata(folder)
    missing = [name for name in _REQUIRED if name not in known]
    if missing:
        raise TrainingError(
            f"{folder}: the encoder's metadata lacks {', '.join(missing)}.",
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
        raise TrainingError("torch.onnx returned no program.", to_fix="export in the format `torch` instead")
    program.model.metadata_props.update({key: json.dumps(value, sort_keys=True) for key, value in metadata.items()})
    program.save(path, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's log about its internals; what it cannot do it raises."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
