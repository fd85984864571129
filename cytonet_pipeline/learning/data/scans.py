"""Open the scans of sections, and read patches section by section."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import split_pick
from cytonet_pipeline.errors import ScanError, TrainingError
from cytonet_pipeline.histology import Scan, open_scan
from cytonet_pipeline.store.reading_note import reading


class PatchReader(Protocol):
    """The part of an open scan's interface that is used here."""

    def read_patches(
        self, xy_px: np.ndarray, size_px: int, pixel_um: float, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Read patches (N, size, size) uint8 around centres (N, 2) in full-resolution pixels."""
        ...


ScanOpener = Callable[[str, str], AbstractContextManager[PatchReader]]


class SectionScans:
    """Opens a section's scan by brain and sample.

    Parameters
    ----------
    root : Path
        The data set, which the paths are relative to.
    sections : DataFrame
        Columns `brain`, `sample`, `path`, `pixel_um` and, if they exist, `window_low`, `window_high`: tables
        `training_sections` and `section_scans`.
    window_of : callable, optional
        Intensity window of a brain, for tables without windows (`DatasetBlock.window_of`).
    """

    def __init__(
        self,
        root: Path,
        sections: pd.DataFrame,
        window_of: Callable[[str], tuple[int, int] | None] | None = None,
    ) -> None:
        self._root = root
        records = sections.to_dict("records")
        self._rows: dict[Any, dict[Any, Any]] = {(r["brain"], r["sample"]): r for r in records}
        self._window_of = window_of

    def __call__(self, brain: str, sample: str) -> AbstractContextManager[PatchReader]:
        """Open the scan of a section; what is wrong with it while it is open names the section, too.

        Raises
        ------
        TrainingError
            The table has no such section.
        ScanError
            The scan cannot be read.
        """
        row = self._rows.get((brain, sample))
        if row is None or not isinstance(row["path"], str):
            raise TrainingError(
                f"sub-{brain}, sample {sample}: no scan is known for its patches.",
                to_fix="rebuild the patch index: cytonet run --brains " + brain,
            )
        path, pick = split_pick(row["path"])
        return _named(
            f"sub-{brain}, sample {sample}",
            self._root / path,
            lambda: open_scan(self._root / path, float(row["pixel_um"]), self._window(row), pick=pick),
        )

    def _window(self, row: dict[Any, Any]) -> tuple[int, int] | None:
        low, high = row.get("window_low"), row.get("window_high")
        if low is not None and high is not None and not (pd.isna(low) or pd.isna(high)):
            return int(low), int(high)
        return self._window_of(str(row["brain"])) if self._window_of else None


@contextmanager
def _named(section: str, path: Path, opened: Callable[[], Scan]) -> Iterator[Scan]:
    """Open a scan and note what is read; faults name its section."""
    with reading(f"{section} ({path})"):
        try:
            with opened() as scan:
                yield scan
        except ScanError as fault:
            raise ScanError(
                f"{section}: {fault.what}",
                looked_for=fault.looked_for,
                to_fix="; ".join(filter(None, (fault.to_fix, "or leave the section out: cytonet withdraw"))),
            ) from fault
        except OSError as error:
            raise ScanError(
                f"{section}: {path} cannot be read ({error.strerror or error}).", to_fix="look at the disk"
            ) from error


def read_by_section(
    patches: pd.DataFrame, scans: ScanOpener, size_px: int, pixel_um: float, *, threads: int = 2
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read patches section by section, some sections ahead of the consumer.

    Parameters
    ----------
    patches : DataFrame
        Columns `brain`, `sample`, `x_px`, `y_px`.
    size_px, pixel_um : int, float
        Edge of a patch and of its pixels.

    Yields
    ------
    rows, images : (n,) integer array, (n, size_px, size_px) uint8 array
        Positions in `patches`, and the patches.
    """
    of_section = patches.groupby(["brain", "sample"], sort=True).indices
    centres = patches[["x_px", "y_px"]].to_numpy()

    def read(section: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
        rows = np.asarray(of_section[section])
        with scans(*section) as scan:
            return rows, scan.read_patches(centres[rows], size_px, pixel_um)

    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Future[tuple[np.ndarray, np.ndarray]]] = []
        for section in of_section:
            waiting.append(pool.submit(read, section))  # type: ignore[arg-type]
            # Bounded: a section has hundreds of megabytes of patches.
            if len(waiting) > threads:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
