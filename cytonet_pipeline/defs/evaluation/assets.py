"""From weights to what people look at: features, probes, the table, UMAP and maps.

Each room knows whether its result is current, and skips the work if so; `recompute` takes that result away first.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from cytonet_pipeline.defs.automation import after_any_upstream, after_upstream
from cytonet_pipeline.defs.currency import CODE_VERSIONS
from cytonet_pipeline.defs.evaluation import steps
from cytonet_pipeline.defs.metadata import columns_of, numbers, picture_of
from cytonet_pipeline.defs.partitions import encoders, every_brain, pool_of
from cytonet_pipeline.defs.resources import RunOptions
from cytonet_pipeline.defs.sending import send
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store

_OWNERS = ["team:evaluation"]
_INDEX = dg.AssetDep("patch_index", partition_mapping=every_brain)


@dg.asset(
    partitions_def=encoders,
    group_name="evaluation",
    kinds={"pytorch", "parquet"},
    owners=_OWNERS,
    deps=["encoder", _INDEX],
    code_version=CODE_VERSIONS["patch_embeddings"],
    automation_condition=after_upstream,
    pool=pool_of("patch_embeddings", "local_heavy"),
)
def patch_embeddings(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """Features of every patch that the evaluation needs: labelled, test and unseen ones, and the UMAP's sample."""
    with _clear_failures():

        def embed(settings: Settings, encoder: str) -> steps.Told:
            send(context, settings, "patch_embeddings", encoder)
            return steps.embed(settings, encoder)

        told = _done(embed, Store.patch_embeddings, context.partition_key, config, settings)
    return _tell(told)


@dg.asset(
    partitions_def=encoders,
    group_name="evaluation",
    kinds={"pytorch", "scikitlearn"},
    owners=_OWNERS,
    deps=["patch_embeddings"],
    code_version=CODE_VERSIONS["linear_probe"],
    automation_condition=after_upstream,
    pool="local_heavy",
    metadata=columns_of("predictions"),
)
def linear_probe(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """Brain areas from frozen features, by every protocol, on unseen sections and on the unseen brain."""
    with _clear_failures():
        told = _done(steps.probe, Store.linear_probes, context.partition_key, config, settings)
    return _tell(told)


@dg.asset(
    partitions_def=encoders,
    group_name="evaluation",
    kinds={"umap", "gifti"},
    owners=_OWNERS,
    deps=["patch_embeddings", "reference_space"],
    code_version=CODE_VERSIONS["umap_plots"],
    automation_condition=after_upstream,
    pool="local_heavy",
    metadata=columns_of("umap"),
)
def umap_plots(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """What the features look like in two dimensions and on the surface, and how far brains and areas separate."""
    with _clear_failures():
        told = _done(steps.project, Store.umap, context.partition_key, config, settings)
    return _tell(told)


@dg.asset(
    partitions_def=encoders,
    group_name="evaluation",
    kinds={"nifti"},
    owners=_OWNERS,
    deps=["linear_probe", "reference_space", dg.AssetDep("colin27_transforms", partition_mapping=every_brain)],
    code_version=CODE_VERSIONS["area_maps"],
    automation_condition=after_upstream,
    pool="local_heavy",
)
def area_maps(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """Predicted areas over whole sections, and as a label volume with probabilities in Colin-27."""
    with _clear_failures():
        told = _done(steps.map_areas, Store.area_maps, context.partition_key, config, settings)
    return _tell(told)


@dg.asset(
    group_name="evaluation",
    kinds={"parquet", "markdown"},
    owners=_OWNERS,
    # By name, not as an argument: a value for every encoder would be loaded, and one missing would fail the table.
    deps=["linear_probe"],
    code_version=CODE_VERSIONS["metrics_table"],
    automation_condition=after_any_upstream,
    metadata=columns_of("metrics"),
)
def metrics_table(config: RunOptions, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """All encoders, protocols and splits in one table, with intervals; goes on while some encoders are missing."""
    with _clear_failures():
        if config.recompute:
            steps.forget(Store(settings.store).metrics())
        told = steps.tabulate(settings)
    return _tell(told)


def _done(
    step: Callable[[Settings, str], steps.Told],
    folder: Callable[[Store, str, str], Path],
    encoder: str,
    config: RunOptions,
    settings: Settings,
) -> steps.Told:
    store = Store(settings.store)
    if config.recompute:
        steps.forget(folder(store, encoder, store.current_encoder(encoder).name))
    return step(settings, encoder)


def _tell(told: steps.Told) -> dg.MaterializeResult:
    pictures = {key: value for name, path in told.pictures.items() for key, value in picture_of(path, name).items()}
    texts = {name: dg.MetadataValue.md(text) for name, text in told.texts.items()}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(told.digest),
        metadata={
            **pictures,
            **texts,
            **numbers(told.figures),
            "folder": dg.MetadataValue.path(str(told.folder)),
        },
    )


@contextmanager
def _clear_failures() -> Iterator[None]:
    try:
        yield
    except CytonetError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
