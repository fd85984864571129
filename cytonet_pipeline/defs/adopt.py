"""Telling Dagster about results that the store already holds.

The store decides what is current; Dagster's database only shows it. A lost database, or a store copied from a cluster,
is registered without computing anything, with all that its pages show.
"""

from typing import Any

import dagster as dg

from cytonet_pipeline.defs.materialize import described
from cytonet_pipeline.defs.partitions import brains
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import STAGES, Stage
from cytonet_pipeline.store import open_store

# Without it Dagster would hold everything downstream for outdated.
_DATA_VERSION = "dagster/data_version"


def adopt_store(instance: dg.DagsterInstance, settings: Settings) -> int:
    """Report a materialisation for every current result of the store that Dagster does not know.

    Returns
    -------
    int
        Number of results reported.
    """
    indexed = open_store(settings).indexed_brains()
    partitions: dict[str | None, list[Any]] = {
        "brain": indexed,
        "encoder": list(settings.experiments.encoders),
        None: [None],
    }
    instance.add_dynamic_partitions(str(brains.name), indexed)
    return sum(
        _adopt(instance, settings, stage, partition)
        for stage in STAGES.values()
        for partition in partitions[stage.partition_set]
    )


def _adopt(instance: dg.DagsterInstance, settings: Settings, stage: Stage[Any], partition: str | None) -> bool:
    key = dg.AssetKey(stage.name)
    known = (
        instance.get_latest_materialization_event(key) is not None
        if partition is None
        else partition in instance.get_materialized_partitions(key)
    )
    try:
        if known or not stage.is_current(settings, partition):
            return False
        verdict = stage.verdict(settings, partition)
        if verdict is not None and not verdict.ok:
            return False  # Without its failed check it would look sound; materialising it is quick, and shows both.
        shown = described(stage.summary(settings, partition), "nothing: adopted from the store")
    except CytonetError:
        return False
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            key,
            partition=partition,
            description="adopted from the store",
            metadata=shown.metadata,
            tags={_DATA_VERSION: shown.data_version.value} if shown.data_version else None,
        )
    )
    return True
