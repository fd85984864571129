"""Whether a result in the store is what its inputs would give now. Digests decide, never Dagster's event log.

For each asset: the folder that holds its result, and the inputs that a current one was made from. The inputs of later
steps are the digests that earlier ones left in the store.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, digest_left_in, digest_of, is_current

# Raised by hand when the code of a step gives other results. For the reference and the steps of a brain the number is
# part of what makes a result current, so that older ones are made again. Trainings and evaluations hold such a number
# themselves, beside the code that it is about (`lineage.training_set`, `evaluation`); here it only shows in Dagster.
CODE_VERSIONS = {
    "reference_space": "1",
    "section_scans": "2",
    "colin27_transforms": "1",
    "patch_index": "2",
    "training_set": "1",
    "encoder": "1",
    "patch_embeddings": "1",
    "linear_probe": "1",
    "metrics_table": "1",
    "umap_plots": "1",
    "area_maps": "1",
}


@dataclass(frozen=True)
class Result:
    """One partition's result: where it lies and what a current one was made from."""

    folder: Path
    inputs: dict[str, Any]

    @property
    def current(self) -> bool:
        """Whether it is there, complete, and of these inputs."""
        return is_current(self.folder, self.inputs)


def reference_space(settings: Settings, _: str | None = None) -> Result:
    """Result of the asset of that name."""
    files = sorted(p for p in settings.reference.glob("t*") if p.is_file())
    stats = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    folder = Store(settings.store).reference_space()
    return Result(folder, {"files": digest_of(stats), "code": CODE_VERSIONS["reference_space"]})


def section_scans(settings: Settings, brain: str | None) -> Result:
    """Result of the asset of that name."""
    from cytonet_pipeline.dataset import Dataset

    assert brain is not None
    block = settings.experiments.dataset
    source = Dataset(settings.data, block).brain(brain)
    inputs = {
        "brain": source.fingerprint(),
        "stain": block.stain,
        "window": block.window_of(brain),
        "allowed_roots": [str(root) for root in block.allowed_roots],
        "code": CODE_VERSIONS["section_scans"],
    }
    return Result(Store(settings.store).section_scans(brain), inputs)


def colin27_transforms(settings: Settings, brain: str | None) -> Result:
    """Result of the asset of that name."""
    from cytonet_pipeline.dataset import Dataset

    assert brain is not None
    store = Store(settings.store)
    block = settings.experiments.dataset
    inputs = {
        "brain": Dataset(settings.data, block).brain(brain).fingerprint(),
        "reference": digest_left_in(store.reference_space()),
        "sections": digest_left_in(store.section_scans(brain)),
        "code": CODE_VERSIONS["colin27_transforms"],
    }
    return Result(store.colin27_transforms(brain), inputs)


def patch_index(settings: Settings, brain: str | None) -> Result:
    """Result of the asset of that name."""
    assert brain is not None
    store = Store(settings.store)
    inputs = {
        "reference": digest_left_in(store.reference_space()),
        "sections": digest_left_in(store.section_scans(brain)),
        "transforms": digest_left_in(store.colin27_transforms(brain)),
        "dataset": settings.experiments.dataset.model_dump(mode="json"),
        "code": CODE_VERSIONS["patch_index"],
    }
    return Result(store.patch_index(brain), inputs)


def is_result_current(asset: str, settings: Settings, partition: str | None) -> bool:
    """Whether an asset's partition need not be computed again."""
    from cytonet_pipeline.defs.evaluation import results as evaluation
    from cytonet_pipeline.defs.training import results as training

    finders: dict[str, Callable[[Settings, str | None], bool]] = {
        **{f.__name__: _by_stamp(f) for f in (reference_space, section_scans, colin27_transforms, patch_index)},
        **training.CURRENT,
        **evaluation.CURRENT,
    }
    return finders[asset](settings, partition)


def _by_stamp(find: Callable[[Settings, str | None], Result]) -> Callable[[Settings, str | None], bool]:
    return lambda settings, partition: find(settings, partition).current
