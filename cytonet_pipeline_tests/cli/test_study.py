"""What `cytonet study` acts on, and the time that it states before anything is computed."""

import pytest

from cytonet_pipeline.cli.study import estimate, study, study_settings
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.learning.planning import cpu_time
from cytonet_pipeline_tests.conftest import PROJECT


@pytest.fixture
def settings(tmp_path, monkeypatch):
    for name in ("CYTONET_DATA", "CYTONET_REFERENCE", "CYTONET_STORE", "CYTONET_EXPERIMENTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cpu_time, "seconds_per_step", lambda block, patch_um: 0.18)
    return study_settings(tmp_path, None)


def test_a_study_without_settings_paints_its_brains_and_keeps_its_store_beside_them(settings, tmp_path):
    assert settings.data == tmp_path / "phantom" / "brains"
    assert settings.reference == tmp_path / "phantom" / "tpl-MNIColin27"
    assert settings.store == tmp_path / "store"
    assert settings.experiments_file == PROJECT / "experiments" / "study.yaml"


def test_the_headline_takes_at_most_100_minutes_on_two_cores_and_all_of_it_a_night(settings):
    """At 0.18 CPU seconds per step, as measured on one core of an AMD EPYC (Zen 4)."""
    table = estimate(settings, settings.experiments.by_importance(), 2, painted=True).set_index("part")

    assert table["together"]["headline"] < 100 / 60
    assert table["together"].iloc[-1] < 10
    assert table["encoders"].sum() == len(settings.experiments.encoders)


def test_every_encoder_of_the_study_is_in_a_part(settings):
    experiments = settings.experiments

    assert {name for part in experiments.parts for name in experiments.encoders_of(part)} == set(experiments.encoders)


def test_an_unknown_part_is_refused_before_brains_are_painted(settings, tmp_path):
    with pytest.raises(ConfigurationError, match="no part 'haedline'; near it: headline"):
        study(tmp_path, part="haedline", jobs=1, plan=False, reference=None)

    assert not (tmp_path / "phantom").exists()
