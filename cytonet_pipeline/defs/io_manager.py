"""Reading the store's tables as asset values, for notebooks and for assets that users add.

The pipeline's own assets hand nothing over in memory: they write to the store and depend by name. This manager lets
`defs.load_asset_value("patch_index", partition_key="B20")`, or a parameter `patch_index: pd.DataFrame`, do the obvious.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import Stage, stage_of
from cytonet_pipeline.store import read_table

if TYPE_CHECKING:
    import pandas as pd


class StoreTables(dg.IOManager):
    """Loads an asset's table from the store; writes tables of assets that users add below `user/`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Write a user's own data frame; our assets return no values."""
        if obj is None:
            return
        import pandas as pd

        if not isinstance(obj, pd.DataFrame):
            raise dg.DagsterInvariantViolationError(
                f"{context.asset_key.to_user_string()}: return a pandas.DataFrame, or write files and return nothing"
            )
        path = _user_path(self.settings, context.get_asset_identifier())
        path.parent.mkdir(parents=True, exist_ok=True)
        obj.to_parquet(path)

    def load_input(self, context: dg.InputContext) -> "pd.DataFrame":
        """Read one partition's table, or all of them one below the other."""
        import pandas as pd

        own = _user_path(self.settings, context.get_asset_identifier())
        if own.exists():
            return pd.read_parquet(own)
        stage = stage_of(context.asset_key.to_user_string())
        partitions = context.asset_partition_keys if context.has_asset_partitions else [None]
        return pd.concat([_read(stage, self.settings, partition) for partition in partitions], ignore_index=True)


@dg.io_manager(required_resource_keys={"settings"}, description="Tables of the store as pandas data frames.")
def store_tables(context: dg.InitResourceContext) -> StoreTables:
    """Return the I/O manager on the settings that everything else in the run has."""
    return StoreTables(context.resources.settings)


def _read(stage: Stage[Any], settings: Settings, partition: str | None) -> "pd.DataFrame":
    import pandas as pd

    if len(stage.tables) != 1:
        raise dg.DagsterInvariantViolationError(
            f"{stage.name}: its result is not one table; read its folder in the store"
        )
    if stage.partition_set is not None and partition is None:
        raise dg.DagsterInvariantViolationError(f"{stage.name}: name the {stage.partition_set} to read")
    ((name, files),) = stage.table_files(settings, partition).items()
    if not files:
        raise StoreError(f"{stage.folder(settings, partition)}: not there.", to_fix="materialise it: cytonet run")
    return pd.concat([read_table(path, name) for path in files], ignore_index=True)


def _user_path(settings: Settings, identifier: object) -> Path:
    parts = [str(part) for part in identifier] if isinstance(identifier, (list, tuple)) else [str(identifier)]
    return settings.store / "user" / Path(*parts[:-1]) / f"{parts[-1]}.parquet"
