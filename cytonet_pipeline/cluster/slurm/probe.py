"""Examine a compute node and write down the results. Sent to the node as text, for any Python from 3.8 on.

Nothing is imported at the top that might be missing there: to find out what is missing is the purpose.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import socket
import sys
import time
from importlib import metadata
from typing import Any

# Large enough to meet a full quota: small files still fit into one.
_TRIAL_MB = 16


def look(asked: dict[str, Any]) -> dict[str, Any]:
    """Describe this node. `asked`: place, token, paths, packages, launcher, master_suffix, packs."""
    seen: dict[str, Any] = {"node": _node(), "python": sys.version.split()[0], "time": time.time()}
    seen["token"] = _read(os.path.join(asked["place"], "token"))
    seen["unwritable"] = _write_trial(asked["place"])
    seen["free_gb"] = shutil.disk_usage(asked["place"]).free / 1e9
    seen["paths"] = {path: _fault_of(path) for path in asked["paths"]}
    seen["packages"] = {name: _version(name) for name in asked["packages"]}
    seen["gpus"] = _gpus()
    seen["cores"] = len(os.sched_getaffinity(0))
    seen["launcher"] = shutil.which(asked["launcher"])
    seen["master"] = _resolves(_node() + asked["master_suffix"])
    packs = os.path.expandvars(asked["packs"]) if asked["packs"] else None
    seen["packs"] = {"path": packs, "unwritable": _write_trial(packs), "free_gb": _free_gb(packs)} if packs else None
    return seen


def answer(place: str, patience_s: float = 30.0) -> None:
    """Wait for `ping` from the other side, and answer with `pong`."""
    deadline = time.time() + patience_s
    while not os.path.exists(os.path.join(place, "ping")) and time.time() < deadline:
        time.sleep(0.05)
    _put(os.path.join(place, "pong"), json.dumps({"time": time.time()}))


def _node() -> str:
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname().split(".")[0]


def _put(path: str, text: str) -> None:
    with open(path + ".new", "w") as stream:
        stream.write(text)
    os.replace(path + ".new", path)


def _read(path: str) -> str:
    try:
        with open(path) as stream:
            return stream.read()
    except OSError as error:
        return str(error)


def _write_trial(folder: str) -> str | None:
    path = os.path.join(folder, f".trial-{os.getpid()}")
    try:
        with open(path, "wb") as stream:
            for _ in range(_TRIAL_MB):
                stream.write(b"\0" * 1000000)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error.strerror
    finally:
        if os.path.exists(path):
            os.remove(path)
    return None


def _fault_of(path: str) -> str | None:
    try:
        os.listdir(path)
    except OSError as error:
        return error.strerror
    return None


def _free_gb(folder: str) -> float:
    try:
        return shutil.disk_usage(folder).free / 1e9
    except OSError:
        return 0.0


def _version(name: str) -> dict[str, str]:
    """Return the version of a package, or why it cannot be imported."""
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a broken library may raise anything
        return {"fault": f"{type(error).__name__}: {error}"}
    try:
        version = getattr(module, "__version__", None) or metadata.version(name.replace("_", "-"))
    except metadata.PackageNotFoundError:
        version = ""
    return {"version": str(version)}


def _gpus() -> list[str] | None:
    """Return the names of the GPUs that torch sees; None without torch."""
    torch = sys.modules.get("torch")
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch else None


def _resolves(name: str) -> list[str | None]:
    try:
        return [name, socket.gethostbyname(name)]
    except OSError:
        return [name, None]


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    _put(os.path.join(given["place"], "seen.json"), json.dumps(look(given)))
    answer(given["place"])
