"""A check per table that an asset writes: the stored files keep the contract of the schema registry.

The tables are those that the stages name, so a new table of a stage has its check without a line here. Contract checks
do not block: a table that breaks its contract is a bug or a damaged file, and what reads it looks at it itself.
"""

from pathlib import Path
from typing import Any

import dagster as dg

from cytonet_pipeline.defs.partitions import PARTITION_SETS
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import TRAINED, Settings
from cytonet_pipeline.stages import STAGES, Stage
from cytonet_pipeline.store import Verdict
from cytonet_pipeline.store.validation import count_valid_rows

# Names under which instances know the history of these checks.
CHECK_NAMES = {"patch_index": "index_keeps_its_contract", "metrics": "metrics_keep_their_contract"}
# Columns that name a row, where a table has no unique column.
_IDENTITY = {
    "metrics": ("encoder", "version", "protocol", "labels_per_area", "draw", "split"),
    "comparisons": ("measure", "protocol", "split", "held_out", "labels_per_area", "draw", "encoder_a", "encoder_b"),
    "retrieved": ("protocol", "split", "patch_id"),
    "drawn_predictions": ("draw", "patch_id"),
}


def contract_check(stage: Stage[Any], name: str) -> dg.AssetChecksDefinition:
    """Return the check of one table of a stage.

    Parameters
    ----------
    name : str
        The table's name in the schema registry, a key of `stage.tables`.
    """
    partitions = PARTITION_SETS[stage.partition_set]

    @dg.asset_check(
        asset=stage.name,
        name=CHECK_NAMES.get(name, f"{name}_contract"),
        partitions_def=partitions,
        description=f"The table {name} keeps its contract: columns, types, ranges, no row twice.",
    )
    def check(context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
        return examine_table(stage, name, settings, context.partition_key if partitions else None)

    return check


def examine_table(stage: Stage[Any], name: str, settings: Settings, partition: str | None) -> dg.AssetCheckResult:
    """Validate the files of a table; files of one folder are one table."""
    rows = 0
    folders: dict[Path, list[Path]] = {}
    try:
        for path in stage.table_files(settings, partition)[name]:
            folders.setdefault(path.parent, []).append(path)
        rows = sum(count_valid_rows(files, name, _IDENTITY.get(name, ())) for files in folders.values())
    except CytonetError as error:
        return dg.AssetCheckResult(passed=False, description=str(error))
    if not rows and stage.partition_set == "brain" and partition is not None:
        reasons = Verdict.read(stage.folder(settings, partition)).reasons
        return dg.AssetCheckResult(passed=False, description="\n\n".join(reasons) or "the table has no rows")
    if not folders:
        return _result_without_files(name, settings, partition)
    return dg.AssetCheckResult(passed=True, metadata={"rows": rows})


def _result_without_files(name: str, settings: Settings, partition: str | None) -> dg.AssetCheckResult:
    """Judge an encoder without a table.

    Only one that is trained has a history, only a mapped brain has a grid, and only one that was not trained on few
    labels, and was evaluated since 0.3.0, has predictions of several draws.
    """
    has_no_history = partition is not None and settings.encoder(partition).method not in TRAINED
    expected = name in ("map_grid", "drawn_predictions") or (name == "history" and has_no_history)
    return dg.AssetCheckResult(passed=expected, description=f"no file of the table {name}")


contracts = [contract_check(stage, name) for stage in STAGES.values() for name in stage.tables]
