"""Settings as a resource: read when a run starts, the same for all that a run consists of."""

from pathlib import Path

import dagster as dg
import pytest

from cytonet_pipeline.defs.resources import PipelineSettings
from cytonet_pipeline.settings import Settings


def settings_in_a_run(resource, run_config=None) -> Settings:
    """Return what an op of a run gets."""
    seen = []

    @dg.op
    def look(settings: dg.ResourceParam[Settings]) -> None:
        seen.append(settings)

    @dg.job(resource_defs={"settings": resource})
    def job():
        look()

    assert job.execute_in_process(run_config=run_config).success
    return seen[0]


def test_settings_come_from_the_environment_when_a_run_starts(monkeypatch):
    """A code server lives for weeks; a variable that changes must not need its restart."""
    resource = PipelineSettings()
    monkeypatch.setenv("CYTONET_STORE", "/first")
    first = settings_in_a_run(resource)
    monkeypatch.setenv("CYTONET_STORE", "/second")

    assert (first.store, settings_in_a_run(resource).store) == (Path("/first"), Path("/second"))


@pytest.mark.parametrize(
    ("field", "attribute"),
    [
        ("data", "data"),
        ("reference", "reference"),
        ("store", "store"),
        ("experiments", "experiments_file"),
        ("cluster", "cluster"),
    ],
)
def test_a_field_goes_before_its_variable(monkeypatch, field, attribute):
    monkeypatch.setenv(f"CYTONET_{field.upper()}", "/environment")
    usual = settings_in_a_run(PipelineSettings())

    chosen = settings_in_a_run(PipelineSettings(**{field: "/field"}))

    assert str(getattr(usual, attribute)) == "/environment"
    assert str(getattr(chosen, attribute)) == "/field"


def test_a_person_can_choose_another_store_in_the_launchpad():
    chosen = settings_in_a_run(PipelineSettings(), {"resources": {"settings": {"config": {"store": "/elsewhere"}}}})

    assert chosen.store == Path("/elsewhere")


def test_a_misspelt_field_is_refused():
    with pytest.raises(dg.DagsterInvalidConfigError, match="stor"):
        settings_in_a_run(PipelineSettings(), {"resources": {"settings": {"config": {"stor": "/elsewhere"}}}})


def test_ready_settings_take_the_place_of_the_resource():
    """Tests and notebooks have settings already."""
    settings = Settings.from_environment({"CYTONET_STORE": "/ready"})

    assert settings_in_a_run(dg.ResourceDefinition.hardcoded_resource(settings)) is settings
