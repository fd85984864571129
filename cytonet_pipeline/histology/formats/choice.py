"""Which of several pictures in one file is the scan: one rule for all formats.

The largest is, if every other one is so much smaller that it can only be a label, a macro photograph or a thumbnail.
Anything else (sections side by side, planes of a stack, times) is for a person to decide.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cytonet_pipeline.errors import ScanError

# A picture of so small a share of the scan's pixels is passed over.
ACCESSORY_SHARE = 1 / 4
_SAME_PIXELS = 0.01
_MOST_LISTED = 12
_ACCESSORY_TITLE = re.compile(r"\b(label|macro|thumb(nail)?|overview|preview|slide ?(photo|picture))\b", re.IGNORECASE)


@dataclass(frozen=True)
class Picture:
    """A picture that a file holds.

    Attributes
    ----------
    name : str
        How a section table picks it and people find it, such as `page 3` or `series 1`.
    title : str
        What the file calls it.
    pixel_um : float or None
        Width of its pixels if the file gives them for this very picture.
    accessory : bool
        The file itself says that it is a label, a macro photograph, a thumbnail or a reduced copy.
    """

    name: str
    height: int
    width: int
    title: str = ""
    pixel_um: float | None = None
    accessory: bool = False

    @property
    def area_px(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def __str__(self) -> str:
        """Return a description for messages."""
        size = f"{self.name}: {self.width} × {self.height} px"
        return f"{size} ({self.title!s:.40})" if self.title else size


def choose(pictures: Sequence[Picture], path: Path, column: str) -> tuple[int, list[str]]:
    """Return the number of the picture that is the scan, and remarks on those that are passed over.

    Parameters
    ----------
    column : str
        The column of a section table that decides: `series` or `page`.

    Raises
    ------
    ScanError
        Several could be the scan.
    """
    own = [picture for picture in pictures if not picture.accessory] or list(pictures)
    scan = max(own, key=lambda picture: picture.area_px)
    others = [picture for picture in own if picture is not scan]
    rivals = [picture for picture in others if _is_rival(picture, scan)]
    if rivals:
        raise several(path, pictures, column)
    doubts = [f"{p} is taken for a label or thumbnail and passed over" for p in others]
    return list(pictures).index(scan), doubts


def is_accessory_by_title(title: str, area_px: int, largest_px: int) -> bool:
    """Return whether a picture is called a label, macro photograph or thumbnail, and is much the smaller one."""
    return area_px < ACCESSORY_SHARE * largest_px and bool(_ACCESSORY_TITLE.search(title))


def several(path: Path, pictures: Sequence[Picture], column: str) -> ScanError:
    """Return the error about a file of several pictures, with what it holds."""
    more = (f"and {len(pictures) - _MOST_LISTED} more",) if len(pictures) > _MOST_LISTED else ()
    return ScanError(
        f"{path}: holds {len(pictures)} images, and nothing says which is the section: "
        f"{'; '.join([*map(str, pictures[:_MOST_LISTED]), *more])}.",
        to_fix=f"give the number of the right one in the column {column} of a section table, or export the section "
        "alone",
    )


def unknown_pick(path: Path, pick: str, pictures: Sequence[Picture]) -> ScanError:
    """Return the error about a pick that the file does not have."""
    listed = "; ".join(map(str, pictures[:_MOST_LISTED])) or "nothing of the kind"
    return ScanError(f"{path}: has no {pick.replace('=', ' ')}; it holds {listed}.", to_fix="correct the section table")


def _is_rival(picture: Picture, scan: Picture) -> bool:
    if picture.area_px >= ACCESSORY_SHARE * scan.area_px:
        return True
    if picture.pixel_um is None or scan.pixel_um is None:
        return False
    # Scanned as finely as the scan: another, smaller section.
    return abs(picture.pixel_um - scan.pixel_um) <= _SAME_PIXELS * scan.pixel_um
