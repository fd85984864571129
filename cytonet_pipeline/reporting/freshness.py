"""Whether pictures of a result are there and no older than the result itself."""

from collections.abc import Iterable
from pathlib import Path


def are_fresh(pictures: Iterable[Path], folder: Path) -> bool:
    """Whether every picture was drawn after the stamp (`inputs.json`) of the result in `folder`."""
    stamp = folder / "inputs.json"
    if not stamp.exists():
        return False
    made_ns = stamp.stat().st_mtime_ns
    return all(picture.exists() and picture.stat().st_mtime_ns >= made_ns for picture in pictures)
