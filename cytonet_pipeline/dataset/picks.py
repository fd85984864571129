"""Which image of a file is meant, where a file holds several: a series or a page, as a section table picks it.

In tables of the store a pick is written behind the path, as in `raw/slide7.ome.tif#series=2`.
"""

import re
from typing import NamedTuple

_WRITTEN = re.compile(r"(?P<path>.+)#(?P<kind>series|page)=(?P<number>\d{1,6})")


class Pick(NamedTuple):
    """A series (an image of OME metadata or of an OME-Zarr) or a page of a TIFF, both counted from 0; or neither."""

    series: int | None = None
    page: int | None = None

    def __str__(self) -> str:
        """Return the pick as a section table has it; empty if there is none."""
        if self.page is not None:
            return f"page={self.page}"
        return "" if self.series is None else f"series={self.series}"


def with_pick(path: str, pick: Pick) -> str:
    """Return a path as written in tables, with the pick behind it."""
    return f"{path}#{pick}" if str(pick) else path


def split_pick(written: str) -> tuple[str, Pick]:
    """Split what `with_pick` has written."""
    match = _WRITTEN.fullmatch(written)
    if match is None:
        return written, Pick()
    number = int(match["number"])
    return match["path"], Pick(series=number) if match["kind"] == "series" else Pick(page=number)


UNPICKED = Pick()
