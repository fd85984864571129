"""The texts of the package: what a message that a document quotes is looked for in."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from cytonet_pipeline_tests.conftest import PROJECT


@cache
def texts_of_the_code() -> tuple[str, ...]:
    """Return every text of the package's code, with `…` for what an f-string fills in."""
    rooms = sorted((PROJECT / "cytonet_pipeline").glob("*"))
    files = [file for room in rooms if room.name != "project_files" for file in _python_files(room)]
    return tuple(text for file in files for text in _texts(ast.parse(file.read_text(encoding="utf-8"))))


def occurs_in_the_code(message: str) -> bool:
    """Tell whether one text of the code has all parts of a message in their order."""
    parts = [part for part in (part.strip() for part in message.split("…")) if part]
    pattern = re.compile(".*?".join(re.escape(part) for part in parts), re.DOTALL)
    return any(pattern.search(text) for text in texts_of_the_code())


def _python_files(room: Path) -> list[Path]:
    return [room] if room.suffix == ".py" else sorted(room.rglob("*.py"))


def _texts(module: ast.Module) -> Iterator[str]:
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(module)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value
