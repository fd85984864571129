"""The two partition sets, and how one maps to the other. Named here, nowhere else.

Brains come and go while the pipeline runs: a dynamic set, filled by the sensor `new_brains` and by `cytonet run`.
Encoders are decided by people and reviewed in git: a static set, read once from the experiments files.
"""

import dagster as dg

# Makes the names of backbones and losses known to the check of experiments files.
import cytonet_pipeline.learning  # noqa: F401
from cytonet_pipeline.cluster.launchers import waiting_pool
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings, read_all_experiments

brains = dg.DynamicPartitionsDefinition(name="brain")

# The only place that reads the environment at import: a static set has to be known when definitions load.
_settings = Settings.from_environment()
_experiments = read_all_experiments(_settings.experiments_file.parent)

encoders = dg.StaticPartitionsDefinition(sorted(_experiments))

# Brains to encoders: without a mapping Dagster pairs equal names, finds none, and the run succeeds with no input.
every_brain = dg.AllPartitionMapping()


def pool_of(step: str, local: str) -> str:
    """The pool in which a step waits for its turn, which has to be known when definitions load, too.

    One that only waits for the cluster takes no place among those that use this machine.
    """
    try:
        return waiting_pool(_settings, step) or local
    except ConfigurationError:
        return local  # Said by the first run, and by `cytonet doctor`; a graph that does not load says less.
