"""Messages of a process that trains, read from a file in its attempt's folder.

Dagster's own file reader empties the file that it opens and fails on an incomplete line. On a shared file system a job
goes on writing while runs come and go, and a requeued one opens the connection once more.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_pipes import PipesDefaultMessageWriter


class KeptMessages(dg.PipesMessageReader):
    """Reader of a file that is kept: it reads on when `pass_on` is called, and once more when the session ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._handler: dg.PipesMessageHandler | None = None
        self._opened = False
        self._closed: dict[str, Any] | None = None

    @contextmanager
    def read_messages(self, handler: dg.PipesMessageHandler) -> Iterator[dict[str, Any]]:
        """Pass the messages that the file has by the end of the block to the handler."""
        self._handler = handler
        self.path.touch()
        try:
            yield {
                PipesDefaultMessageWriter.FILE_PATH_KEY: str(self.path),
                PipesDefaultMessageWriter.INCLUDE_STDIO_IN_MESSAGES_KEY: False,
            }
        finally:
            self.pass_on()
            if self._closed is not None:
                handler.handle_message(self._closed)  # type: ignore[arg-type]

    def pass_on(self) -> None:
        """Pass on the complete lines written since the last call."""
        assert self._handler is not None
        with self.path.open("rb") as stream:
            stream.seek(self._offset)
            new = stream.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode("utf-8", errors="replace").splitlines():
            try:
                self._hand_over(json.loads(line))
            except ValueError:
                continue  # Incomplete: its node died while writing.

    def _hand_over(self, message: dict[str, Any]) -> None:
        # One connection, as Dagster sees it, however often the job was requeued.
        assert self._handler is not None
        if message.get("method") == "closed":
            self._closed = message
        elif message.get("method") != "opened" or not self._opened:
            self._opened = self._opened or message.get("method") == "opened"
            self._handler.handle_message(message)  # type: ignore[arg-type]

    def no_messages_debug_text(self) -> str:
        """Return what to look at when no message came."""
        return f"Attempted to read messages from {self.path}."
