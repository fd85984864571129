"""Waiting for an attempt from inside a Dagster run, and what its end by force means.

A run that is terminated ends its job. A process that is stopped for any other reason (the daemon or the server
restarts, the machine shuts down) does not: Dagster marks a run as CANCELING before it interrupts the process, and as
nothing when somebody else does.
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


def follow(context: Context, attempt: "Attempt", watch: Callable[[dict[str, Any]], None]) -> None:
    """Wait until an attempt has ended.

    News of it (phases with the queue's reason, outages) go to the log of the run, what it is called to the run's tags.

    Parameters
    ----------
    watch : callable
        Gets what the attempt says of itself, twice a second.
    """
    looked = time.monotonic()
    try:
        if attempt.tags():
            context.instance.add_run_tags(context.run.run_id, attempt.tags())
        while attempt.poll() is None:
            time.sleep(_POLL_S)
            _tell(context, attempt)
            watch(attempt.progress())
            if time.monotonic() - looked > _LOOK_AT_RUN_S:
                looked = time.monotonic()
                if _is_terminated(context):
                    # Marked as cancelled by force, while the process was not told.
                    raise dg.DagsterExecutionInterruptedError
    except BaseException:
        _let_go(context, attempt)
        raise
    _tell(context, attempt)


def _let_go(context: Context, attempt: "Attempt") -> None:
    if attempt.survives and not _is_terminated(context):
        context.log.warning(f"this run ends, {attempt.label} goes on; the next run of this asset finds it")
        return
    context.log.info(f"ending {attempt.label}")
    attempt.terminate(_GRACE_S, f"Dagster run {context.run.run_id}")
    _tell(context, attempt)


def _is_terminated(context: Context) -> bool:
    run = context.instance.get_run_by_id(context.run.run_id)
    return run is None or run.status in _TERMINATED


def _tell(context: Context, attempt: "Attempt") -> None:
    for line in attempt.changes():
        context.log.info(line)
