"""From indices to weights: what an encoder may see, and the training that a launcher runs.

`encoder` is a graph of three ops that hand over nothing: all state lies in the encoder's folder in the store, so that a
re-execution, or a fresh materialisation after everything was killed, goes on where the folder stands.
"""

import dagster as dg
from pydantic import Field

from cytonet_pipeline.defs.failures import failures_explained
from cytonet_pipeline.defs.lineage_page import refresh_page, show_on_brains
from cytonet_pipeline.defs.materialize import described, materialize
from cytonet_pipeline.defs.metadata import columns_of
from cytonet_pipeline.defs.partitions import encoders, every_brain, pool_of
from cytonet_pipeline.defs.resources import RunOptions
from cytonet_pipeline.defs.run_requests import record_inputs
from cytonet_pipeline.defs.training.launch import launch
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import ENCODER, TRAINING_SET

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
    code_version=TRAINING_SET.code_version,
    metadata=columns_of("training_sections"),
)
def training_set(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """Exactly which sections, transforms and patches this encoder may see; its version names them all."""
    decided = materialize(TRAINING_SET, context, config, settings)
    record_inputs(context, TRAINING_SET.folder(settings, context.partition_key).name)
    return decided


@dg.op(ins=_START, out=_DONE, tags={"kind": "prepare"})
def prepare(context: dg.OpExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]) -> None:
    """Lay out the encoder's folder: configuration, sections and patches, all that the training reads beside scans."""
    with failures_explained():
        folder = ENCODER.prepare(settings, context.partition_key, recompute=config.recompute)
    context.log.info(f"prepared {folder}")


@dg.op(ins=_START, out=_DONE, pool=pool_of("encoder", "local_training"), tags={"kind": "train"})
def submit_training(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]):  # type: ignore[no-untyped-def]
    """Hand training to the launcher (a child process, or a job on a cluster), and log its events in this run."""
    with failures_explained():
        launch(context, settings, context.partition_key)
    # An op that opened a Pipes session must yield; a plain return would fail after the training.
    yield dg.Output(None)


class CollectOptions(dg.Config):
    """Options of the last step of training, in the launchpad."""

    use_despite_gate: bool = Field(
        default=False, description="put the version into use although the gate (`retrain: gate`) holds it back"
    )


@dg.op(ins=_START, tags={"kind": "collect"})
def collect(
    context: dg.OpExecutionContext, config: CollectOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """Check the weights, put them into use, and describe the training."""
    with failures_explained():
        ENCODER.collect(settings, context.partition_key, despite_gate=config.use_despite_gate)
        encoder, folder = context.partition_key, ENCODER.folder(settings, context.partition_key)
        version = folder.name
        page = refresh_page(context, settings, encoder, version)
        show_on_brains(context, settings, encoder, version)
        record = context.instance.get_run_record_by_id(context.run.run_id)
        new = record is None or (folder / "encoder.json").stat().st_mtime >= record.create_timestamp.timestamp()
        done = "trained" if new else "nothing: this version was trained already"
        return described(ENCODER.summary(settings, encoder), done, page)


@dg.graph_asset(
    partitions_def=encoders,
    group_name="training",
    kinds={"pytorch"},
    owners=_OWNERS,
    code_version=ENCODER.code_version,
    ins={"training_set": dg.AssetIn(dagster_type=dg.Nothing)},
)
def encoder(training_set):  # type: ignore[no-untyped-def]
    """The pretrained encoder: prepared, trained by the launcher (a child process, or a cluster), collected."""
    return collect(submit_training(prepare(training_set)))
