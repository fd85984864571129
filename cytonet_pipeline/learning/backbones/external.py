"""Networks of torchvision and timm with the weights that other people trained: `method: pretrained`.

Such an encoder sees a patch as its own training saw photographs: in its own size, the grey value in every channel, with
its own normalisation. The weights are a local file. Nothing is downloaded, and no pickled code is executed.

Importing this module does not import torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytonet_pipeline.errors import ConfigurationError, TrainingError
from cytonet_pipeline.settings import EncoderBlock

if TYPE_CHECKING:
    import torch
    from torch import nn

# What `backbone:` starts with, for a network of the library.
LIBRARIES = ("torchvision/", "timm/")
# Where files keep the weights, if not at the top: torch hub, Lightning, DINO, MAE and others.
_NESTED = ("state_dict", "model", "teacher", "backbone")
# What wrappers put in front of every name.
_WRAPPED = ("module.", "backbone.", "encoder.")
_MOST_NAMED = 3


@dataclass(frozen=True)
class NetworkInput:
    """What a network's own training gave it.

    Attributes
    ----------
    size : (int, int)
        Height and width (px).
    mean, std : tuple of float
        Normalisation of each channel, of values in 0..1.
    classifier : tuple of str
        Paths of the layers that were its classifier.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classifier: tuple[str, ...]


class External:
    """A `Backbone` of a library, without its classifier.

    Parameters
    ----------
    name : str
        `torchvision/NAME` or `timm/NAME`, with the library's own name of the model.

    Raises
    ------
    ConfigurationError
        The library is not installed or has no such model, or the model has no linear classifier to take off.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._feature_dim: int | None = None

    @property
    def feature_dim(self) -> int:
        """Number of features D."""
        if self._feature_dim is None:
            self.network()
        assert self._feature_dim is not None
        return self._feature_dim

    def network(self) -> nn.Module:
        """Make the network with random weights, from grey images (N, 1, H, W) in 0..1 to features (N, D)."""
        from cytonet_pipeline.learning.backbones.grey_input import GreyInput

        require_model(self._name)
        library, _, model = self._name.partition("/")
        network, seen, self._feature_dim = _of_timm(model) if library == "timm" else _of_torchvision(model)
        return GreyInput(network, seen)

    def blocks(self, network: nn.Module) -> list[nn.Module]:
        """Refuse: networks of this kind are not trained here."""
        raise ConfigurationError(
            f"backbone {self._name}: its activations cannot be recomputed.",
            to_fix="switch off activation_checkpointing",
        )

    def head(self, network: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """Refuse, as `blocks`."""
        raise ConfigurationError(f"backbone {self._name}: it is not known how it is put together.")


def require_model(name: str) -> None:
    """Refuse a name that its library does not know, or whose library is not installed.

    Raises
    ------
    ConfigurationError
        With near names, or how to install the library.
    """
    from cytonet_pipeline.learning.backbones.torchvision_import import torchvision_models

    # timm imports torchvision, too.
    models = torchvision_models()
    library, _, model = name.partition("/")
    if library != "timm":
        known = models.list_models(module=models)
    elif find_spec("timm") is None:
        raise ConfigurationError(f"backbone {name}: timm is not installed.", to_fix="pip install timm")
    else:
        import timm

        known = timm.list_models()
        # What follows a dot names weights, which here come from a file.
        model = model.partition(".")[0]
    if model not in known:
        near = get_close_matches(model, known, n=5) or known[:5]
        raise ConfigurationError(
            f"backbone {name}: {library} has no such model.",
            to_fix=f"use one of its names, such as {', '.join(f'{library}/{each}' for each in near)}",
        )


def _of_torchvision(model: str) -> tuple[Any, NetworkInput, int]:
    """Make a model without its classifier; with its input and its number of features."""
    from torch import nn

    from cytonet_pipeline.learning.backbones.torchvision_import import torchvision_models

    models = torchvision_models()
    network = getattr(models, model)(weights=None)
    own = models.get_model_weights(model).DEFAULT.transforms()
    linear = [(path, layer.in_features) for path, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ConfigurationError(
            f"backbone torchvision/{model}: it has no linear classifier to take off.", to_fix="use another model"
        )
    # The classifier comes last in every model; before it MLPs of transformers have linear layers, too.
    path, dim = linear[-1]
    network.set_submodule(path, nn.Identity())
    edge = int(own.crop_size[0])
    return network, NetworkInput((edge, edge), tuple(own.mean), tuple(own.std), (path,)), dim


def _of_timm(model: str) -> tuple[Any, NetworkInput, int]:
    """Make a model without its classifier; with its input and its number of features."""
    import timm

    data: Any = import_module("timm.data")
    network: Any = timm.create_model(model, pretrained=False, num_classes=0)
    own = data.resolve_model_data_config(network)
    height, width = own["input_size"][-2:]
    classifier = network.pretrained_cfg["classifier"] or ()
    paths = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    seen = NetworkInput((height, width), tuple(own["mean"]), tuple(own["std"]), paths)
    return network, seen, int(getattr(network, "head_hidden_size", network.num_features))


def load_external(backbone: str, network: Any, path: Path) -> None:
    """Load a file of weights into a network that `External` made.

    Prefixes of wrappers and the classifier are left out; timm's own conversions are applied, which know the names of
    the original repositories (DINOv2, MAE …).

    Parameters
    ----------
    backbone : str
        Name of the network.
    network : GreyInput
    path : Path
        `.safetensors`, or what `torch.save` wrote, read with `weights_only`: tensors, never code.

    Raises
    ------
    TrainingError
        The file is missing, damaged, holds more than tensors, or the weights of another architecture.
    """
    inner = network.network
    weights = _without_prefixes(_tensors_in(path), inner)
    convert = getattr(sys.modules[type(inner).__module__], "checkpoint_filter_fn", None)
    try:
        if backbone.startswith("timm/") and convert is not None:
            weights = dict(convert(weights, inner))
        classifier = tuple(f"{name}." for name in network.seen.classifier)
        weights = {name: value for name, value in weights.items() if not name.startswith(classifier)}
        result = inner.load_state_dict(weights, strict=False)
    except (RuntimeError, KeyError) as error:
        # The first line names the class; the next ones say what does not fit.
        lines = str(error).splitlines()
        raise _other_architecture(path, backbone, "; ".join((lines[1:] or lines)[:_MOST_NAMED]).strip()) from error
    faults = {"missing": result.missing_keys, "unknown": result.unexpected_keys}
    named = [f"{len(keys)} {what} ({', '.join(keys[:_MOST_NAMED])})" for what, keys in faults.items() if keys]
    if named:
        raise _other_architecture(path, backbone, "; ".join(named))


def _other_architecture(path: Path, name: str, why: str) -> TrainingError:
    return TrainingError(
        f"{path}: does not hold the weights of {name}: {why}.",
        to_fix="let `backbone` and `weights` of the entry belong to each other",
    )


def _tensors_in(path: Path) -> dict[str, torch.Tensor]:
    import pickle

    import safetensors
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise TrainingError(
            f"{path}: holds more than tensors, and code from a file is not executed.",
            to_fix="save its state_dict alone, or as safetensors, where you trust the file",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, safetensors.SafetensorError) as error:
        raise TrainingError(f"{path}: not a readable file of weights ({str(error).splitlines()[0]}).") from error
    for key in _NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise TrainingError(f"{path}: not a state_dict, from names to tensors.", to_fix="save the model's state_dict()")
    return content


def _without_prefixes(weights: dict[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    own = {name.partition(".")[0] + "." for name, _ in network.named_parameters()}
    while weights and (
        wrapped := next((p for p in _WRAPPED if p not in own and all(k.startswith(p) for k in weights)), "")
    ):
        weights = {key.removeprefix(wrapped): value for key, value in weights.items()}
    return weights


def problem_of(name: str, block: EncoderBlock) -> str:
    """Return what is wrong with an entry of `method: pretrained` before it is used; empty if nothing is."""
    path = weights_path(block)
    if not path.is_file():
        return (
            f"encoder {name}: weights {path}: no such file. Nothing is downloaded: put it there, or correct `weights`"
        )
    try:
        require_model(block.backbone)
    except ConfigurationError as error:
        return f"encoder {name}: {error}"
    return ""


def weights_path(block: EncoderBlock) -> Path:
    """Return the file that `weights` names."""
    return Path(block.weights or "").expanduser().absolute()
