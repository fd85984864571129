"""Reading the same thing once while one brain is examined, however many questions are asked about it.

Each stage asks the data set for the brain anew, so that it never acts on an earlier state. While one brain is only
examined, all of its stages may share one reading: of 7,000 sections it takes two seconds.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

_Value = TypeVar("_Value")

_known: ContextVar[dict[Hashable, Any] | None] = ContextVar("_known", default=None)


@contextmanager
def read_once() -> Iterator[None]:
    """Keep what is read inside until the end; for examining a brain, and never while results are computed."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def once(key: Hashable, read: Callable[[], _Value]) -> _Value:
    """Return what was read under this key inside the present `read_once`; outside of one, read it."""
    known = _known.get()
    if known is None:
        return read()
    if key not in known:
        known[key] = read()
    value: _Value = known[key]
    return value
