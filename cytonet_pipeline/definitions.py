"""The code location. `build_defs(overrides)` builds the same definitions for tests and deployments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from cytonet_pipeline.defs.resources import resources


def build_defs(overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """All assets, checks, jobs, sensors and schedules, with `overrides` in place of some resources."""
    found = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    # In process: a step that spawned a process of its own would import torch once more for every asset.
    return dg.Definitions.merge(found, dg.Definitions(resources=resources(overrides), executor=dg.in_process_executor))


@dg.definitions
def defs() -> dg.Definitions:
    """Give Dagster the code location."""
    return build_defs()
