"""Choice of the device that a process computes on."""

import os
import socket

import torch

from cytonet_pipeline.errors import TrainingError


def compute_device(name: str = "auto") -> torch.device:
    """Return the GPU of this process, or the CPU.

    Parameters
    ----------
    name : {"auto", "cpu", "cuda"}
        "auto": a GPU if there is one. Of several GPUs the process takes the one with its number on this machine
        (torchrun's LOCAL_RANK), and makes it the current one.

    Raises
    ------
    TrainingError
        There are fewer GPUs than ranks on this machine.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    local, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= gpus:
        raise TrainingError(
            f"rank {local} of this machine has no GPU: {socket.gethostname()} has {gpus}.",
            to_fix="set `processes` of the experiments entry to their number, or give --device cpu",
        )
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device
