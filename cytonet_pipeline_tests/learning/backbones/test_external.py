"""Encoders of torchvision and timm with weights from a local file, compared with the libraries themselves."""

import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cytonet_pipeline.errors import ConfigurationError, TrainingError
from cytonet_pipeline.learning.backbones import external
from cytonet_pipeline.learning.backbones.encoders import load_encoder
from cytonet_pipeline.learning.backbones.external import External, load_external, problem_of, require_model
from cytonet_pipeline.learning.backbones.torchvision_import import torchvision_models
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.prepare import finish, write_encoder_folder
from cytonet_pipeline.learning.training.run import run
from cytonet_pipeline.settings import EncoderBlock
from cytonet_pipeline.store import digest_file
from cytonet_pipeline_tests.learning.tiny_training import DATASET

# The smallest of torchvision's.
NAME = "torchvision/mobilenet_v3_small"
MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def theirs(seed=3, classes=1000):
    """A model of torchvision's, as others would have trained it."""
    torch.manual_seed(seed)
    return torchvision_models().mobilenet_v3_small(num_classes=classes).eval()


@pytest.fixture(scope="module")
def model():
    return theirs()


@pytest.fixture
def file(tmp_path, model):
    path = tmp_path / "mobilenet.pth"
    torch.save(model.state_dict(), path)
    return path


def loaded(path, name=NAME):
    network = External(name).network().eval()
    load_external(name, network, path)
    return network


def features_of(model, images):
    """Features by torchvision's own model, with its classifier taken off by hand."""
    last, model.classifier[3] = model.classifier[3], nn.Identity()
    try:
        with torch.inference_mode():
            return model((images.repeat(1, 3, 1, 1) - MEAN) / STD)
    finally:
        model.classifier[3] = last


def test_features_are_those_of_the_library_on_three_equal_channels(file, model):
    images = torch.rand(2, 1, 224, 224)

    with torch.inference_mode():
        ours = loaded(file)(images)

    torch.testing.assert_close(ours, features_of(model, images))
    assert ours.shape[1] == External(NAME).feature_dim == 1024


def test_patches_of_another_size_are_resized_to_that_of_the_network(file, model):
    images = torch.rand(1, 1, 448, 448)
    # Twice as large: with an anti-aliasing filter of two output pixels, close to the mean of 2 x 2 for smooth images.
    smooth = nn.functional.avg_pool2d(images, 65, stride=1, padding=32)

    with torch.inference_mode():
        ours = loaded(file)(smooth)

    torch.testing.assert_close(ours, features_of(model, nn.functional.avg_pool2d(smooth, 2)), rtol=0.05, atol=0.02)


def test_files_as_people_have_them_are_read(tmp_path, model):
    """Safetensors, a checkpoint of Lightning or DDP, and a classifier of another size."""
    state = model.state_dict()
    files = {name: tmp_path / name for name in ("a.safetensors", "b.pth", "c.ckpt")}
    save_file(state, files["a.safetensors"])
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}, files["b.pth"])
    other = theirs(classes=7)
    other.load_state_dict({n: v for n, v in state.items() if not n.startswith("classifier.3")}, strict=False)
    torch.save({"model": other.state_dict()}, files["c.ckpt"])

    for path in files.values():
        ours = loaded(path).network.state_dict()
        assert all(torch.equal(ours[name], state[name]) for name in ours), path


def test_timm_gives_its_own_features(tmp_path):
    import timm

    torch.manual_seed(0)
    model = timm.create_model("test_vit", pretrained=False).eval()
    path = tmp_path / "vit.pth"
    torch.save(model.state_dict(), path)
    images = torch.rand(2, 1, 160, 160)
    config = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))

    with torch.inference_mode():
        ours = loaded(path, "timm/test_vit.r160_in1k")(images)
        expected = model.forward_head(model.forward_features((images.repeat(1, 3, 1, 1) - mean) / std), pre_logits=True)

    torch.testing.assert_close(ours, expected)
    assert External("timm/test_vit.r160_in1k").feature_dim == expected.shape[1]


def test_weights_under_the_names_of_dinov2_load_into_timm(tmp_path):
    """The file that people download has a mask token, which timm's networks lack."""
    import timm

    torch.manual_seed(0)
    state = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0).state_dict()
    path = tmp_path / "dino.pth"
    torch.save(
        {"teacher": {f"backbone.{name}": v for name, v in {**state, "mask_token": torch.zeros(1, 192)}.items()}}, path
    )

    ours = loaded(path, "timm/vit_tiny_patch16_224").network.state_dict()

    assert all(torch.equal(ours[name], value) for name, value in state.items())


class Payload:
    """What a hostile file could run."""

    def __reduce__(self):
        return os.mkdir, (os.environ["PAYLOAD"],)


def test_code_in_a_file_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.setenv("PAYLOAD", str(tmp_path / "executed"))
    torch.save({"state_dict": Payload()}, tmp_path / "weights.pth")

    with pytest.raises(TrainingError, match=r"holds more than tensors.*(?s:.*)as safetensors"):
        loaded(tmp_path / "weights.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_named(tmp_path, file, suffix):
    path = tmp_path / f"half{suffix}"
    path.write_bytes(file.read_bytes()[:50_000])

    with pytest.raises(TrainingError, match=f"half{suffix}: (not a readable file of weights|holds more than tensors)"):
        loaded(path)


def test_weights_of_another_architecture_are_refused_with_some_names(tmp_path, file):
    with pytest.raises(TrainingError, match=r"does not hold the weights of torchvision/resnet18: .*missing \(conv1"):
        loaded(file, "torchvision/resnet18")
    with pytest.raises(TrainingError, match=r"mobilenet_v3_large: .*size mismatch"):
        loaded(file, "torchvision/mobilenet_v3_large")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(TrainingError, match="not a state_dict"):
        loaded(tmp_path / "list.pth")


def test_an_unknown_model_is_refused_with_near_names():
    with pytest.raises(ConfigurationError, match=r"torchvision has no such model\.(?s:.*)torchvision/resnet50"):
        require_model("torchvision/resnet5O")
    with pytest.raises(ConfigurationError, match=r"timm has no such model\.(?s:.*)timm/vit_small_patch14_dinov2"):
        require_model("timm/vit_smal_patch14_dinov2.lvd142m")
    with pytest.raises(ConfigurationError, match="no linear classifier"):
        External("torchvision/squeezenet1_0").network()


def test_without_timm_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(external, "find_spec", lambda name: None)

    with pytest.raises(ConfigurationError, match=r"timm is not installed\.(?s:.*)pip install timm"):
        require_model("timm/vit_small_patch14_dinov2")


def block_of(path, **more):
    return EncoderBlock(
        **{"method": "pretrained", "backbone": NAME, "weights": str(path), "working_pixel_um": 64.0, **more}
    )


def test_a_problem_is_found_before_anything_runs(tmp_path, file):
    assert problem_of("net", block_of(file)) == ""
    assert "no such file. Nothing is downloaded" in problem_of("net", block_of(tmp_path / "absent.pth"))
    assert "no such model" in problem_of("net", block_of(file, backbone="torchvision/x"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": None}, "a file for `method: pretrained`"),
        ({"method": "cytonet"}, "for no other method"),
        ({"backbone": "small"}, "takes torchvision/NAME or timm/NAME"),
        ({"init_from": "one"}, "a pretrained encoder is not trained"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(file, change, message):
    with pytest.raises(ValueError, match=message):
        block_of(file, **change)


def test_the_encoder_of_the_store_is_the_library_s_network(tiny, tmp_path, model, file):
    """From the prepared folder to features of patches, without a training step; the given file may go afterwards."""
    given = {"encoder": None, "version": None, "digest": digest_file(file), "path": str(file)}
    path = tiny.store / "encoders" / "net" / "v1"
    record = {"encoder": "net", "init_from": given}
    write_encoder_folder(path, "net", "v1", block_of(file), DATASET, tiny.sections, tiny.patches, record)
    file.unlink()

    assert run(path, tiny.data, torch.device("cpu")) == 0

    assert EncoderFolder(path).first.name == "init.pth"
    assert finish(path)["figures"]["feature_dim"] == 1024
    images = torch.rand(2, 1, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(load_encoder(path)(images), features_of(model, images))


def test_another_file_under_the_same_name_is_refused(tiny, file):
    given = {"encoder": None, "version": None, "digest": "0" * 64, "path": str(file)}
    path = tiny.store / "encoders" / "net" / "v1"
    record = {"encoder": "net", "init_from": given}
    write_encoder_folder(path, "net", "v1", block_of(file), DATASET, tiny.sections, tiny.patches, record)

    with pytest.raises(TrainingError, match="not the weights that this version continues from"):
        run(path, tiny.data, torch.device("cpu"))
