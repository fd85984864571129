"""Telling Dagster that a training has started and how it ended, where Dagster started it; otherwise nothing.

Only `dagster_pipes` is needed on the node. Live figures stand in `progress.json`: messages of a process that Dagster
has lost would reach nobody.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Tell = Callable[[dict[str, Any]], None]


@contextmanager
def told_to_dagster() -> Iterator[Tell]:
    """Give a function that sends a message; rank 0 of a process under Dagster Pipes opens the session."""
    if "DAGSTER_PIPES_CONTEXT" not in os.environ or os.environ.get("RANK", "0") != "0":
        yield lambda message: None
        return
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as context:
        context.log.info(f"training in process {os.getpid()}")
        yield context.report_custom_message
