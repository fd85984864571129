"""What is used of Dagster beyond its documented interface: listed, present, and used in one module only."""

import ast
from pathlib import Path

import dagster as dg
import pytest

import cytonet_pipeline
from cytonet_pipeline.defs import dagster_internals as internals

# Methods of an instance and of definitions that only lack the mark of being public; the others stay inside the module.
PLAIN = {
    "event_log_storage",
    "get_runs",
    "add_run_tags",
    "get_materialized_partitions",
    "resolve_job_def",
    "handle_message",
    "PreviewWarning",
    "get",
}


def test_the_installed_dagster_has_every_undocumented_name():
    """After an upgrade this names what has gone, and what needs it."""
    assert internals.absent_names() == []


def test_a_name_that_an_upgrade_removes_is_reported_with_what_needs_it(monkeypatch):
    monkeypatch.setitem(internals.UNDOCUMENTED, "dagster.DagsterInstance.gone_with_2_0", "limits of single pools")

    assert internals.absent_names() == ["dagster.DagsterInstance.gone_with_2_0: limits of single pools"]


@pytest.mark.parametrize("name", sorted({path.rpartition(".")[2] for path in internals.UNDOCUMENTED} - PLAIN))
def test_internals_of_dagster_are_reached_from_one_module(name):
    users = [path.name for path in _modules() if name in _attributes(path)]

    assert users == ["dagster_internals.py"]


def test_no_module_imports_a_private_package_of_dagster():
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("dagster._"), path
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("dagster._") for alias in node.names), path


def test_a_failed_step_is_shown_by_its_description_or_by_its_exception():
    @dg.op
    def described():
        raise dg.Failure("no atlas in tpl-MNIColin27")

    @dg.op
    def raised():
        raise ValueError("not a number")

    @dg.job
    def job():
        described()
        raised()

    failures = list(internals.step_failures(job.execute_in_process(raise_on_error=False).all_events))

    assert {failure.message for failure in failures} == {
        "no atlas in tpl-MNIColin27",
        "ValueError: not a number",
    }


def _modules() -> list[Path]:
    root = Path(cytonet_pipeline.__file__).parent
    return [*sorted((root / "defs").rglob("*.py")), *sorted((root / "cli").rglob("*.py")), root / "definitions.py"]


def _attributes(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
