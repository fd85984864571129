"""Assets and jobs in place of those of the same name, for tests and for deployments that differ in one of them."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import dagster as dg

Asset: TypeAlias = dg.AssetsDefinition | dg.AssetSpec
# What `dg.define_asset_job` returns has no public name.
Job: TypeAlias = Any


def replaced(loaded: dg.Definitions, assets: Sequence[Asset], jobs: Sequence[Job]) -> dg.Definitions:
    """Return definitions in which `assets` and `jobs` replace those of the same key or name, or are added.

    Checks, sensors and schedules stay; they find assets and jobs by name.
    """
    if not assets and not jobs:
        return loaded
    keys = {key for asset in assets for key in keys_of(asset)}
    names = {job.name for job in jobs}
    return dg.Definitions(
        assets=[*(asset for asset in loaded.assets or () if not keys & set(keys_of(asset))), *assets],
        asset_checks=loaded.asset_checks,
        jobs=[*(job for job in loaded.jobs or () if job.name not in names), *jobs],
        sensors=loaded.sensors,
        schedules=loaded.schedules,
    )


def keys_of(asset: object) -> list[dg.AssetKey]:
    """Return the keys of an asset, or of a definition that gives several."""
    if isinstance(asset, dg.AssetSpec):
        return [asset.key]
    return list(asset.keys) if isinstance(asset, dg.AssetsDefinition) else []
