"""What the command line shows: progress with estimates, tables, and errors as they are meant to be read."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd  # takes longer to import than help takes to print

# Names and paths are never markup: `[old]` in one is part of it, and so is `:x:`. Colours are given as styles.
out = Console(highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)


class _Line:
    """One line of progress on a terminal."""

    def __init__(self, bars: Progress, identity: TaskID) -> None:
        self._bars, self._identity = bars, identity

    def advance(self, steps: float = 1) -> None:
        """Move on by this many steps."""
        self._bars.advance(self._identity, steps)

    def to(self, done: float, note: str = "") -> None:
        """Stand at `done` steps and show `note` beside it."""
        self._bars.update(self._identity, completed=done, note=note)


class Terminal:
    """A `progress.Display` on standard error: bars with an estimate, or plain lines where it is no terminal."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        self._bars = Progress(*columns, console=err, transient=False)
        self._depth = 0

    @contextmanager
    def task(self, description: str, total: float | None) -> Iterator[_Line]:
        """Open one line of progress; the first one starts the display."""
        if not err.is_terminal:
            yield _Plain(description, total)  # type: ignore[misc]
            return
        if self._depth == 0:
            self._bars.start()
        self._depth += 1
        identity = self._bars.add_task(description, total=total, note="")
        try:
            yield _Line(self._bars, identity)
        finally:
            # Lines of inner steps go, so that the outer one stays on the screen.
            self._bars.remove_task(identity) if self._depth > 1 else self._bars.stop_task(identity)
            self._depth -= 1
            if self._depth == 0:
                self._bars.stop()


class _Plain:
    """Progress in a log file: a line whenever the note changes, or another quarter is done."""

    def __init__(self, description: str, total: float | None) -> None:
        self._description, self._total = description, total
        self._done, self._printed_quarter, self._note = 0.0, -1, ""

    def advance(self, steps: float = 1) -> None:
        """Move on by this many steps."""
        self.to(self._done + steps, self._note)

    def to(self, done: float, note: str = "") -> None:
        """Stand at `done` steps; print it once per quarter."""
        self._done = done
        quarter = int(4 * done / self._total) if self._total else 0
        if quarter == self._printed_quarter and (note == self._note or self._description != "pipeline"):
            return
        self._printed_quarter, self._note = quarter, note
        of = f"/{self._total:g}" if self._total else ""
        err.print(f"{self._description}: {done:g}{of} {note}".rstrip(), soft_wrap=True)


def show(frame: "pd.DataFrame", title: str = "", *, droppable: Sequence[str] = ()) -> None:
    """Print a data frame as a table; on a terminal too narrow for it, as one paragraph per row.

    Parameters
    ----------
    droppable : sequence of str
        Columns that `--json` has as well: on a narrow terminal they are left out, the first ones first, and named.
    """
    left_out = []
    for column in (name for name in droppable if name in frame.columns):
        if sum(_longest_words(frame)) + 3 * len(frame.columns) + 1 > out.width:
            frame = frame.drop(columns=column)
            left_out.append(column)
    if _fits(frame, whole_words=bool(droppable)):
        # Words may wrap; a table of many columns would become one of single letters.
        out.print(_grid(frame, title, whole_words=bool(droppable)))
    else:
        _show_paragraphs(frame, title)
    if left_out:
        out.print(f"left out, too narrow: {', '.join(left_out)} (see --json)", soft_wrap=True)


def _grid(frame: "pd.DataFrame", title: str, *, whole_words: bool) -> Table:
    from pandas.api.types import is_numeric_dtype

    grid = Table(title=title or None, title_justify="left")
    widths = _shared_width(frame) if whole_words else [None] * len(frame.columns)
    for column, width in zip(frame.columns, widths, strict=True):
        numeric = is_numeric_dtype(frame[column])
        grid.add_column(str(column), justify="right" if numeric else "left", overflow="fold", width=width)
    for row in frame.itertuples(index=False):
        grid.add_row(*(_cell(value) for value in row))
    return grid


def _show_paragraphs(frame: "pd.DataFrame", title: str) -> None:
    out.print(title, style="italic")
    for row in frame.itertuples(index=False):
        first, *others = (_cell(value) for value in row)
        cells = (f"{name} {value}" for name, value in zip(frame.columns[1:], others, strict=True) if value)
        out.print(f"{first}: {', '.join(cells)}")


def _fits(frame: "pd.DataFrame", *, whole_words: bool) -> bool:
    """Whether a table fits the terminal: if its words may wrap, or else if only its widest column does, to a third."""
    if whole_words:
        return sum(_longest_words(frame)) + 3 * len(frame.columns) + 1 <= out.width
    widths = sorted(max(map(len, column)) for column in _columns_of_cells(frame))
    return sum(widths[:-1]) + min(widths[-1], max(12, widths[-1] // 3)) + 3 * len(widths) + 1 <= out.width


def _shared_width(frame: "pd.DataFrame") -> list[int | None]:
    """Return the width of each column if no word is broken: what the terminal has left goes to the narrow ones first.

    Rich narrows the widest columns, whatever is in them: names and digests would be folded.
    """
    words = _longest_words(frame)
    whole = [max(map(len, column)) for column in _columns_of_cells(frame)]
    spare = out.width - sum(words) - 3 * len(words) - 1
    widths: list[int | None] = list(words)
    for column in sorted(range(len(words)), key=lambda index: whole[index] - words[index]):
        more = min(spare, whole[column] - words[column])
        widths[column] = words[column] + more
        spare -= more
    return widths


def _longest_words(frame: "pd.DataFrame") -> list[int]:
    """Return the length of the longest word in each column, its name included (characters)."""
    return [max(len(word) for cell in cells for word in cell.split() or [""]) for cells in _columns_of_cells(frame)]


def _columns_of_cells(frame: "pd.DataFrame") -> list[list[str]]:
    return [[str(name), *(_cell(value) for value in frame[name])] for name in frame.columns]


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
