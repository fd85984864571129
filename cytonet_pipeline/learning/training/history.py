"""The history of a training run: a row every nth step, some with measures on validation patches."""

import time
from pathlib import Path
from typing import Any

import pandas as pd

from cytonet_pipeline.store import table, write_table

_ROWS = 1000


class History:
    """Collects the figures of steps into rows, each with the means since the row before.

    Parameters
    ----------
    steps : int
        Steps of the training run; the history gets at most about a thousand rows, one every `every` steps.
    rows : list of dict, optional
        Rows of a run that continues.
    """

    def __init__(self, steps: int, rows: list[dict[str, Any]] | None = None) -> None:
        self.every = max(1, -(-steps // _ROWS))
        self.rows = rows or []
        self._sums: dict[str, float] = {}
        self._steps = 0
        self._since = time.monotonic()

    def add(self, figures: dict[str, float]) -> None:
        """Add the figures of one step."""
        self._steps += 1
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def close_row(self, step: int, learning_rate: float, samples: int) -> None:
        """Close a row after `step` steps of `samples` samples each (over all ranks)."""
        elapsed = max(time.monotonic() - self._since, 1e-9)
        means = {name: total / self._steps for name, total in self._sums.items()}
        if "data_wait_s" in means:
            means["data_wait_share"] = min(1.0, means.pop("data_wait_s") * self._steps / elapsed)
        row = {
            "step": step,
            "learning_rate": learning_rate,
            "samples_per_second": samples * self._steps / elapsed,
            **means,
        }
        self.rows.append(row)
        self._sums, self._steps = {}, 0
        self._since = time.monotonic()

    def extend_row(self, measures: dict[str, float]) -> None:
        """Put measures on validation patches into the last row."""
        self.rows[-1] |= measures
        # Measuring is not training: the clock starts after it.
        self._since = time.monotonic()

    def frame(self) -> pd.DataFrame:
        """Return all rows, in schema `history`."""
        columns = [column.name for column in table("history").columns]
        return pd.DataFrame(self.rows, columns=columns) if self.rows else table("history").empty()

    def write(self, path: Path) -> None:
        """Write `history.parquet`."""
        write_table(path, self.frame(), "history")
