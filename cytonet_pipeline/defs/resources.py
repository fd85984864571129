"""What assets, checks, the sensor, the schedule and the I/O manager are given: the settings of the pipeline.

`RunOptions` is what a person may set for one materialisation in the launchpad.
"""

import os
from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from cytonet_pipeline.cluster.launchers import BACKENDS
from cytonet_pipeline.defs.io_manager import store_tables
from cytonet_pipeline.settings import Settings


class RunOptions(dg.Config):
    """Options of a materialisation, in the launchpad."""

    recompute: bool = Field(
        default=False, description="compute again although the store holds a result of exactly these inputs"
    )


class PipelineSettings(dg.ConfigurableResource[Settings]):
    """Where things lie and what to do with them.

    A field that is left out comes from the environment when the run, the tick or the evaluation starts, so a changed
    variable needs no reload. User code gets the `Settings`: `settings: dg.ResourceParam[Settings]`.
    """

    data: str | None = Field(default=None, description="data set: sections, masks, transforms; default: CYTONET_DATA")
    reference: str | None = Field(default=None, description="reference space, Colin-27; default: CYTONET_REFERENCE")
    store: str | None = Field(default=None, description="folder of all results; default: CYTONET_STORE")
    experiments: str | None = Field(default=None, description="experiments file; default: CYTONET_EXPERIMENTS")
    cluster: str | None = Field(
        default=None, description=f"where training runs: {' or '.join(BACKENDS)}; default: CYTONET_CLUSTER"
    )

    def create_resource(self, context: dg.InitResourceContext) -> Settings:
        """Return the settings of this run."""
        fields = ("data", "reference", "store", "experiments", "cluster")
        given = {f"CYTONET_{name.upper()}": getattr(self, name) for name in fields if getattr(self, name)}
        return Settings.from_environment({**os.environ, **given})


def resources(overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return all resources of the code location, with `overrides` in place of those of the same key."""
    return {"settings": PipelineSettings(), "io_manager": store_tables, **(overrides or {})}
