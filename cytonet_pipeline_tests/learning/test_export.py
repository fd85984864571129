"""Exported encoders give the same features in programs that know nothing of this package."""

import errno
import json

import numpy as np
import pytest
import torch

from cytonet_pipeline.errors import ConfigurationError, TrainingError
from cytonet_pipeline.learning import export
from cytonet_pipeline.learning.backbones.encoders import load_encoder, new_encoder, save_encoder
from cytonet_pipeline.learning.export import export_encoder
from cytonet_pipeline.settings import EncoderBlock
from cytonet_pipeline.store import write_record

METADATA = {"working_pixel_um": 4.0, "work_px": 64, "encoder": "tiny"}
BATCHES = (1, 2, 5)


@pytest.fixture(scope="module", params=["small", pytest.param("resnet50", marks=pytest.mark.long)])
def folder(request, tmp_path_factory):
    """An encoder whose batch normalisations have seen something."""
    path = tmp_path_factory.mktemp(request.param)
    encoder = new_encoder(request.param, 0.6, 0.2, 0)
    with torch.no_grad():
        encoder(torch.rand(16, 1, 64, 64))
    save_encoder(path / "encoder.safetensors", encoder.eval(), METADATA)
    return path


def images(n):
    return torch.rand(n, 1, 64, 64, generator=torch.Generator().manual_seed(n))


def features(folder, batch):
    with torch.no_grad():
        return load_encoder(folder)(batch)


def test_a_torch_program_gives_the_same_features_for_any_batch(folder, tmp_path):
    path = export_encoder(folder, tmp_path / "encoder", "torch")

    extra_files = {export.METADATA: ""}
    program = torch.export.load(str(path), extra_files=extra_files).module()

    assert path == tmp_path / "encoder.pt2"
    for n in BATCHES:
        with torch.no_grad():
            torch.testing.assert_close(program(images(n)), features(folder, images(n)), rtol=0, atol=1e-4)
    read = json.loads(extra_files[export.METADATA])
    assert (read["working_pixel_um"], read["work_px"], read["mean"], read["std"]) == (4.0, 64, 0.6, 0.2)


def test_onnx_runtime_gives_the_same_features_for_any_batch(folder, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime, onnx and onnxscript are needed")
    path = export_encoder(folder, tmp_path / "encoder.onnx", "onnx")

    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    assert [file.name for file in tmp_path.iterdir()] == ["encoder.onnx"]
    for n in BATCHES:
        (computed,) = session.run(None, {"images": images(n).numpy()})
        np.testing.assert_allclose(computed, features(folder, images(n)).numpy(), rtol=0, atol=1e-4)
    read = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert (read["working_pixel_um"], read["work_px"], read["mean"], read["std"]) == (4.0, 64, 0.6, 0.2)


def test_missing_packages_are_named_with_the_command_that_installs_them(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else object())

    with pytest.raises(ConfigurationError, match="onnxscript") as fault:
        export_encoder(folder, tmp_path / "encoder.onnx", "onnx")

    assert "pip install onnx onnxscript" in str(fault.value)
    assert not list(tmp_path.iterdir())


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="onnx, torch"):
        export_encoder(tmp_path, tmp_path / "encoder", "tflite")


def test_an_encoder_without_a_pixel_size_is_refused(tmp_path):
    save_encoder(tmp_path / "encoder.safetensors", new_encoder("small", 0.5, 0.2, 0), {})

    with pytest.raises(TrainingError, match="working_pixel_um"):
        export_encoder(tmp_path, tmp_path / "encoder", "torch")


def test_a_folder_is_no_file_to_write(folder, tmp_path):
    with pytest.raises(ConfigurationError, match="a folder, not a file") as caught:
        export_encoder(folder, tmp_path, "torch")

    assert str(tmp_path / "encoder") in caught.value.to_fix
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a_file/encoder.pt2", f"{'e' * 300}.pt2"])
def test_a_file_that_cannot_be_written_is_named_without_talk_of_the_store(folder, tmp_path, monkeypatch, name):
    """As a read-only place, which the superuser, who may run tests, does not have."""
    monkeypatch.setattr(export, "_write_torch", lambda *arguments: arguments[-1].write_bytes(b"program"))
    (tmp_path / "a_file").touch()

    with pytest.raises(ConfigurationError, match="cannot be written") as caught:
        export_encoder(folder, tmp_path / name, "torch")

    assert str(tmp_path / name) in caught.value.what
    assert "STORE" not in str(caught.value)


def test_a_read_only_file_system_is_said(folder, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(export, "_write_torch", refuse)

    with pytest.raises(ConfigurationError, match="read-only") as caught:
        export_encoder(folder, tmp_path / "encoder", "torch")

    assert "STORE" not in str(caught.value)


@pytest.mark.parametrize("method", ["intensity", "position"])
def test_a_control_without_weights_is_not_to_be_trained_but_cannot_be_exported(tmp_path, method):
    block = EncoderBlock.model_validate({"method": method, "working_pixel_um": 64}).model_dump(mode="json")
    write_record(tmp_path / "config.json", {"encoder": "grey", "version": "0" * 16, "block": block, "dataset": {}})

    with pytest.raises(ConfigurationError, match=f"grey: a control of method {method} has no weights"):
        export_encoder(tmp_path, tmp_path / "encoder", "torch")
