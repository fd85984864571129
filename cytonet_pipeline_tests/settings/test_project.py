"""Where things lie by default: in the checkout that one works in, else in the current folder."""

import pytest

from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings, project_file, project_folder, read_experiments
from cytonet_pipeline_tests.conftest import PROJECT


def test_the_environment_decides_where_things_lie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    settings = Settings.from_environment({"CYTONET_DATA": str(tmp_path), "CYTONET_STORE": "elsewhere"})

    assert settings.data == tmp_path
    assert settings.store == tmp_path / "elsewhere"
    assert Settings.from_environment(settings.environment()) == settings


@pytest.mark.parametrize("below", [".", "docs", "cytonet_pipeline/store"])
def test_anywhere_in_a_checkout_the_checkout_is_the_project(monkeypatch, below):
    monkeypatch.chdir(PROJECT / below)

    settings = Settings.from_environment({})

    assert project_folder() == PROJECT
    assert settings.reference == PROJECT / "demo" / "tpl-MNIColin27"
    assert settings.store == PROJECT / "store"
    assert settings.experiments_file == PROJECT / "experiments" / "demo.yaml"


def test_elsewhere_the_current_folder_is_the_project_and_experiments_come_from_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    settings = Settings.from_environment({})

    assert settings.data == tmp_path / "demo" / "brains"
    assert settings.store == tmp_path / "store"
    assert settings.experiments == read_experiments(PROJECT / "experiments" / "demo.yaml")


def test_a_project_may_have_files_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert project_file("dagster.yaml").read_text() == (PROJECT / "dagster.yaml").read_text()

    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")

    assert project_file("dagster.yaml") == tmp_path / "dagster.yaml"


def test_a_time_zone_that_does_not_exist_is_refused():
    assert Settings.from_environment({}).known_timezone() == "UTC"
    assert Settings.from_environment({"CYTONET_TIMEZONE": "Europe/Berlin"}).known_timezone() == "Europe/Berlin"
    for name in ("Berlin", "../../etc/passwd", "Europe"):
        with pytest.raises(ConfigurationError, match=f"CYTONET_TIMEZONE={name}: no such time zone"):
            Settings.from_environment({"CYTONET_TIMEZONE": name}).known_timezone()
