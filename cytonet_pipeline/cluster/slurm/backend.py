"""Slurm behind the interface that `launchers` needs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from cytonet_pipeline.cluster.backend import Notify, SiteCheck
from cytonet_pipeline.cluster.batch.attempt import Patience
from cytonet_pipeline.cluster.batch.launcher import BatchLauncher
from cytonet_pipeline.cluster.batch.queue import BatchQueue
from cytonet_pipeline.cluster.local import LOCAL
from cytonet_pipeline.cluster.slurm.checkup import check_up
from cytonet_pipeline.cluster.slurm.profile import ClusterProfile, read_profile
from cytonet_pipeline.cluster.slurm.queue import queue_of
from cytonet_pipeline.cluster.slurm.script import render
from cytonet_pipeline.learning import MALLOC_ENVIRONMENT, PATH_ENVIRONMENT, training_command, training_environment
from cytonet_pipeline.settings import Settings

# Ops in this pool only wait for the cluster, so that it can be longer than one of this machine.
_POOL, _POOL_LIMIT = "slurm_gpu", 8


class SlurmBackend:
    """Jobs of the cluster whose profile `CYTONET_CLUSTER_PROFILE` names."""

    title = "Slurm"
    pools: Mapping[str, int] = {_POOL: _POOL_LIMIT}

    def training_launcher(self, settings: Settings, encoder: str, notify: Notify) -> BatchLauncher:
        """See `Backend.training_launcher`."""
        profile = read_profile()
        resources = profile.resources("encoder")
        # One rank per GPU; one thread per rank, as torchrun chooses, if the number of cores is unknown.
        ranks = max(resources.gpus_per_node, 1)
        threads = max((resources.cpus_per_task or 0) // ranks, 1)

        def arguments(folder: Path) -> list[str]:
            return training_command(folder, settings.data, threads=threads, packs=profile.packs)

        environment = training_environment(threads)
        return slurm_launcher(profile, arguments, ranks=ranks, environment=environment, notify=notify)

    def step_launcher(
        self, settings: Settings, step: str, arguments: Sequence[str], notify: Notify
    ) -> BatchLauncher | None:
        """See `Backend.step_launcher`."""
        profile = read_profile()
        if not profile.sends(step):
            return None
        # A node does everything itself.
        common = {**MALLOC_ENVIRONMENT, **PATH_ENVIRONMENT}
        environment = {**settings.environment(), **common, "CYTONET_CLUSTER": LOCAL}
        return slurm_launcher(profile, lambda folder: arguments, step=step, environment=environment, notify=notify)

    def waiting_pool(self, step: str) -> str | None:
        """See `Backend.waiting_pool`."""
        return _POOL if read_profile().sends(step) else None

    def training_gpus(self) -> int | None:
        """See `Backend.training_gpus`."""
        resources = read_profile().resources("encoder")
        return resources.nodes * resources.gpus_per_node or None

    def check_up(self, settings: Settings) -> Iterator[SiteCheck]:
        """See `Backend.check_up`."""
        return check_up(settings, read_profile())


def slurm_launcher(
    profile: ClusterProfile,
    arguments: Callable[[Path], Sequence[str]],
    *,
    step: str = "encoder",
    ranks: int = 0,
    environment: Mapping[str, str] | None = None,
    notify: Notify,
    queue: BatchQueue | None = None,
    patience: Patience | None = None,
) -> BatchLauncher:
    """Make a launcher of jobs on the cluster of a profile; parameters as of `BatchLauncher`."""
    return BatchLauncher(
        SlurmBackend.title,
        queue or queue_of(profile),
        lambda job: render(job, profile),
        arguments,
        step=step,
        ranks=ranks,
        environment=environment,
        patience=patience,
        notify=notify,
    )
