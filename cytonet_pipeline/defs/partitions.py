"""The two partition sets, and how one maps to the other. Named here, nowhere else.

Brains come and go while the pipeline runs: a dynamic set, filled by the sensor `new_brains` and by `cytonet run`.
Encoders are decided by people and reviewed in git: a static set, read once from the experiments files.
"""

import dagster as dg

from cytonet_pipeline.settings import Settings, read_all_experiments

brains = dg.DynamicPartitionsDefinition(name="brain")

# The one environment variable that is read at import: a static set has to be known when definitions load.
_experiments = read_all_experiments(Settings.from_environment().experiments_file.parent)

encoders = dg.StaticPartitionsDefinition(sorted(_experiments))

# Brains to encoders: without a mapping Dagster pairs equal names, finds none, and the run succeeds with no input.
every_brain = dg.AllPartitionMapping()
