"""Stages beside the training as jobs on the cluster, where its profile says so under `send`.

The job leaves its result in the store; the asset that sent it then finds the stage current and only describes it.
"""

import time
from pathlib import Path
from typing import Any

import dagster as dg

from cytonet_pipeline import stages
from cytonet_pipeline.defs.following import follow
from cytonet_pipeline.errors import ClusterError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import Stage

_SETTLING_S = 30.0


def send(
    context: dg.AssetExecutionContext, settings: Settings, stage: Stage[Any], partition: str, *, recompute: bool = False
) -> bool:
    """Run a stage on the cluster if the profile says so, and wait for it.

    Returns
    -------
    bool
        Whether it ran there: its result is in the store now.

    Raises
    ------
    ClusterError
        The job failed; the message says how, with the end of its log.
    """
    from cytonet_pipeline.cluster.attempt import submission_lock
    from cytonet_pipeline.cluster.launchers import step_launcher

    arguments = [stages.__name__, stage.name, partition, *(["--recompute"] if recompute else [])]
    launcher = step_launcher(settings, stage.name, arguments, context.log.warning)
    if launcher is None or (not recompute and stage.is_current(settings, partition)):
        return False
    folder = job_folder(settings, stage.name, partition)
    with submission_lock(folder):
        attempt = launcher.running(folder) or launcher.start(launcher.reserve(folder))
    context.log.info(f"{stage.name} {partition}: {attempt.label}, log in {attempt.log}")
    follow(context, attempt, lambda status: None)
    if attempt.poll() != 0:
        raise ClusterError(
            f"{stage.name} {partition}: attempt {attempt.number} ({attempt.label}) {attempt.ending()}.\n"
            f"{attempt.tail(15)}",
            looked_for=str(attempt.log),
            to_fix=attempt.remedy(),
        )
    _await_result(context, settings, stage, partition)
    return True


def _await_result(context: dg.AssetExecutionContext, settings: Settings, stage: Stage[Any], partition: str) -> None:
    """Wait until this machine sees what the job wrote: a shared file system may take its time."""
    deadline = time.monotonic() + _SETTLING_S
    while not stage.is_current(settings, partition):
        if time.monotonic() > deadline:
            context.log.warning(
                f"{stage.name} {partition}: its job ended well, but {settings.store} shows no current result after "
                f"{_SETTLING_S:.0f} s; the stage runs here. Do the nodes see this store? cytonet doctor --cluster"
            )
            return
        time.sleep(1.0)


def job_folder(settings: Settings, stage: str, partition: str) -> Path:
    """Return the folder that holds the attempts at a stage."""
    return settings.store / "jobs" / stage / partition
