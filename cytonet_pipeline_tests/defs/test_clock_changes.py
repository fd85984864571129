"""Clock changes: the schedule `retrain` fires once each week, whatever the clocks of its time zone do."""

import datetime
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from cytonet_pipeline.defs.training.cron import known_cron
from cytonet_pipeline.defs.training.schedules import retrain
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline_tests.conftest import TINY, settings_for

# Northern and southern changes, one of half an hour, and one at midnight.
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Cairo"]
BEGIN, END = (datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2026, 2028))


def ticks(cron, zone):
    """The times at which Dagster fires a cron expression over two years, so around four changes."""
    times = schedule_execution_time_iterator(BEGIN.timestamp(), cron, zone)
    return [time.astimezone(ZoneInfo(zone)) for time in takewhile(lambda time: time < END, times)]


@pytest.mark.parametrize("zone", ZONES)
def test_the_schedule_fires_once_on_every_monday(zone):
    fired = ticks(retrain.cron_schedule, zone)

    mondays = [BEGIN.date() + datetime.timedelta(days=4 + 7 * week) for week in range(104)]
    assert [time.date() for time in fired] == mondays
    assert {(time.hour, time.minute) for time in fired} == {(3, 0)}
    if zone != "UTC":
        assert len({time.utcoffset() for time in fired}) == 2, "the clocks of this zone change"


def with_cron(tmp_path, cron):
    path = tmp_path / "experiments.yaml"
    path.write_text(f"{TINY}retrain: {{cron: {cron!r}}}\n")
    return settings_for(tmp_path, tmp_path / "store").model_copy(update={"experiments_file": path})


@pytest.mark.parametrize("cron", ["* * * * *", "30 2 1,15 * *", "0 3 * * mon", "@monthly"])
def test_the_experiments_file_sets_when_the_schedule_fires(tmp_path, cron):
    assert known_cron(with_cron(tmp_path, cron)) == cron


@pytest.mark.parametrize("cron", ["", "Mondays", "0 3 * *", "61 * * * *", "0 0 3 * * 1", "0 3 30 2 *"])
def test_a_cron_expression_that_never_fires_or_is_none_is_refused(tmp_path, cron):
    """Dagster would refuse it while the definitions load, in words about a parameter of its own."""
    settings = with_cron(tmp_path, cron)

    with pytest.raises(ConfigurationError, match=r"experiments\.yaml: retrain\.cron: ") as refused:
        known_cron(settings)

    assert repr(cron) in str(refused.value)


@pytest.mark.parametrize("hour", ["0 2 * * *", "30 2 * * *", "0 3 * * *"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
def test_a_daily_hour_that_is_skipped_or_comes_twice_fires_once_all_the_same(zone, hour):
    """A deployment may fire it daily: in spring its hour may not exist, in autumn it comes twice."""
    fired = ticks(hour, zone)

    assert len(fired) == len({time.date() for time in fired}) == (END - BEGIN).days
    assert all(
        datetime.timedelta(hours=22) < b - a < datetime.timedelta(hours=26)
        for a, b in pairwise(time.astimezone(datetime.UTC) for time in fired)
    )
