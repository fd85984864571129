"""The two partition sets, and how one maps to the other. They are named here and nowhere else.

Brains come and go while the pipeline runs: a dynamic set, filled by the sensor `new_brains` and by `cytonet run`.
Encoders are decided by people and reviewed in git: a static set, read once from the experiments file that is acted on.
Those of other files would be partitions that cannot be run.
"""

import dagster as dg

# Makes the names of backbones and losses known to the check of experiments files.
import cytonet_pipeline.learning  # noqa: F401
from cytonet_pipeline.cluster.launchers import backend_of
from cytonet_pipeline.defs.training.cron import known_cron
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings, read_all_experiments
from cytonet_pipeline.stages.stage import PartitionSet

brains = dg.DynamicPartitionsDefinition(name="brain")

# The only place that reads the environment at import: a static set has to be known when definitions load.
_settings = Settings.from_environment()
# Of all files in the folder: a name that is used twice would mix two encoders in the store.
_experiments = read_all_experiments(_settings.experiments_file)

# Cron expressions are read in a time zone; both have to be known when definitions load, too.
schedule_timezone, schedule_cron = _settings.known_timezone(), known_cron(_settings)

encoders = dg.StaticPartitionsDefinition(
    sorted(name for name, (file, _) in _experiments.items() if file == _settings.experiments_file)
)

# By the name that stages give a partition set.
PARTITION_SETS: dict[PartitionSet | None, dg.PartitionsDefinition | None] = {
    "brain": brains,
    "encoder": encoders,
    None: None,
}

# Brains to encoders: without a mapping Dagster pairs equal names, finds none, and the run succeeds with no input.
every_brain = dg.AllPartitionMapping()


# Pools of the steps that compute on this machine, training and evaluation.
LOCAL_POOLS = ("local_training", "local_heavy")


def pool_of(step: str, local: str) -> str:
    """Return the pool in which a step waits for its turn; it has to be known when definitions load.

    One that only waits for the cluster takes no place among those that use this machine.
    """
    try:
        return backend_of(_settings).waiting_pool(step) or local
    except ConfigurationError:
        return local  # The first run and `cytonet doctor` report the fault; a graph that does not load shows less.
