"""When the schedule `retrain` ticks. Definitions need to know it when they load, as they do its time zone."""

import dagster as dg

from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings


def known_cron(settings: Settings) -> str:
    """Return the cron expression of `retrain: cron`, as Dagster reads it.

    Raises
    ------
    ConfigurationError
        It is none, has seconds or years, or names a day that never comes.
    """
    cron = settings.experiments.retrain.cron
    try:
        # Dagster checks it while it makes a schedule, and documents no other way.
        dg.ScheduleDefinition(name="checked", job_name="checked", cron_schedule=cron)
    except dg.DagsterInvalidDefinitionError as error:
        raise ConfigurationError(
            f"{settings.experiments_file}: retrain.cron: {cron!r} is no cron expression that Dagster accepts.",
            to_fix="write minute, hour, day of the month, month and day of the week, such as "
            '"0 3 * * 1" for Mondays at 03:00, or leave the key out for that',
        ) from error
    return cron
