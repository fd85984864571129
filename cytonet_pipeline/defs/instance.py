"""The Dagster instance that `cytonet run` and `cytonet ui` share.

Without `DAGSTER_HOME` Dagster forgets everything on exit; with another folder there it ignores this project's
`dagster.yaml`. So both use `.dagster/` in the project folder, with that file linked into it, unless the user
has set it.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from cytonet_pipeline.cluster.launchers import pool_limits
from cytonet_pipeline.defs.dagster_internals import fail_run, pool_limit, set_pool_limit
from cytonet_pipeline.defs.partitions import LOCAL_POOLS
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import project_file, project_folder
from cytonet_pipeline.store.processes import birth_of, is_alive


def dagster_home() -> Path:
    """Return the folder of the instance; the project's own is made and configured.

    Raises
    ------
    ConfigurationError
        `DAGSTER_HOME` names something that is not a folder.
    """
    given = os.environ.get("DAGSTER_HOME")
    if given:
        home = Path(given).expanduser().absolute()
        if not home.is_dir():
            raise ConfigurationError(
                f"DAGSTER_HOME={given}: no such folder.", to_fix=f"mkdir -p {given}, or unset it to use .dagster"
            )
        return home
    home = project_folder() / ".dagster"
    home.mkdir(exist_ok=True)
    link = home / "dagster.yaml"
    if not link.exists():
        link.unlink(missing_ok=True)
        ours = project_file("dagster.yaml")
        link.symlink_to(Path("..") / "dagster.yaml" if ours.parent == home.parent else ours)
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def instance_exists() -> bool:
    """Whether there is an instance that `open_instance` would open, rather than make."""
    return bool(os.environ.get("DAGSTER_HOME")) or (project_folder() / ".dagster").is_dir()


def open_instance() -> dg.DagsterInstance:
    """Open the instance, with the limits of its pools set."""
    dagster_home()
    instance = dg.DagsterInstance.get()
    # `dagster.yaml` has one default for all pools; those in which ops only wait for a cluster get their own.
    for pool, limit in pool_limits().items():
        set_pool_limit(instance, pool, limit)
    return instance


@contextmanager
def local_pools(instance: dg.DagsterInstance, limit: int) -> Iterator[None]:
    """Let so many steps that compute on this machine run at a time while the block runs."""
    before = {pool: pool_limit(instance, pool) for pool in LOCAL_POOLS}
    for pool in LOCAL_POOLS:
        set_pool_limit(instance, pool, limit)
    try:
        yield
    finally:
        for pool, former in before.items():
            set_pool_limit(instance, pool, former)


def tags_of_this_process() -> dict[str, str]:
    """Return the tags by which a later process sees whether the process of a run is still alive."""
    born = birth_of(os.getpid()) or ""
    return {"cytonet/host": socket.gethostname(), "cytonet/pid": str(os.getpid()), "cytonet/born": born}


def fail_orphaned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs of this machine whose process was killed as failed, free what they hold, and return their ids.

    Nothing monitors a run that is executed in process: after SIGKILL it would count as running for ever, and the next
    one would wait for its place in a pool.
    """
    host = socket.gethostname()
    unfinished = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED], tags={"cytonet/host": host}
    )
    orphaned = []
    for run in instance.get_runs(unfinished):
        record = {"host": host, "born": run.tags.get("cytonet/born") or None}
        if is_alive(int(run.tags["cytonet/pid"]), record):
            continue
        fail_run(instance, run, "its process was killed; the store keeps what was finished")
        orphaned.append(run.run_id)
    return orphaned
