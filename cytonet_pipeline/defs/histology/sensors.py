"""The sensor `new_brains`: released brains that the store does not have, or has from other files, are taken in.

Stateless: every tick compares the data set with the store, so what happened between ticks, or while a run was in
progress, is not lost. It never deletes a partition. A data set that cannot be read is a reason to skip, not an empty
data set.
"""

import hashlib
import json
from dataclasses import dataclass

import dagster as dg

from cytonet_pipeline.defs.jobs import ingest_brain
from cytonet_pipeline.defs.partitions import brains
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings


@dataclass(frozen=True)
class Arrival:
    """A brain that should be taken in, and a key for the state of its files."""

    brain: str
    key: str


def arrivals(settings: Settings) -> list[Arrival]:
    """Released brains whose inventory in the store is missing or was made from other files.

    Raises
    ------
    ConfigurationError
        The data set cannot be read.
    """
    from cytonet_pipeline.dataset import Dataset
    from cytonet_pipeline.defs import currency

    found = []
    for brain in Dataset(settings.data, settings.experiments.dataset).released():
        result = currency.section_scans(settings, brain)
        indexed = currency.patch_index(settings, brain)
        if not (result.current and indexed.current):
            inputs = {"scans": result.inputs, "index": indexed.inputs}
            key = hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()[:16]
            found.append(Arrival(brain, f"{brain}-{key}"))
    return found


@dg.sensor(
    job=ingest_brain,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Adds each released brain that the store does not have as a partition, and runs ingest_brain on it.",
)
def new_brains(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult | dg.SkipReason:
    """One run a brain and state of its files; the run key keeps a tick from asking twice."""
    try:
        found = arrivals(settings)
    except CytonetError as error:
        return dg.SkipReason(str(error))
    if not found:
        return dg.SkipReason(f"the store has every released brain of {settings.data}")
    known = set(context.instance.get_dynamic_partitions(str(brains.name)))
    missing = sorted({arrival.brain for arrival in found} - known)
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=a.key, partition_key=a.brain) for a in found],
        dynamic_partitions_requests=[brains.build_add_request(missing)] if missing else [],
    )
