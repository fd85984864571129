"""From indices to weights: what an encoder may see, and the training that a launcher runs.

`encoder` is a graph of three ops that hand over nothing: all state lies in the encoder's folder in the store, so that a
re-execution, or a fresh materialisation after everything was killed, goes on where the folder stands.
"""

import dagster as dg

from cytonet_pipeline.defs.currency import CODE_VERSIONS
from cytonet_pipeline.defs.metadata import columns_of, numbers, picture_of
from cytonet_pipeline.defs.partitions import encoders, every_brain, pool_of
from cytonet_pipeline.defs.resources import RunOptions
from cytonet_pipeline.defs.training import steps
from cytonet_pipeline.defs.training.launch import launch
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings

_OWNERS = ["team:learning"]
_DONE = dg.Out(dg.Nothing)
_START = {"start": dg.In(dg.Nothing)}


@dg.asset(
    partitions_def=encoders,
    group_name="training",
    kinds={"parquet"},
    owners=_OWNERS,
    # Named, or a dynamic set maps to a static one by identity: no brain at all, and no error.
    deps=[dg.AssetDep(asset, partition_mapping=every_brain) for asset in ("section_scans", "patch_index")],
    code_version=CODE_VERSIONS["training_set"],
    metadata=columns_of("training_sections"),
)
def training_set(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Exactly which sections, transforms and patches this encoder may see; its version names them all."""
    try:
        decided = steps.decide_training_set(settings, context.partition_key)
    except CytonetError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    return dg.MaterializeResult(
        data_version=dg.DataVersion(decided.version),
        metadata={**numbers(decided.figures), "what changed": dg.MetadataValue.md(decided.changes)},
    )


@dg.op(ins=_START, out=_DONE, tags={"kind": "prepare"})
def prepare(context: dg.OpExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]) -> None:
    """Lay out the encoder's folder: configuration, sections and patches, all that the training reads beside scans."""
    try:
        folder = steps.prepare_encoder(settings, context.partition_key, recompute=config.recompute)
    except CytonetError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    context.log.info(f"prepared {folder}")


@dg.op(ins=_START, out=_DONE, pool=pool_of("encoder", "local_training"), tags={"kind": "train"})
def submit_training(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]):  # type: ignore[no-untyped-def]
    """Hand the training to the launcher (a child process, or Slurm), follow it, and let its events into this run."""
    try:
        launch(context, settings, context.partition_key)
    except CytonetError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    # An op that opened a Pipes session must yield; a plain return would fail after the training.
    yield dg.Output(None)


@dg.op(ins=_START, tags={"kind": "collect"})
def collect(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Check the weights, make them the current ones, and tell about the training."""
    try:
        collected = steps.collect_encoder(settings, context.partition_key)
    except CytonetError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    return dg.MaterializeResult(
        data_version=dg.DataVersion(collected.version),
        metadata={
            **picture_of(collected.folder / "curves.png", "training curves"),
            **numbers(collected.figures),
            "folder": dg.MetadataValue.path(str(collected.folder)),
        },
    )


@dg.graph_asset(
    partitions_def=encoders,
    group_name="training",
    kinds={"pytorch"},
    owners=_OWNERS,
    code_version=CODE_VERSIONS["encoder"],
    ins={"training_set": dg.AssetIn(dagster_type=dg.Nothing)},
)
def encoder(training_set):  # type: ignore[no-untyped-def]
    """The pretrained encoder: prepared, trained by the launcher (a child process, or a cluster), collected."""
    return collect(submit_training(prepare(training_set)))
