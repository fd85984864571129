"""What a training run used: versions, commit, threads, ranks, host and device, recorded beside the weights."""

import importlib.metadata
import platform
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import cytonet_pipeline
from cytonet_pipeline.learning.parallel.distributed import world_size

# Where the sources lie: a checkout has a commit, an installed package has none.
_SOURCES = Path(cytonet_pipeline.__file__).resolve().parent.parent
_PACKAGES = (
    "cytonet-pipeline", "torch", "torchvision", "numpy", "pandas", "pyarrow", "safetensors", "tifffile", "imagecodecs",
)  # fmt: skip
# With one of these changed, sums are taken in another order: training continues, but not bit for bit.
_DECISIVE = ("ranks", "threads", "device", "torch")


def this_process(device: torch.device, workers: int) -> dict[str, Any]:
    """Describe where and with what this process trains."""
    return {
        "host": socket.gethostname(),
        "device": device_name(device),
        "ranks": world_size(),
        "threads": torch.get_num_threads(),
        "workers": workers,
        "torch": torch.__version__,
    }


def changes_between(before: Sequence[dict[str, Any]], now: dict[str, Any]) -> str:
    """Describe what has changed for a run that continues; empty if nothing that changes sums."""
    changes = [
        f"{name} {run[name]} → {now[name]}" for run in before for name in _DECISIVE if run.get(name) != now.get(name)
    ]
    return f"goes on with {', '.join(changes)}; not bit for bit what it would have been" if changes else ""


def environment() -> dict[str, Any]:
    """Return versions, platform, and the commit of a git checkout."""
    return {
        "packages": {name: version for name in _PACKAGES if (version := _version_of(name))},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": _git(),
    }


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Return the commit, and whether tracked files differ from it; None outside a checkout."""
    if not (_SOURCES / ".git").exists():
        return None
    commit = _git_output("rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "changed": bool(_git_output("status", "--porcelain", "-uno"))}


def _git_output(*arguments: str) -> str | None:
    command = ["git", "-C", str(_SOURCES), *arguments]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return finished.stdout.strip() if finished.returncode == 0 else None
