"""Records that lie beside no result, the pointers, and their digests: `seal`.

In a store of version 0.2.1 nothing has a digest. A take-over gives one to every stamp and pointer, `store.json` the
last: it says that all is done. So a pointer without a digest has lost it as soon as others have theirs, unless a
take-over was killed on the way; the file `.taking-over` says so.
"""

from pathlib import Path

from cytonet_pipeline.store.damage import is_pointer, root_of

CLAIM = "store.json"
_TAKING_OVER = ".taking-over"
# Stamps of one result of each kind suffice to know the version of a store.
_STAMPS = ("reference_space/inputs.json", "*/brain=*/_inputs.json", "encoders/*/*/inputs.json", "metrics/inputs.json")


def pointers_in(root: Path) -> list[Path]:
    """Return the records that lie beside no result: which versions are wanted and in use, and what the store is of."""
    patterns = ("training_sets/*.json", "encoders/*/current.json", "encoders/*/use.json")
    return [*sorted(path for pattern in patterns for path in root.glob(pattern)), root / CLAIM]


def is_sealed(path: Path) -> bool:
    """Return whether a pointer or stamp has a digest of its own: those of version 0.2.1 have none."""
    try:
        return 'seal"' in path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def has_lost_seal(path: Path) -> bool:
    """Return whether a record without a digest is a pointer that had one."""
    root = root_of(path) if is_pointer(path) else None
    if root is None or is_sealed(path):
        return False
    if path.name != CLAIM:
        return is_sealed(root / CLAIM)
    return not is_being_taken_over(root) and _has_digests(root)


def is_being_taken_over(root: Path) -> bool:
    """Return whether a take-over has begun and not ended."""
    return (root / _TAKING_OVER).exists()


def begin_taking_over(root: Path) -> None:
    """Note that a take-over has begun, before it writes the first digest."""
    (root / _TAKING_OVER).touch()


def end_taking_over(root: Path) -> None:
    """Note that a take-over has ended."""
    (root / _TAKING_OVER).unlink(missing_ok=True)


def _has_digests(root: Path) -> bool:
    stamps = (path for pattern in _STAMPS for path in root.glob(pattern))
    return any(is_sealed(path) for group in (pointers_in(root), stamps) for path in group)
