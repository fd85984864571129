"""What a training ran with: versions, commit, threads, ranks, host and device. It stands beside the weights."""

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
# Sums in another order are other sums: with one of these changed a training goes on, but not bit for bit.
_DECISIVE = ("ranks", "threads", "device", "torch")


def this_run(device: torch.device, workers: int) -> dict[str, Any]:
    """Where and with what this process trains."""
    return {
        "host": socket.gethostname(),
        "device": device_name(device),
        "ranks": world_size(),
        "threads": torch.get_num_threads(),
        "workers": workers,
        "torch": torch.__version__,
    }


def changes_between(before: Sequence[dict[str, Any]], now: dict[str, Any]) -> str:
    """What a training that goes on does with other means than before; empty if nothing that changes sums."""
    changed = [
        f"{name} {run[name]} → {now[name]}" for run in before for name in _DECISIVE if run.get(name) != now.get(name)
    ]
    return f"goes on with {', '.join(changed)}; not bit for bit what it would have been" if changed else ""


def environment() -> dict[str, Any]:
    """Versions, platform, and the commit of a git checkout."""
    return {
        "packages": {name: version for name in _PACKAGES if (version := _version_of(name))},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": _git(),
    }


def device_name(device: torch.device) -> str:
    """Name of a GPU, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Commit, and whether files that git knows differ from it; None outside of a checkout."""
    if not (_SOURCES / ".git").exists():
        return None
    commit = _said_by_git("rev-parse", "HEAD")
    return (
        None if commit is None else {"commit": commit, "changed": bool(_said_by_git("status", "--porcelain", "-uno"))}
    )


def _said_by_git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(_SOURCES), *words], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
