"""What assets are given: the settings, read from the environment when a run starts.

`RunOptions` is what a person may set in the launchpad.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from cytonet_pipeline.defs.io_manager import StoreTables
from cytonet_pipeline.settings import Settings


class RunOptions(dg.Config):
    """Options of a materialisation, in the launchpad.

    Attributes
    ----------
    recompute : bool
        Do the work again although the store holds a result of exactly these inputs.
    """

    recompute: bool = False


@dg.resource(description="Where things lie and what to do with them: CYTONET_* and the experiments file.")
def settings_from_environment(_: dg.InitResourceContext) -> Settings:
    """Read the settings of this run."""
    return Settings.from_environment()


def resources(overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All resources of the code location; `overrides` replaces some by key."""
    return {"settings": settings_from_environment, "io_manager": StoreTables(), **(overrides or {})}
