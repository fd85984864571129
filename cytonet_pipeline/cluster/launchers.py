"""The choice of a back-end: `CYTONET_CLUSTER` decides where training and other long steps run, nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cytonet_pipeline.cluster.attempt import Launcher, last_attempt, read_json
from cytonet_pipeline.cluster.backend import Backend, Notify, SiteCheck
from cytonet_pipeline.cluster.batch.record import facts_of
from cytonet_pipeline.cluster.local import LocalBackend
from cytonet_pipeline.cluster.slurm.backend import SlurmBackend
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings

# Values of CYTONET_CLUSTER.
BACKENDS: Mapping[str, Backend] = {
    "local": LocalBackend(),
    "slurm": SlurmBackend(),
}


def backend_of(settings: Settings) -> Backend:
    """Return the back-end that the settings name.

    Raises
    ------
    ConfigurationError
        `CYTONET_CLUSTER` names none.
    """
    try:
        return BACKENDS[settings.cluster]
    except KeyError:
        raise ConfigurationError(
            f"CYTONET_CLUSTER={settings.cluster}: no such launcher.", to_fix=f"set it to {' or '.join(BACKENDS)}"
        ) from None


def require_backend(settings: Settings) -> Backend:
    """Return the back-end that the settings name, once the description of its site could be read.

    Raises
    ------
    ConfigurationError
        `CYTONET_CLUSTER` names no back-end, or the description of its site is missing or faulty.
    """
    backend = backend_of(settings)
    backend.training_gpus()
    return backend


def launcher_of(settings: Settings, encoder: str, notify: Notify) -> Launcher:
    """Make the launcher of an encoder's training runs.

    Parameters
    ----------
    notify : callable
        Gets a line when a submission has to wait.

    Raises
    ------
    ConfigurationError
        `CYTONET_CLUSTER` names no back-end, or the description of its site is faulty.
    """
    return backend_of(settings).training_launcher(settings, encoder, notify)


def step_launcher(settings: Settings, step: str, arguments: Sequence[str], notify: Notify) -> Launcher | None:
    """Make the launcher of a long step beside training; None if this process does it itself.

    Parameters
    ----------
    step : str
        Name of the step in the description of a site.
    arguments : sequence of str
        What follows `python -m` where the step runs: module and arguments.

    Raises
    ------
    ConfigurationError
        As `launcher_of`.
    """
    return backend_of(settings).step_launcher(settings, step, arguments, notify)


def pool_limits() -> dict[str, int]:
    """Return the limits of all pools in which steps only wait."""
    return {pool: limit for backend in BACKENDS.values() for pool, limit in backend.pools.items()}


def check_up(settings: Settings) -> Iterator[SiteCheck]:
    """Examine the cluster of the settings; with `local`, that of the first back-end that has one.

    Raises
    ------
    ConfigurationError
        As `launcher_of`.
    """
    for backend in (backend_of(settings), *BACKENDS.values()):
        checks = backend.check_up(settings)
        if checks is not None:
            return checks
    return iter(())


def job_facts(folder: Path) -> dict[str, Any]:
    """Collect what people want to know about the job behind a finished folder; empty if no cluster was used."""
    place = last_attempt(folder)
    record = read_json(place / "job.json") if place else {}
    backend = BACKENDS.get(record.get("cluster", ""))
    return facts_of(place, record, backend.title) if place and backend else {}
