"""The import of torchvision, which also works beside a CPU build of torch.

The torchvision of PyPI is linked against CUDA: beside a CPU torch its compiled operators do not load, and the import
fails with "operator torchvision::nms does not exist". Backbones need none of these operators; declaring two of them
before the import is enough. Where the plain import works, nothing is declared.
"""

import importlib
import sys
from types import ModuleType

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# A declaration is valid as long as its library object is alive.
_declared: list[torch.library.Library] = []


def torchvision_models() -> ModuleType:
    """Import and return `torchvision.models`, also beside a CPU build of torch."""
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    # The failed import leaves some of its modules behind.
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _declared.append(library)
    return importlib.import_module("torchvision.models")
