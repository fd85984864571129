"""Who runs a training, or another long step: this machine, or the cluster. `CYTONET_CLUSTER` decides, nothing else."""

from collections.abc import Callable
from pathlib import Path

from cytonet_pipeline.cluster.attempt import STEP, Launcher
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings

LOCAL, SLURM = "local", "slurm"


def launcher_of(settings: Settings, encoder: str, tell: Callable[[str], None]) -> Launcher:
    """The launcher of an encoder's trainings.

    Parameters
    ----------
    tell : callable
        Gets a line when a submission has to wait.

    Raises
    ------
    ConfigurationError
        `CYTONET_CLUSTER` names neither, or the cluster's profile is faulty.
    """
    if settings.cluster == LOCAL:
        from cytonet_pipeline.cluster.local import LocalLauncher

        return LocalLauncher(settings.data, processes=settings.encoder(encoder).processes)
    if settings.cluster == SLURM:
        from cytonet_pipeline.cluster.batch import training_launcher
        from cytonet_pipeline.cluster.slurm.profile import read_profile

        return training_launcher(settings.data, read_profile(), tell)
    raise ConfigurationError(
        f"CYTONET_CLUSTER={settings.cluster}: no such launcher.", to_fix=f"set it to {LOCAL} or {SLURM}"
    )


def step_launcher(
    settings: Settings, step: str, partition: str, *, recompute: bool, tell: Callable[[str], None]
) -> Launcher | None:
    """The launcher of a long step beside the training; None where this process does it itself.

    Raises
    ------
    ConfigurationError
        The cluster's profile is faulty.
    """
    if settings.cluster != SLURM:
        return None
    from cytonet_pipeline.cluster.batch import SlurmLauncher
    from cytonet_pipeline.cluster.slurm.profile import read_profile

    profile = read_profile()
    if not profile.sends(step):
        return None

    def words(folder: Path) -> list[str]:
        return [STEP, step, partition, *(["--recompute"] if recompute else [])]

    # On the node nothing is handed on.
    environment = {**settings.environment(), "CYTONET_CLUSTER": LOCAL}
    return SlurmLauncher(profile, words, step=step, environment=environment, tell=tell)
