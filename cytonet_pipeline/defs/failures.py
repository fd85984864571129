"""The one place where errors become Dagster failures that say what to do.

The messages of this package's errors name file and remedy, so a run shows the message and not a traceback, and is not
retried: the same inputs would fail the same way. Faults of the machine (a full disk, missing rights, no memory) get a
remedy here. Any other exception is a bug and keeps its traceback.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from cytonet_pipeline.errors import CytonetError

_AGAIN = "then start the run again: what was finished is kept"
_REMEDIES = {
    errno.ENOSPC: f"free space where CYTONET_STORE and the temporary files lie (df -h), {_AGAIN}",
    errno.EDQUOT: f"free space below your quota, {_AGAIN}",
    errno.EACCES: f"give the user of this process the right to read the data set and to write CYTONET_STORE, {_AGAIN}",
    errno.EPERM: f"give the user of this process the right to read the data set and to write CYTONET_STORE, {_AGAIN}",
    errno.EROFS: f"let CYTONET_STORE lie on a file system that can be written, {_AGAIN}",
    errno.EMFILE: f"raise the limit of open files (ulimit -n), {_AGAIN}",
}
_OF_FILES = f"look at the file system (mounted, reachable, no errors in dmesg), {_AGAIN}"

_OF_MEMORY = f"give it more memory, or smaller batches (cytonet plan), {_AGAIN}"


@contextmanager
def failures_explained() -> Iterator[None]:
    """Turn a `CytonetError` raised inside, or a fault of the machine, into a `dagster.Failure` that says what to do."""
    try:
        yield
    except CytonetError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except OSError as error:
        raise dg.Failure(_explained(error, _REMEDIES.get(error.errno or 0, _OF_FILES))) from error
    except MemoryError as error:
        raise dg.Failure(_explained(error, _OF_MEMORY)) from error


def _explained(error: Exception, remedy: str) -> str:
    return f"{type(error).__name__}: {error}\n  to fix      {remedy}"
