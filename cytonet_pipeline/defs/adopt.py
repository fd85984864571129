"""Telling Dagster about results that the store already holds.

The store decides what is current; Dagster's database only shows it. A lost database, or a store copied from a cluster,
is registered without computing anything.
"""

from collections.abc import Sequence

import dagster as dg

from cytonet_pipeline.defs.currency import is_result_current
from cytonet_pipeline.defs.partitions import brains
from cytonet_pipeline.defs.walk import stages
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store


def adopt_store(defs: dg.Definitions, instance: dg.DagsterInstance, settings: Settings) -> int:
    """Report a materialisation for every current result of the store that Dagster does not know; their number."""
    store = Store(settings.store)
    names: dict[str | None, Sequence[str | None]] = {
        "brain": store.indexed_brains(),
        "encoder": list(settings.experiments.encoders),
        None: [None],
    }
    instance.add_dynamic_partitions(str(brains.name), store.indexed_brains())
    adopted = 0
    for stage in stages(defs):
        for partition in names[stage.partition_set]:
            for asset in stage.assets:
                adopted += _adopt(instance, settings, asset, partition)
    return adopted


def _adopt(instance: dg.DagsterInstance, settings: Settings, asset: str, partition: str | None) -> bool:
    key = dg.AssetKey(asset)
    known = (
        instance.get_latest_materialization_event(key) is not None
        if partition is None
        else partition in instance.get_materialized_partitions(key)
    )
    try:
        if known or not is_result_current(asset, settings, partition):
            return False
    except CytonetError:
        return False
    instance.report_runless_asset_event(
        dg.AssetMaterialization(key, partition=partition, description="adopted from the store")
    )
    return True
