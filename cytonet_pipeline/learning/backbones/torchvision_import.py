"""Importing torchvision beside a CPU build of torch.

The torchvision of PyPI is linked against CUDA; its compiled operators do not load beside a CPU torch, and the import
fails with "operator torchvision::nms does not exist". Backbones need none of them: it is enough that two operators are
declared before the import. Where the plain import works, nothing is touched.
"""

import importlib
import sys
from types import ModuleType

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# A declaration lives as long as its library object.
_declared: list[torch.library.Library] = []


def torchvision_models() -> ModuleType:
    """`torchvision.models`, also beside a CPU build of torch."""
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    # The failed import leaves half of its modules behind.
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _declared.append(library)
    return importlib.import_module("torchvision.models")
