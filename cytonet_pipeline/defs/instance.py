"""The Dagster instance that the command line and `make ui` share.

Unset, `DAGSTER_HOME` makes Dagster forget everything on exit; set elsewhere, it ignores the repository's
`dagster.yaml`. So both use `.dagster/` in the project, with that file linked into it, unless the user has set it.
"""

import os
import socket
from pathlib import Path

import dagster as dg

from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import PROJECT
from cytonet_pipeline.store.processes import birth_of, is_alive

# Ops in this pool only wait for the cluster; `dagster.yaml` has one default for all pools, so this one is set here.
POOL_LIMITS = {"slurm_gpu": 8}


def dagster_home() -> Path:
    """Folder of the instance, made and configured if it is the project's own.

    Raises
    ------
    ConfigurationError
        `DAGSTER_HOME` is set to something that is no folder.
    """
    told = os.environ.get("DAGSTER_HOME")
    if told:
        home = Path(told).expanduser().absolute()
        if not home.is_dir():
            raise ConfigurationError(
                f"DAGSTER_HOME={told}: no such folder.", to_fix=f"mkdir -p {told}, or unset it to use .dagster"
            )
        return home
    home = PROJECT / ".dagster"
    home.mkdir(exist_ok=True)
    link = home / "dagster.yaml"
    if not link.exists() and (PROJECT / "dagster.yaml").exists():
        link.unlink(missing_ok=True)
        link.symlink_to(Path("..") / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def open_instance() -> dg.DagsterInstance:
    """Open the instance, with the limits of its pools set."""
    dagster_home()
    instance = dg.DagsterInstance.get()
    for pool, limit in POOL_LIMITS.items():
        instance.event_log_storage.set_concurrency_slots(pool, limit)
    return instance


def tags_of_this_process() -> dict[str, str]:
    """Tags by which a later process sees that the one that ran this is gone."""
    born = birth_of(os.getpid()) or ""
    return {"cytonet/host": socket.gethostname(), "cytonet/pid": str(os.getpid()), "cytonet/born": born}


def bury_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs whose process was killed as failed, and free what they hold; their ids.

    A run in process has no monitor: after SIGKILL it would count as running for ever, and the next one would wait for
    its place in a pool.
    """
    host = socket.gethostname()
    unfinished = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED], tags={"cytonet/host": host}
    )
    buried = []
    for run in instance.get_runs(unfinished):
        record = {"host": host, "born": run.tags.get("cytonet/born") or None}
        if is_alive(int(run.tags["cytonet/pid"]), record):
            continue
        instance.report_run_failed(run, "its process was killed; the store keeps what was finished")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        buried.append(run.run_id)
    return buried
