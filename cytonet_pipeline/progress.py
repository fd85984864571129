"""Progress of long steps, without deciding who shows it.

Domain code wraps its loops in `track` or reports to a `task`; the command line installs a `rich` display, Dagster
steps and notebooks leave the default, which is silent.
"""

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")


class Task(Protocol):
    """One line of progress: how far it is, and a note beside it."""

    def advance(self, steps: float = 1) -> None:
        """Move on by this many steps."""

    def to(self, done: float, note: str = "") -> None:
        """Stand at `done` steps and show `note` beside it."""


class Display(Protocol):
    """Shows lines of progress; the command line installs one."""

    @contextmanager
    def task(self, description: str, total: float | None) -> Iterator[Task]:
        """Open one line of progress and close it at the end."""
        ...


class _Silent:
    def advance(self, steps: float = 1) -> None:
        pass

    def to(self, done: float, note: str = "") -> None:
        pass

    @contextmanager
    def task(self, description: str, total: float | None) -> Iterator[Task]:
        yield self


# One display per process: a terminal has only one bottom line. Set by `shown_on`, never by domain code.
_display: Display = _Silent()


@contextmanager
def shown_on(display: Display) -> Iterator[None]:
    """Show all progress of this process on `display` while the context is open."""
    global _display
    before, _display = _display, display
    try:
        yield
    finally:
        _display = before


@contextmanager
def task(description: str, total: float | None = None) -> Iterator[Task]:
    """Open one line of progress with `total` steps (unknown if None)."""
    with _display.task(description, total) as opened:
        yield opened


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` and advance one step after each; `total` defaults to `len(items)` where that exists."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with task(description, total) as opened:
        for item in items:
            yield item
            opened.advance()
