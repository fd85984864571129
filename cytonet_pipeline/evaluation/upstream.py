"""What earlier steps left in the store, as the digests by which a result knows whether it is current."""

from pathlib import Path

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store import Verdict, digest_file


def digest_left_in(folder: Path) -> str:
    """Digest that a step left with its verdict; "missing" before it ran, "failed" if nothing may use its result."""
    try:
        verdict = Verdict.read(folder)
    except StoreError:
        return "missing"
    return verdict.digest if verdict.ok else "failed"


def digest_of_file(path: Path) -> str:
    """Digest of a file's bytes; "missing" if it is not there."""
    return digest_file(path) if path.is_file() else "missing"
