"""Long steps beside the training as jobs on the cluster, where its profile says so under `send`.

The job leaves its result in the store; the asset that sent it then finds the step current and only tells about it.
"""

import time
from pathlib import Path

import dagster as dg

from cytonet_pipeline.defs.following import follow
from cytonet_pipeline.errors import ClusterError
from cytonet_pipeline.settings import Settings

_SETTLING_S = 30.0


def send(
    context: dg.AssetExecutionContext, settings: Settings, step: str, partition: str, *, recompute: bool = False
) -> bool:
    """Have a step done on the cluster if it is meant to be, and wait for it.

    Returns
    -------
    bool
        Whether it was: its result is in the store now.

    Raises
    ------
    ClusterError
        The job failed; the message says how, with the end of its log.
    """
    from cytonet_pipeline.cluster.job import one_submits
    from cytonet_pipeline.cluster.launchers import step_launcher
    from cytonet_pipeline.defs.currency import is_result_current

    launcher = step_launcher(settings, step, partition, recompute=recompute, tell=context.log.warning)
    if launcher is None or (not recompute and is_result_current(step, settings, partition)):
        return False
    folder = job_folder(settings, step, partition)
    with one_submits(folder):
        attempt = launcher.running(folder) or launcher.start(launcher.reserve(folder))
    context.log.info(f"{step} {partition}: {attempt.label}, log in {attempt.log}")
    follow(context, attempt, lambda said: None)
    if attempt.poll() != 0:
        raise ClusterError(
            f"{step} {partition}: attempt {attempt.number} ({attempt.label}) {attempt.ending()}.\n{attempt.tail(15)}",
            looked_for=str(attempt.log),
            to_fix=attempt.remedy(),
        )
    _await_result(context, settings, step, partition)
    return True


def _await_result(context: dg.AssetExecutionContext, settings: Settings, step: str, partition: str) -> None:
    """Wait until this machine sees what the job wrote: a shared file system may take its time."""
    from cytonet_pipeline.defs.currency import is_result_current

    deadline = time.monotonic() + _SETTLING_S
    while not is_result_current(step, settings, partition):
        if time.monotonic() > deadline:
            context.log.warning(
                f"{step} {partition}: its job ended well, but no current result is seen in {settings.store} after "
                f"{_SETTLING_S:.0f} s; the step is done here. Do the nodes see this store? cytonet doctor --cluster"
            )
            return
        time.sleep(1.0)


def job_folder(settings: Settings, step: str, partition: str) -> Path:
    """Where the attempts at a step lie."""
    return settings.store / "jobs" / step / partition
