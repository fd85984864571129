"""Digests: the names by which the store knows whether two things are the same.

A digest is the first 16 hex digits (64 bits) of a SHA-256. Things are digested through canonical JSON (sorted keys, no
spaces), so that a digest does not depend on the order in which something was written.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_HEX_DIGITS = 16
_CHUNK_BYTES = 1 << 20


def digest_of(value: Any) -> str:
    """Return the digest of anything that JSON can hold; paths count as their text, NumPy scalars as numbers."""
    return digest_bytes(canonical_json(value).encode())


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def as_json(value: Any) -> Any:
    """Return a value as it comes back from a JSON file: a tuple as a list, a path as its text."""
    return json.loads(json.dumps(value, default=str))


def digest_bytes(*parts: bytes | memoryview) -> str:
    """Return the digest of the concatenation of byte strings."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()[:_HEX_DIGITS]


def digest_array(array: "np.ndarray") -> str:
    """Return the digest of an array's type, shape and content."""
    import numpy as np

    contiguous = np.ascontiguousarray(array)
    header = f"{contiguous.dtype.str}{contiguous.shape}".encode()
    return digest_bytes(header, contiguous.reshape(-1).view(np.uint8).data)


def digest_file(path: Path) -> str:
    """Return the digest of a file's bytes. Scans have tens of gigabytes: use the sampled digest of `histology`."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            sha.update(chunk)
    return sha.hexdigest()[:_HEX_DIGITS]


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, without importing NumPy where it is not needed
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"cannot digest a {type(value).__name__}")
