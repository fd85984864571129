"""Train the encoder of a prepared folder.

    python -m cytonet_pipeline.learning STORE/encoders/NAME/VERSION --data DATASET
    torchrun --nproc-per-node 4 -m cytonet_pipeline.learning …                      four ranks of one batch

It goes on from the last checkpoint by itself. SIGTERM and SIGUSR1 finish the step, write a checkpoint and exit with
code 75: run it again to continue. Exit codes: 0 done, 75 continue me, 1 a fault that the last line explains.
"""

import argparse
import logging
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cytonet_pipeline.errors import CytonetError, TrainingError
from cytonet_pipeline.store import read_record

if TYPE_CHECKING:
    import torch


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, train, and return the exit code."""
    options = _parser().parse_args(arguments)
    # After the options: help and misspelt options need not wait for torch.
    import torch

    from cytonet_pipeline.learning.pipes import told_to_dagster
    from cytonet_pipeline.learning.training.run import FAILED, run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        with told_to_dagster() as tell:
            tell({"state": "started", "folder": str(options.folder)})
            code = run(options.folder, options.data, _device(options.device), options.packs, workers=options.workers)
            tell({"state": "ended", "exit_code": code, **_figures(options.folder)})
            return code
    except CytonetError as error:
        print(error, file=sys.stderr, flush=True)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cytonet_pipeline.learning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="encoders/<encoder>/<version> of a store")
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="the data set (BIDS root)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads a rank; default: torch decides")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU where there is one"
    )
    packs = os.environ.get("CYTONET_PACKS")
    parser.add_argument(
        "--packs", "--packed", type=_folder, metavar="DIR", default=packs or None,
        help="folder of packed patches, best on the node's own disk, as $TMPDIR; default: CYTONET_PACKS, or "
        "`packed` in the store",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, metavar="N", help="loader threads a rank; default: `workers` of the experiments entry"
    )
    return parser


def _folder(text: str) -> Path:
    """A folder of this node: only here its variables are known."""
    path = os.path.expanduser(os.path.expandvars(text))
    if "$" in path:
        raise argparse.ArgumentTypeError(f"{text}: names a variable that is not set on {socket.gethostname()}")
    return Path(path)


def _device(name: str) -> "torch.device":
    import torch

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


def _figures(folder: Path) -> dict[str, object]:
    record = folder / "encoder.json"
    return dict(read_record(record)["figures"]) if record.exists() else {}


if __name__ == "__main__":
    sys.exit(main())
