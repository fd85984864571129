"""The one place where this package's errors become Dagster failures.

Their messages name file and remedy, so a run shows the message and not a traceback, and is not retried: the same inputs
would fail the same way. Any other exception is a bug and keeps its traceback.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from cytonet_pipeline.errors import CytonetError


@contextmanager
def failures_explained() -> Iterator[None]:
    """Turn a `CytonetError` raised inside into a `dagster.Failure` with the same message."""
    try:
        yield
    except CytonetError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
