"""Run one stage for one brain or encoder, as a job on a node does.

    python -m cytonet_pipeline.stages patch_embeddings demo_cytonet
    python -m cytonet_pipeline.stages section_scans B01

The result lies in the store when it ends. Settings come from the environment (CYTONET_*). Exit codes: 0 done, 1 a fault
that the last lines explain, 75 stopped by SIGUSR1, with which a batch system announces the end of the walltime: parts
that are finished are kept, and the next attempt goes on with the others.
"""

import argparse
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.names import bare_brain
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import STAGES, Stage, stage_of
from cytonet_pipeline.store import stamp_path, write_json

PARTITIONED = tuple(name for name, stage in STAGES.items() if stage.partition_set is not None)


_STOPPED = 75


def _stop(number: int, frame: FrameType | None) -> None:
    # Leaves through every `finally`: half-written folders are removed.
    raise SystemExit(_STOPPED)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run the stage, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m cytonet_pipeline.stages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stage", choices=PARTITIONED, metavar="STAGE", help=", ".join(PARTITIONED))
    parser.add_argument("partition", metavar="PARTITION", help="a brain or an encoder")
    parser.add_argument("--recompute", action="store_true", help="also if the store holds a current result")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    earlier = signal.signal(signal.SIGUSR1, _stop)
    try:
        settings = Settings.from_environment()
        stage = stage_of(options.stage)
        partition = bare_brain(options.partition) if stage.partition_set == "brain" else options.partition
        with _reported(settings, stage, partition):
            stage.run(settings, partition, recompute=options.recompute)
    except CytonetError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    finally:
        signal.signal(signal.SIGUSR1, earlier)
    return 0


@contextmanager
def _reported(settings: Settings, stage: Stage[Any], partition: str) -> Iterator[None]:
    """Tell the job script how it ends, and how many parts are finished: one that gets nowhere is not requeued."""
    place = settings.store / "jobs" / stage.name / partition

    def report(state: str) -> None:
        if place.is_dir():
            write_json(place / "progress.json", {"state": state, "step": _finished_parts(settings, stage, partition)})

    report("running")
    state = "failed"
    try:
        yield
        state = "done"
    except SystemExit:
        state = "interrupted"
        raise
    finally:
        report(state)


def _finished_parts(settings: Settings, stage: Stage[Any], partition: str) -> int:
    try:
        return sum(stamp_path(part).exists() for part in stage.folder(settings, partition).glob("*/"))
    except CytonetError:
        return 0  # Its folder is named by a version that is not known yet.


if __name__ == "__main__":
    sys.exit(main())
