"""Wait for an attempt from inside a Dagster run, and decide whether its job ends with the run.

A run that is terminated ends its job. A process that is stopped for any other reason (the daemon or the server
restarts, the machine shuts down) does not. Dagster marks a run as CANCELING before it interrupts the process; when
something else interrupts it, the run has no such mark.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from cytonet_pipeline.cluster.attempt import Attempt

_POLL_S = 0.5
_LOOK_AT_RUN_S = 10.0
_GRACE_S = 45.0
_TERMINATED = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)

Context = dg.OpExecutionContext | dg.AssetExecutionContext


def follow(context: Context, attempt: "Attempt", report: Callable[[dict[str, Any]], None]) -> None:
    """Wait until an attempt has ended.

    Its changes (phases with the queue's reason, outages) go to the log of the run, the id of its job to the run's tags.

    Parameters
    ----------
    report : callable
        Called twice a second with the content of the attempt's `progress.json`.
    """
    looked = time.monotonic()
    try:
        if attempt.tags():
            context.instance.add_run_tags(context.run.run_id, attempt.tags())
        while attempt.poll() is None:
            time.sleep(_POLL_S)
            _log_changes(context, attempt)
            report(attempt.progress())
            if time.monotonic() - looked > _LOOK_AT_RUN_S:
                looked = time.monotonic()
                if _is_terminated(context):
                    # Marked as cancelled by force; the process itself got no signal.
                    raise dg.DagsterExecutionInterruptedError
    except BaseException:
        _release(context, attempt)
        raise
    _log_changes(context, attempt)


def _release(context: Context, attempt: "Attempt") -> None:
    if attempt.survives and not _is_terminated(context):
        context.log.warning(f"this run ends, {attempt.label} goes on; the next run of this asset finds it")
        return
    context.log.info(f"ending {attempt.label}")
    attempt.terminate(_GRACE_S, f"Dagster run {context.run.run_id}")
    _log_changes(context, attempt)


def _is_terminated(context: Context) -> bool:
    run = context.instance.get_run_by_id(context.run.run_id)
    return run is None or run.status in _TERMINATED


def _log_changes(context: Context, attempt: "Attempt") -> None:
    for line in attempt.changes():
        context.log.info(line)
