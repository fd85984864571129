"""The documents of the project, and the commands that stand in their blocks."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cytonet_pipeline_tests.conftest import PROJECT

DOCUMENTS = (PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md")), PROJECT / "deploy" / "README.md")
_BLOCK = re.compile(r"^```\w*\n(.*?)^```|((?:^    .*\n)+)", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\s*((?:[A-Z_]+=\S+ )*)(?:\S*/)?cytonet( .*)$")


@dataclass(frozen=True)
class Command:
    """A line of a document: `variable=value … cytonet words …`."""

    document: str
    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.document}: {' '.join(self.words)}"


def commands() -> list[Command]:
    """List every command of every document, without comments."""
    return [command for document in DOCUMENTS for command in _commands_of(document)]


def _commands_of(document: Path) -> Iterator[Command]:
    for block in _BLOCK.finditer(document.read_text(encoding="utf-8")):
        for line in re.split(r"\n|&&", block.group(1) or block.group(2) or ""):
            if found := _COMMAND.match(line):
                variables, words = (shlex.split(text, comments=True) for text in found.groups())
                pairs = tuple((name, value) for name, _, value in (each.partition("=") for each in variables))
                yield Command(str(document.relative_to(PROJECT)), tuple(words), pairs)
