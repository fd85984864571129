"""Hand training to a launcher and follow it, from the run that submitted it or from a later one.

The process that trains reports through Dagster Pipes into a file of its attempt. Its progress is read from
`progress.json` in its folder, because what is reported through Pipes inside a graph is dropped or arrives at the end.
"""

import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from cytonet_pipeline import progress
from cytonet_pipeline.defs.following import follow
from cytonet_pipeline.defs.training.messages import KeptMessages
from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import ENCODER, is_trained

if TYPE_CHECKING:
    from cytonet_pipeline.cluster.attempt import Attempt, Launcher

_OBSERVE_S = 15.0
# A shared file system shows what a node has written only after its cache has expired.
_SETTLE_S = 15.0
# Entries of `progress.json` that are not figures of training; every figure becomes a curve in Dagster.
_NOT_A_FIGURE = frozenset({"pid", "updated", "steps", "packed", "patches"})


def launch(context: dg.OpExecutionContext, settings: Settings, encoder: str) -> None:
    """Train the requested version of an encoder unless it is trained; join an attempt that waits or runs already.

    Raises
    ------
    TrainingError
        It failed; the message says how, with the end of its log, and where the log lies.
    """
    from cytonet_pipeline.cluster.attempt import CONTINUE
    from cytonet_pipeline.cluster.launchers import launcher_of

    folder = ENCODER.folder(settings, encoder)
    launcher = launcher_of(settings, encoder, context.log.warning)
    steps = settings.encoder(encoder).steps
    while not is_trained(folder):
        attempt = _attempt(context, encoder, folder, launcher, steps)
        if attempt is None:
            break
        if attempt.poll() != CONTINUE:
            _require_success(folder, attempt)
            return
        # It was asked to stop (by a shutdown, a batch system), has written a checkpoint, and goes on in another one.
        context.log.info(f"attempt {attempt.number} was stopped and goes on")
    # Its job may still be ending, or may have ended while no run followed it: following it records what it used.
    ending = launcher.running(folder)
    if ending is not None:
        follow(context, ending, lambda status: None)
    context.log.info(f"{folder} is finished; nothing to train")


def _attempt(
    context: dg.OpExecutionContext, encoder: str, folder: Path, launcher: "Launcher", steps: int
) -> "Attempt | None":
    """Start an attempt, or join the one that another run left, and follow it to its end; None if none is needed."""
    from cytonet_pipeline.cluster.attempt import submission_lock

    with ExitStack() as session:
        with submission_lock(folder):
            found = launcher.running(folder)
            if found is None and is_trained(folder):
                return None
            place = found.place if found else launcher.reserve(folder)
            messages = KeptMessages(place / "messages.jsonl")
            variables = session.enter_context(_pipes_session(context, messages)).get_bootstrap_env_vars()
            attempt = found or launcher.start(place, variables)
        done = "joining" if found else "started"
        context.log.info(f"{done} attempt {attempt.number}: {attempt.label}, log in {attempt.log}")
        _follow(context, encoder, attempt, messages, steps)
    return attempt


@contextmanager
def _pipes_session(context: dg.OpExecutionContext, messages: KeptMessages) -> Iterator[dg.PipesSession]:
    with warnings.catch_warnings():
        # Dagster's own session reads a property of its own reader that it has marked as preview.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        # The environment carries the context: a file would be gone once this session has closed.
        with dg.open_pipes_session(context, dg.PipesEnvContextInjector(), messages) as session:
            yield session


def _follow(
    context: dg.OpExecutionContext, encoder: str, attempt: "Attempt", messages: KeptMessages, steps: int
) -> None:
    """Wait for the end of an attempt; show its progress on the terminal, and every few seconds in Dagster."""
    observed = time.monotonic()
    with progress.task(f"training {encoder}", total=steps or None) as line:

        def report(status: dict[str, Any]) -> None:
            nonlocal observed
            line.to(status.get("step", 0), _note(status))
            messages.pass_on()
            if time.monotonic() - observed > _OBSERVE_S:
                observed = time.monotonic()
                _observe(context, encoder, status)

        follow(context, attempt, report)
    _observe(context, encoder, attempt.progress())


def _observe(context: dg.OpExecutionContext, encoder: str, status: dict[str, Any]) -> None:
    """Log the figures of training as an observation; metadata reported through Pipes is dropped inside a graph."""
    figures = ((name, value) for name, value in status.items() if name not in _NOT_A_FIGURE)
    shown = {name: value for name, value in figures if isinstance(value, (int, float))}
    if shown:
        context.log_event(dg.AssetObservation("encoder", partition=encoder, metadata=shown))


def _note(status: dict[str, Any]) -> str:
    if status.get("state") == "packing":
        return f"reading patches {status.get('packed', 0)}/{status.get('patches', '?')}"
    loss = status.get("loss")
    suffix = f" loss {loss:.3f}" if isinstance(loss, float) else ""
    return f"{status.get('state', 'starting')}{suffix}"


def _require_success(folder: Path, attempt: "Attempt") -> None:
    # Exit code 0 is not enough: a process that never reported may have run anything.
    code, record = attempt.poll(), folder / "encoder.json"
    deadline = time.monotonic() + (_SETTLE_S if code == 0 and attempt.survives else 0.0)
    while not (code == 0 and attempt.reported() and record.exists()):
        if time.monotonic() < deadline:
            time.sleep(0.5)
            continue
        reason = (
            attempt.ending()
            if code != 0
            else "ended without ever reporting"
            if not attempt.reported()
            else "ended without an encoder"
        )
        which = f"training {folder.parent.name} {folder.name}: attempt {attempt.number} ({attempt.label})"
        raise TrainingError(
            f"{which} {reason}.\n{attempt.tail(15)}",
            looked_for=str(attempt.log),
            to_fix=attempt.remedy(),
        )
