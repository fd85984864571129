"""Which brains of the store take part: those that the data set has and releases now.

A store keeps what it was given. A brain that has left the data set, or whose release was withdrawn, lies in it until
somebody takes it out; it is in no training set and in no evaluation from the moment on which the data set says so.
"""

from collections.abc import Iterable

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.settings import Settings


def brains_left_out(settings: Settings, brains: Iterable[str]) -> dict[str, str]:
    """Return those of some brains that take no part in training and evaluation, with the reasons.

    Cheap: `participants.tsv` is read once, and one folder per brain is looked for.

    Raises
    ------
    ConfigurationError
        There is no data set, or its table of participants cannot be read.
    """
    return Dataset(settings.data, settings.experiments.dataset).reasons_against(brains)
