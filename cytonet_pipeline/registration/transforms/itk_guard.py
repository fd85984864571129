"""Reading strangers' files with ITK first in a process of its own, so that a crash there is a fault of that file.

ITK's readers are native code: a damaged HDF5 file can end the process that reads it. What the worker process has read
to the end may be read in this one.
"""

import os
import threading
from pathlib import Path
from typing import Any, Literal

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.guard import GuardedProcess, GuardedProcessError, seconds_for
from cytonet_pipeline.registration.transforms import itk_worker

WRITE_AGAIN = "write the transform again with the program that made it"

Kind = Literal["transform", "image"]
# A script, and not a module of the package: it starts faster.
_itk = GuardedProcess([itk_worker.__file__])
_answers: dict[tuple[str, str, int, int], dict[str, Any]] = {}
_lock = threading.Lock()


class RejectedByItkError(Exception):
    """ITK cannot read a file, and says why."""


def ask_itk(kind: Kind, path: Path) -> dict[str, Any]:
    """Have a file read by ITK in another process.

    Parameters
    ----------
    kind : {"transform", "image"}
        Whether to read a transform to the end, or the place of an image.

    Returns
    -------
    dict
        Nothing for a transform that can be read; origin, spacing and direction (LPS mm) for an image.

    Raises
    ------
    RejectedByItkError
        ITK refuses the file.
    TransformError
        ITK crashes over it, or does not come to an end.
    """
    status = path.stat()
    # The answer holds for one version of the file.
    key = (kind, str(path.resolve()), status.st_mtime_ns, status.st_size)
    with _lock:
        if key not in _answers:
            _answers[key] = _answer(kind, path, status.st_size)
        reply = _answers[key]
    if "crash" in reply:
        raise TransformError(
            f"{path}: reading it with ITK {reply['crash']}: the file is damaged.",
            to_fix=f"copy it again, or {WRITE_AGAIN}",
        )
    if "error" in reply:
        raise RejectedByItkError(reply["error"])
    return reply


def _answer(kind: Kind, path: Path, size: int) -> dict[str, Any]:
    try:
        return _itk.ask({"read": kind, "path": os.path.abspath(path)}, seconds_for(size))
    except GuardedProcessError as error:
        return {"crash": str(error)}
