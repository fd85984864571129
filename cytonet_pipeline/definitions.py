"""The code location. `build_defs` builds the same definitions for tests and deployments."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from cytonet_pipeline.defs.overrides import Asset, Job, replaced
from cytonet_pipeline.defs.resources import resources
from cytonet_pipeline.settings import SHIPPED


def build_defs(
    overrides: Mapping[str, Any] | None = None, *, assets: Sequence[Asset] = (), jobs: Sequence[Job] = ()
) -> dg.Definitions:
    """Build all definitions; resources (`overrides`, by key), assets and jobs given here replace those of that name."""
    loaded = replaced(dg.load_from_defs_folder(path_within_project=SHIPPED), assets, jobs)
    # In process: a step in a process of its own would import torch once more for every asset.
    return dg.Definitions.merge(loaded, dg.Definitions(resources=resources(overrides), executor=dg.in_process_executor))


@dg.definitions
def defs() -> dg.Definitions:
    """Give Dagster the code location."""
    return build_defs()
