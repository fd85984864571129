"""Train the encoder of a prepared folder.

    python -m cytonet_pipeline.learning STORE/encoders/NAME/VERSION --data DATASET
    torchrun --nproc-per-node 4 -m cytonet_pipeline.learning …                      four GPUs share each batch

It continues from the last checkpoint. SIGTERM and SIGUSR1 finish the step, write a checkpoint and exit with code 75:
run it again to continue. Exit codes: 0 done, 75 to be continued, 1 an error that the last line explains.
"""

import argparse
import contextlib
import faulthandler
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.store import read_record
from cytonet_pipeline.store.reading_note import left_unread


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, train, and return the exit code."""
    options = _parser().parse_args(arguments)
    # After the options: help and misspelt options need not wait for torch.
    import torch

    from cytonet_pipeline.learning.device import compute_device
    from cytonet_pipeline.learning.training.run import FAILED, run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    # A crash of native code leaves its traceback in the log, and the next attempt says what was read then.
    # Not of a stream of Python that stands in for it, as in a notebook.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        faulthandler.enable()
    if read := left_unread():
        logging.getLogger(__name__).warning("%s", read)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        with dagster_messages() as send:
            send({"state": "started", "folder": str(options.folder)})
            device = compute_device(options.device)
            code = run(options.folder, options.data, device, options.packs, workers=options.workers)
            send({"state": "ended", "exit_code": code, **_figures(options.folder)})
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
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads per rank; default: torch decides")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one"
    )
    packs = os.environ.get("CYTONET_PACKS")
    parser.add_argument(
        "--packs", "--packed", type=_folder, metavar="DIR", default=packs or None,
        help="folder of packed patches, best on the node's own disk, as $TMPDIR; default: CYTONET_PACKS, or "
        "`packed` in the store",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, metavar="N", help="loader threads per rank; default: `workers` of the experiments entry"
    )
    return parser


@contextmanager
def dagster_messages() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that sends a message to Dagster, if Dagster Pipes started this process and it is rank 0.

    Only `dagster_pipes` is needed on the node. Live figures are in `progress.json`: messages of a process that Dagster
    has lost would reach nobody.
    """
    if "DAGSTER_PIPES_CONTEXT" not in os.environ or os.environ.get("RANK", "0") != "0":
        yield lambda message: None
        return
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as context:
        context.log.info(f"training in process {os.getpid()}")
        yield context.report_custom_message


def _folder(text: str) -> Path:
    """Expand the variables of a path, which only this node knows."""
    path = os.path.expanduser(os.path.expandvars(text))
    if "$" in path:
        raise argparse.ArgumentTypeError(f"{text}: names a variable that is not set on {socket.gethostname()}")
    return Path(path)


def _figures(folder: Path) -> dict[str, object]:
    record = folder / "encoder.json"
    return dict(read_record(record)["figures"]) if record.exists() else {}


if __name__ == "__main__":
    sys.exit(main())
