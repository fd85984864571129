"""Being asked to stop: SIGTERM (a user, a daemon) and SIGUSR1 (a batch system before the time limit)."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stopped(Exception):
    """Asked to stop where there is no checkpoint to write."""


class StopRequest:
    """Set by the first signal; the training looks at it after every step."""

    def __init__(self) -> None:
        self.name = ""

    def raise_if_set(self) -> None:
        """Leave a long step that starts again from its beginning."""
        if self.name:
            raise Stopped(self.name)

    def __bool__(self) -> bool:
        return bool(self.name)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGTERM and SIGUSR1 into a request while the block runs. Main thread only."""
    request = StopRequest()

    def heard(number: int, frame: FrameType | None) -> None:
        request.name = signal.Signals(number).name

    before = {number: signal.signal(number, heard) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
