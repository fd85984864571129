"""Handing a training to the launcher and following it from the run that submitted it.

The child reports through Dagster Pipes; how far it is, is read from `progress.json` in its folder, because messages of
Pipes arrive at the end, and none of a child that an earlier, killed run has left behind.
"""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from cytonet_pipeline import progress
from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store

if TYPE_CHECKING:
    from cytonet_pipeline.cluster.local import Attempt, LocalLauncher

_POLL_S = 0.5
_OBSERVE_S = 15.0
_SHOWN = ("step", "loss", "samples_per_second")


def launch(context: dg.OpExecutionContext, settings: Settings, encoder: str) -> None:
    """Train the wanted version of an encoder, unless it is trained; join a training that is running already.

    Raises
    ------
    TrainingError
        It failed; the message holds the end of its log, and where the log lies.
    """
    from cytonet_pipeline.cluster.local import CONTINUE, LocalLauncher

    store = Store(settings.store)
    folder = store.encoder(encoder, store.wanted_version(encoder) or "none")
    if (folder / "encoder.json").exists():
        context.log.info(f"{folder} is finished; nothing to train")
        return
    block = settings.encoder(encoder)
    launcher = LocalLauncher(settings.data, processes=block.processes)
    running = launcher.running(folder)
    if running is not None:
        context.log.info(f"joining attempt {running.number}, process {running.pid}, left by an earlier run")
        _follow(context, encoder, running, block.steps)
        _require_success(folder, running, opened=True)
        return
    attempt, opened = _attempt(context, encoder, folder, launcher, block.steps)
    while attempt.poll() == CONTINUE:
        # Somebody asked it to stop (a shutdown, a batch system): it has written a checkpoint and wants to go on.
        context.log.info(f"attempt {attempt.number} was stopped and goes on")
        attempt, opened = _attempt(context, encoder, folder, launcher, block.steps)
    _require_success(folder, attempt, opened=opened)


def _attempt(
    context: dg.OpExecutionContext, encoder: str, folder: Path, launcher: "LocalLauncher", steps: int
) -> tuple["Attempt", bool]:
    """One attempt, from its start to its end; and whether it ever reported."""
    reserved = launcher.reserve(folder)
    # A file an attempt, kept: the reader empties the file that it opens.
    reader = dg.PipesFileMessageReader(str(reserved / "messages.jsonl"), cleanup_file=False)
    # The environment carries the context: a file would be gone once this session has closed.
    with _without_preview_warnings(), dg.open_pipes_session(context, dg.PipesEnvContextInjector(), reader) as session:
        attempt = launcher.start(reserved, environment=session.get_bootstrap_env_vars())
        context.log.info(f"attempt {attempt.number}: process {attempt.pid}, log in {attempt.log}")
        _follow(context, encoder, attempt, steps)
    return attempt, session.message_handler.received_opened_message


@contextmanager
def _without_preview_warnings() -> Iterator[None]:
    # Dagster's own session reads a property of its own reader that it has marked as preview.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        yield


def _follow(context: dg.OpExecutionContext, encoder: str, attempt: "Attempt", steps: int) -> None:
    """Wait for the end of an attempt; show how far it is on the terminal, and now and then in Dagster."""
    observed = time.monotonic()
    with progress.task(f"training {encoder}", total=steps or None) as line:
        try:
            while attempt.poll() is None:
                time.sleep(_POLL_S)
                said = attempt.progress()
                line.to(said.get("step", 0), _note(said))
                if time.monotonic() - observed > _OBSERVE_S:
                    observed = time.monotonic()
                    _observe(context, encoder, said)
        except BaseException:
            # A termination from the UI or Ctrl-C: the child writes a checkpoint, and the next run goes on from it.
            attempt.terminate()
            raise
    _observe(context, encoder, attempt.progress())


def _observe(context: dg.OpExecutionContext, encoder: str, said: dict[str, Any]) -> None:
    """Log how far the training is. Metadata that a child reports through Pipes is dropped inside a graph."""
    shown = {name: said[name] for name in _SHOWN if isinstance(said.get(name), (int, float))}
    if shown:
        context.log_event(dg.AssetObservation("encoder", partition=encoder, metadata=shown))


def _note(said: dict[str, Any]) -> str:
    if said.get("state") == "packing":
        return f"reading patches {said.get('packed', 0)}/{said.get('patches', '?')}"
    loss = said.get("loss")
    told = f" loss {loss:.3f}" if isinstance(loss, float) else ""
    return f"{said.get('state', 'starting')}{told}"


def _require_success(folder: Path, attempt: "Attempt", *, opened: bool) -> None:
    # The exit code alone says nothing: a process that never reported may have done anything.
    if attempt.poll() == 0 and opened and (folder / "encoder.json").exists():
        return
    reason = (
        f"ended with exit code {attempt.poll()}"
        if attempt.poll() != 0
        else "ended without ever reporting"
        if not opened
        else "ended without an encoder"
    )
    raise TrainingError(
        f"training {folder.parent.name} {folder.name}: attempt {attempt.number} {reason}.\n{attempt.tail(15)}",
        looked_for=str(attempt.log),
        to_fix="mend what the log says and run again; it goes on from the last checkpoint",
    )
