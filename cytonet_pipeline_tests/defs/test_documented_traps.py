"""`docs/dagster.md` and the tests that it names belong together."""

import re
from pathlib import Path

from cytonet_pipeline_tests.conftest import PROJECT

HERE = Path(__file__).parent
TEXT = (PROJECT / "docs" / "dagster.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### Trap (\d+): (.*?)(?=^### |\Z)", TEXT, re.DOTALL | re.MULTILINE))


def test_every_trap_names_a_test_that_guards_it():
    assert list(SECTIONS) == [str(number) for number in range(1, 22)]
    for number, section in SECTIONS.items():
        assert re.search(r"`test_\w+\.py::test_\w+`", section), f"trap {number} names no test"


def test_every_test_that_the_document_names_exists():
    for module, name in re.findall(r"`(test_\w+\.py)::(test_\w+)`", TEXT):
        assert f"def {name}(" in (HERE / module).read_text(encoding="utf-8"), f"{module}::{name}"


def test_what_tests_cite_is_in_the_document():
    """A number without the document says nothing to a reader."""
    for path in sorted(HERE.glob("test_*.py")):
        if path == Path(__file__):
            continue
        for number, rest in re.findall(r"Trap (\d+)([^\n]*)", path.read_text(encoding="utf-8")):
            assert number in SECTIONS, f"{path.name}: trap {number}"
            assert "docs/dagster.md" in rest, f"{path.name}: trap {number} without its document"
