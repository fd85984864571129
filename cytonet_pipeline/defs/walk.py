"""Materialising the whole pipeline without a browser: reference, brains, encoders, table.

No Dagster job spans two partition sets, so this walks them in the order of the asset graph, a run a partition. It asks
the store what is current, and goes on past a failure: one brain's fault, or one encoder's, is not the others'.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import dagster as dg

from cytonet_pipeline import progress
from cytonet_pipeline.defs.currency import is_result_current
from cytonet_pipeline.defs.instance import fail_orphaned_runs, tags_of_this_process
from cytonet_pipeline.defs.partitions import brains
from cytonet_pipeline.errors import ConfigurationError, CytonetError, StoreError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, Verdict

# Progress and faults are shown by whoever walks; the log of events is in the instance.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Stage:
    """Assets that one job materialises, for the partitions of one set."""

    job: str
    assets: tuple[str, ...]
    partition_set: str | None

    def of(self, partition: str | None) -> str:
        """Name of the stage for one partition."""
        return f"{self.job} {partition}" if partition else self.job


@dataclass
class Outcome:
    """What happened: runs that succeeded, what was current already, and what is wrong, with its message.

    Attributes
    ----------
    failed : dict
        Runs that failed, or were not tried because what they need has failed.
    faults : dict
        Checks that failed, and brains that cannot be used, also those found by an earlier run.
    remarks : dict
        Sections and the like that were left out of something that is sound.
    """

    done: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)

    def lacks(self, partition: str | None) -> bool:
        """Whether an earlier stage of the same partition has failed in this walk."""
        return any(partition is not None and name.endswith(f" {partition}") for name in self.failed)


def stages(defs: dg.Definitions) -> list[Stage]:
    """The stages in the order of the asset graph: each job once all that it depends on has come before."""
    graph = defs.resolve_asset_graph()
    order = [key.to_user_string() for key in graph.toposorted_asset_keys if graph.get(key).is_materializable]
    jobs = [job for job in defs.resolve_all_job_defs() if not job.name.startswith("__")]
    found: list[Stage] = []
    for job in jobs:
        keys = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
        assets = tuple(key for key in order if key in keys)
        partitions = job.partitions_def
        found.append(Stage(job.name, assets, _set_name(partitions)))
    return sorted(found, key=lambda stage: order.index(stage.assets[0]))


def walk(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    settings: Settings,
    *,
    brain_names: Sequence[str],
    encoder_names: Sequence[str],
) -> Outcome:
    """Materialise whatever is not current.

    Parameters
    ----------
    brain_names, encoder_names : sequences of str
        Partitions to bring up to date. Brains are added to the dynamic set.

    Returns
    -------
    Outcome
        Failures are in it, not raised.
    """
    outcome = Outcome()
    fail_orphaned_runs(instance)
    encoder_names = ancestors_first(settings, encoder_names)
    instance.add_dynamic_partitions(str(brains.name), list(brain_names))
    planned = [
        (stage, partition) for stage in stages(defs) for partition in _partitions(stage, brain_names, encoder_names)
    ]
    with progress.task("pipeline", total=len(planned)) as line:
        for count, (stage, partition) in enumerate(_grouped(planned)):
            line.to(count, stage.of(partition))
            _bring_up_to_date(defs, instance, settings, stage, partition, outcome)
            if stage.partition_set == "brain" and partition is not None:
                _look_at_verdicts(Store(settings.store), stage, partition, outcome)
            if stage.job == "reference" and outcome.failed:
                return outcome
        line.to(len(planned), "done")
    return outcome


def ancestors_first(settings: Settings, encoder_names: Sequence[str]) -> list[str]:
    """The same encoders, each after the one that its `init_from` names, if that is among them.

    Raises
    ------
    ConfigurationError
        Encoders continue from one another in a circle.
    """
    ordered: list[str] = []
    waiting = list(encoder_names)
    while waiting:
        free = [name for name in waiting if _ancestor(settings, name) not in waiting]
        if not free:
            raise ConfigurationError(
                f"{settings.experiments_file}: {', '.join(waiting)} continue from one another in a circle.",
                to_fix="let one of them begin without init_from",
            )
        ordered += free
        waiting = [name for name in waiting if name not in free]
    return ordered


def _ancestor(settings: Settings, encoder: str) -> str:
    return (settings.encoder(encoder).init_from or "").partition("@")[0]


def _bring_up_to_date(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    settings: Settings,
    stage: Stage,
    partition: str | None,
    outcome: Outcome,
) -> None:
    name = stage.of(partition)
    try:
        stale = _first_stale(stage, settings, partition)
    except CytonetError as error:
        outcome.failed[name] = str(error)
        return
    if stale is None:
        outcome.current.append(name)
        return
    if outcome.lacks(partition):
        outcome.failed[name] = "not run: what it needs has failed"
        return
    selection = [dg.AssetKey(asset) for asset in stage.assets[stale:]]
    result = defs.resolve_job_def(stage.job).execute_in_process(
        instance=instance,
        partition_key=partition,
        asset_selection=selection,
        raise_on_error=False,
        run_config=_QUIET,
        tags=tags_of_this_process(),
    )
    if _was_interrupted(result):
        # Dagster turns Ctrl-C into a failed run; whoever pressed it does not want the next partition.
        raise KeyboardInterrupt
    if result.success:
        outcome.done.append(name)
    else:
        outcome.failed[name] = "\n".join(_messages(result)) or f"run {result.run_id} failed"
    if stage.partition_set != "brain":
        outcome.faults.update(_faults(result, name))


def _look_at_verdicts(store: Store, stage: Stage, brain: str, outcome: Outcome) -> None:
    """Say what is wrong with a brain, whether this walk or an earlier one has found it."""
    for asset in stage.assets:
        try:
            verdict = Verdict.read(store.root / asset / f"brain={brain}")
        except StoreError:
            continue  # Not computed: the failure is in the outcome already.
        if verdict.reasons:
            told = outcome.remarks if verdict.ok else outcome.faults
            told[f"sub-{brain}, {asset}"] = "\n".join(verdict.reasons)


def _first_stale(stage: Stage, settings: Settings, partition: str | None) -> int | None:
    """Index of the first asset that is not current; later ones follow it, and skip what turns out to be current."""
    for index, asset in enumerate(stage.assets):
        if not is_result_current(asset, settings, partition):
            return index
    return None


def _was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    errors = (event.step_failure_data.error for event in result.all_events if event.is_step_failure)
    return any(error is not None and error.cls_name == "DagsterExecutionInterruptedError" for error in errors)


def _messages(result: dg.ExecuteInProcessResult) -> Iterator[str]:
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data
            told = failure.user_failure_data
            if told is not None and told.description:
                yield told.description
            elif failure.error is not None:
                cause = failure.error.cause or failure.error
                yield cause.message.strip()


def _faults(result: dg.ExecuteInProcessResult, name: str) -> dict[str, str]:
    """Failed checks: what is wrong although the run went through."""
    failed = [e for e in result.get_asset_check_evaluations() if not e.passed]
    return {f"{name}: {e.asset_check_key.name}": e.description or "failed" for e in failed}


def _grouped(planned: list[tuple[Stage, str | None]]) -> list[tuple[Stage, str | None]]:
    """Train and evaluate an encoder before the next one is trained: results show as early as they can."""
    rank: dict[tuple[str | None, str | None], int] = {}
    for stage, partition in planned:
        rank.setdefault((stage.partition_set, partition), len(rank))
    return sorted(planned, key=lambda item: rank[(item[0].partition_set, item[1])] if item[1] else _outer(item, rank))


def _outer(item: tuple[Stage, str | None], rank: dict[tuple[str | None, str | None], int]) -> int:
    return -1 if item[0].job == "reference" else len(rank)


def _partitions(stage: Stage, brain_names: Sequence[str], encoder_names: Sequence[str]) -> Sequence[str | None]:
    if stage.partition_set is None:
        return [None]
    return list(brain_names) if stage.partition_set == "brain" else list(encoder_names)


def _set_name(partitions: dg.PartitionsDefinition | None) -> str | None:
    if partitions is None:
        return None
    return "brain" if isinstance(partitions, dg.DynamicPartitionsDefinition) else "encoder"
