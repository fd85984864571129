"""Run one stage for one brain or encoder, as a job on a node does.

    python -m cytonet_pipeline.stages patch_embeddings demo_cytonet
    python -m cytonet_pipeline.stages section_scans B01

The result lies in the store when it ends. Settings come from the environment (CYTONET_*). Exit codes: 0 done, 1 a fault
that the last lines explain.
"""

import argparse
import logging
import sys

from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.names import bare_brain
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import STAGES, stage_of

PARTITIONED = tuple(name for name, stage in STAGES.items() if stage.partition_set is not None)


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
    try:
        settings = Settings.from_environment()
        stage = stage_of(options.stage)
        partition = bare_brain(options.partition) if stage.partition_set == "brain" else options.partition
        stage.run(settings, partition, recompute=options.recompute)
    except CytonetError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
