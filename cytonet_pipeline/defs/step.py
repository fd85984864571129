"""One long step of the pipeline in a process of its own, as a job on a node runs it. No Dagster here.

    python -m cytonet_pipeline.defs.step patch_embeddings demo_cytonet
    python -m cytonet_pipeline.defs.step section_scans B01

The result lies in the store when it ends; whoever sent it finds the step current and only tells about it.
"""

import argparse
import logging
import sys
from collections.abc import Callable
from typing import Any

from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import open_store

SENT = ("section_scans", "colin27_transforms", "patch_index", "patch_embeddings")


def run(name: str, settings: Settings, partition: str, *, recompute: bool = False) -> None:
    """Do a step for one brain or encoder.

    Raises
    ------
    CytonetError
        It cannot be done; a fault of a brain's data is no error but the brain's verdict.
    """
    open_store(settings)
    if name == "patch_embeddings":
        from cytonet_pipeline.defs.evaluation import steps as evaluation

        # Whoever recomputes has taken the old result away already.
        evaluation.embed(settings, partition)
        return
    from cytonet_pipeline.defs.histology import steps as histology

    steps: dict[str, Callable[..., Any]] = {
        "section_scans": histology.take_inventory,
        "colin27_transforms": histology.resolve_transforms,
        "patch_index": histology.index_patches,
    }
    steps[name](settings, partition, recompute=recompute)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, do the step, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cytonet_pipeline.defs.step", description=__doc__)
    parser.add_argument("step", choices=SENT)
    parser.add_argument("partition", help="a brain or an encoder")
    parser.add_argument("--recompute", action="store_true", help="also if the store holds a current result")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    try:
        run(options.step, Settings.from_environment(), options.partition, recompute=options.recompute)
    except CytonetError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
