"""The Dagster instance that `cytonet run` and `cytonet ui` share.

Without `DAGSTER_HOME` Dagster forgets everything on exit; with another folder there it ignores this project's
`dagster.yaml`. So both use `.dagster/` in the project folder, with that file linked into it, unless the user
has set it; a second store gets a folder of its own.
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
from cytonet_pipeline.store import write_text
from cytonet_pipeline.store.processes import birth_of, is_alive

# In the folder of an instance: the store that it shows.
STORE_NOTE = "cytonet-store.txt"
# Tags of the process that executes a run. Dagster's pages leave out tags that begin in this way.
TAGS_OF_PROCESS = ".dagster/cytonet_"
# The same in runs of 0.2.1: one that was killed before the upgrade would keep its place in a pool for ever.
_FORMER_TAGS_OF_PROCESS = "cytonet/"


def dagster_home(store: Path) -> Path:
    """Return the folder of a store's instance; the project's own are made and configured.

    An instance shows one store: brains of another would stand among its partitions. The first store that is opened with
    it is noted in its folder.

    Raises
    ------
    ConfigurationError
        `DAGSTER_HOME` names something that is not a folder, or the instance belongs to another store.
    """
    given = os.environ.get("DAGSTER_HOME")
    home = Path(given).expanduser().absolute() if given else _own_home(store)
    if given and not home.is_dir():
        raise ConfigurationError(
            f"DAGSTER_HOME={given}: no such folder.", to_fix=f"mkdir -p {given}, or unset it to use .dagster"
        )
    _require_own_store(home, store)
    if not given:
        home.mkdir(exist_ok=True)
        link = home / "dagster.yaml"
        if not link.exists():
            link.unlink(missing_ok=True)
            ours = project_file("dagster.yaml")
            link.symlink_to(Path("..") / "dagster.yaml" if ours.parent == home.parent else ours)
        os.environ["DAGSTER_HOME"] = str(home)
    return home


def instance_exists(store: Path) -> bool:
    """Whether there is an instance that `open_instance` would open, rather than make."""
    return bool(os.environ.get("DAGSTER_HOME")) or _own_home(store).is_dir()


def _own_home(store: Path) -> Path:
    """Return the project's folder for a store's instance: `.dagster`; if another store has that, one by its name."""
    first = project_folder() / ".dagster"
    return first if _noted_store(first) in (None, store.resolve()) else first.with_name(f".dagster-{store.name}")


def _noted_store(home: Path) -> Path | None:
    note = home / STORE_NOTE
    return Path(note.read_text(encoding="utf-8").strip()) if note.exists() else None


def _require_own_store(home: Path, store: Path) -> None:
    noted = _noted_store(home)
    if noted not in (None, store.resolve()):
        raise ConfigurationError(
            f"{home}: this Dagster instance belongs to the store {noted}, and CYTONET_STORE is {store}.",
            looked_for=str(home / STORE_NOTE),
            to_fix=f"set CYTONET_STORE={noted}, or DAGSTER_HOME to another folder with a copy of dagster.yaml; if the "
            f"store was moved: rm {home / STORE_NOTE}",
        )


def open_instance(store: Path) -> dg.DagsterInstance:
    """Open the instance of a store, with the limits of its pools set.

    Raises
    ------
    ConfigurationError
        The instance belongs to another store.
    """
    home = dagster_home(store)
    if _noted_store(home) is None:
        write_text(home / STORE_NOTE, f"{store.resolve()}\n")
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
    tags = {"host": socket.gethostname(), "pid": str(os.getpid()), "born": born}
    return {TAGS_OF_PROCESS + name: value for name, value in tags.items()}


def fail_orphaned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs of this machine whose process was killed as failed, free what they hold, and return their ids.

    Nothing monitors a run that is executed in process: after SIGKILL it would count as running for ever, and the next
    one would wait for its place in a pool.
    """
    host = socket.gethostname()
    orphaned = []
    for prefix in (TAGS_OF_PROCESS, _FORMER_TAGS_OF_PROCESS):
        unfinished = dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED], tags={f"{prefix}host": host}
        )
        for run in instance.get_runs(unfinished):
            record = {"host": host, "born": run.tags.get(f"{prefix}born") or None}
            if is_alive(int(run.tags[f"{prefix}pid"]), record):
                continue
            fail_run(instance, run, "its process was killed; the store keeps what was finished")
            orphaned.append(run.run_id)
    return orphaned
