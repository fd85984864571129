"""A job of a minute that says what the cluster is like, before hours are spent in its queue.

The job carries its own questions (`probe.py`), so that it also runs where this package is missing. Where a job is not
even able to write down its answers, its exit code says why.
"""

import json
import re
import shlex
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cytonet_pipeline import __version__, progress
from cytonet_pipeline.cluster.slurm.node_report import Told, of_the_node
from cytonet_pipeline.cluster.slurm.profile import ClusterProfile, Resources
from cytonet_pipeline.cluster.slurm.queue import SlurmQueue
from cytonet_pipeline.cluster.slurm.script import Job, render
from cytonet_pipeline.cluster.slurm.states import JobState, Phase
from cytonet_pipeline.cluster.transport import SshTransport, transport_of
from cytonet_pipeline.errors import ClusterError, SubmissionRefused, TransportDown
from cytonet_pipeline.settings import Settings

# The last is what a training imports, and all that it imports in turn.
_PACKAGES = ("torch", "numpy", "pyarrow", "dagster_pipes", "cytonet_pipeline", "cytonet_pipeline.learning")
# Python on a cold file system takes minutes to load torch; the job itself ends as soon as it is done.
_MINUTES = 5
_UNSEEN, _OTHER, _FULL = 41, 42, 43
_SCRIPT = """#!/bin/bash -l
{directives}
# Answers in its exit code what it cannot write down.
place={place}
[ -d "$place" ] || exit {unseen}
[ "$(cat "$place/token" 2> /dev/null)" = {token} ] || exit {other}
{{ head -c 65536 /dev/zero > "$place/room"; }} 2> /dev/null || exit {full}
exec > "$place/log.txt" 2>&1
# Not where it was submitted: Python would find there what is not installed.
cd "$place" || exit {unseen}
{setup}
exec {python} - {asked} <<'PROBE'
{probe}
PROBE
"""


def examine(settings: Settings, profile: ClusterProfile, *, wait_s: float = 600.0) -> Iterator[Told]:
    """Look at a cluster from outside and, by a job, from inside.

    Parameters
    ----------
    wait_s : float
        How long the job may wait in the queue before it is given up.

    Yields
    ------
    tuple
        `ok`, `note` or `bad`, and a sentence.
    """
    transport = transport_of(profile)
    if isinstance(transport, SshTransport):
        # A person asks, who may just have mended what failed before.
        transport.forget_failures()
    queue = SlurmQueue(transport, profile.slurm_prefix)
    try:
        started = time.monotonic()
        where = f"through ssh to {profile.host}" if profile.host else "on this machine"
        yield "ok", f"Slurm {queue.version()} {where}, answers in {time.monotonic() - started:.2f} s"
        yield from _limits(queue, profile)
        refused = list(_rehearsals(queue, profile))
        yield from refused
        if not any(word == "bad" for word, _ in refused):
            yield from _visit(settings, profile, queue, wait_s)
    except TransportDown as error:
        yield "bad", str(error)


def _limits(queue: SlurmQueue, profile: ClusterProfile) -> Iterator[Told]:
    """What the partition offers; whether a job fits is Slurm's own business, see `_rehearsals`."""
    for name, limits in queue.partitions(profile.partition).items():
        gpus = "" if limits.gres in ("(null)", "") else f", {limits.gres}"
        yield "ok", f"partition {name}: {limits.nodes} nodes, {limits.cpus} cores{gpus}, at most {limits.walltime}"


def _rehearsals(queue: SlurmQueue, profile: ClusterProfile) -> Iterator[Told]:
    """Have Slurm check the job of every step that is sent, with all directives, without submitting it."""
    for step in ("encoder", *profile.send):
        resources = profile.resources(step)
        ranks = max(resources.gpus_per_node, 1) if step == "encoder" else 0
        job = Job(f"cytonet-rehearsal-{step}", Path("/nowhere"), step, ("none",), ranks)
        nodes = f"{resources.nodes} node{'s' if resources.nodes > 1 else ''}"
        gpus = f" with {resources.gpus_per_node} GPUs each" if resources.gpus_per_node else ""
        directives = f" with {', '.join(sorted(resources.directives))}" if resources.directives else ""
        try:
            when = queue.rehearse(render(job, profile))
        except SubmissionRefused as error:
            yield "bad", f"{step}: {error}"
        else:
            yield (
                "ok",
                f"{step}: {nodes}{gpus} for {resources.walltime}{directives}: accepted{f', {when}' if when else ''}",
            )


def _visit(settings: Settings, profile: ClusterProfile, queue: SlurmQueue, wait_s: float) -> Iterator[Told]:
    """Submit the job and tell what it saw."""
    try:
        with _shared_folder(settings.store) as place:
            token = uuid.uuid4().hex
            (place / "token").write_text(token)
            job_id = queue.submit(_script(settings, profile, place, token))
            try:
                yield from _follow(settings, profile, queue, place, job_id, wait_s)
            finally:
                queue.cancel(job_id)
    except OSError as error:
        yield "bad", f"{settings.store}: cannot be written from here ({error.strerror}); set CYTONET_STORE elsewhere"
    except ClusterError as error:
        yield "bad", str(error)


def _follow(
    settings: Settings, profile: ClusterProfile, queue: SlurmQueue, place: Path, job_id: str, wait_s: float
) -> Iterator[Told]:
    submitted = time.monotonic()
    began: float | None = None
    with progress.task("looking around on the cluster") as line:
        while not (place / "seen.json").exists():
            state = queue.states([job_id])[job_id] or JobState(job_id)
            waited_s = time.monotonic() - submitted
            line.to(0, str(state))
            if state.ended and not (place / "seen.json").exists():
                yield _why(state, settings, profile, place)
                return
            if began is None and state.phase is not Phase.PENDING:
                began = waited_s
            if waited_s > wait_s + (60.0 * _MINUTES if began is not None else 0.0):
                yield "note", f"{state} after {waited_s / 60:.0f} min, given up; the checks on a node were left out"
                return
            time.sleep(0.3 if waited_s < 30 else 3.0)
        seen = json.loads((place / "seen.json").read_text())
        yield "ok", f"job {job_id} began on {seen['node']} after {began or 0.0:.0f} s"
        said = _last_words(place)
        if said:
            yield "note", f"{seen['node']}: `setup` says: {said}"
        yield from of_the_node(seen, profile, token=(place / "token").read_text(), version=__version__)
        yield _round_trip(place, seen)


def _round_trip(place: Path, seen: dict[str, Any]) -> Told:
    """Time of a message to the node and back, through files, as a training's own messages go."""
    sent, clock = time.monotonic(), time.time()
    (place / "ping").write_text("")
    while not (place / "pong").exists():
        if time.monotonic() - sent > 40:
            return (
                "bad",
                f"a file written here is not seen on {seen['node']} within 40 s; mend the file system's caching",
            )
        time.sleep(0.05)
    took_s = time.monotonic() - sent
    ahead_s = json.loads((place / "pong").read_text())["time"] - clock
    if not -2.0 < ahead_s < took_s + 2.0:
        return "note", f"a message and its answer take {took_s:.1f} s; the node's clock is {ahead_s:+.0f} s off"
    return "ok", f"a message and its answer take {took_s:.1f} s"


def _why(state: JobState, settings: Settings, profile: ClusterProfile, place: Path) -> Told:
    """Why a job ended without an answer."""
    where = f"{state.nodes}: " if state.nodes else ""
    if state.exit_code == _UNSEEN:
        return "bad", f"{where}does not see {settings.store}; put CYTONET_STORE on a file system that the nodes share"
    if state.exit_code == _OTHER:
        return "bad", f"{where}{settings.store} is another folder than here; put CYTONET_STORE on a shared file system"
    if state.exit_code == _FULL:
        return "bad", f"{where}cannot write to {settings.store}: its quota is full or it is read-only there; make room"
    said = _last_words(place)
    last = f": {said}" if said else ""
    if state.exit_code in (126, 127):
        return "bad", f"{where}{profile.python} does not run there{last}; mend `python` or `setup` in the profile"
    return "bad", f"{state} before it could say anything{last}; mend `setup` or `directives` in the profile"


def _last_words(place: Path) -> str:
    """Last line of what the job printed."""
    try:
        lines = (place / "log.txt").read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    # Without the name of the script in Slurm's spool folder.
    return re.sub(r"^\S*slurm_script: line \d+: ", "", lines[-1]) if lines else ""


def _script(settings: Settings, profile: ClusterProfile, place: Path, token: str) -> str:
    asked = {
        "place": str(place),
        "paths": [str(settings.data), str(settings.reference), str(settings.store)],
        "packages": _PACKAGES,
        "launcher": profile.launcher[0],
        "master_suffix": profile.master_suffix,
        "packs": profile.packs,
    }
    return _SCRIPT.format(
        directives="\n".join(_directives(profile.resources())),
        place=shlex.quote(str(place)),
        token=token,
        unseen=_UNSEEN,
        other=_OTHER,
        full=_FULL,
        setup="\n".join([*profile.setup, *_path_of(profile.python)]),
        python=shlex.quote(profile.python),
        asked=shlex.quote(json.dumps(asked)),
        probe=(Path(__file__).parent / "probe.py").read_text(encoding="utf-8"),
    )


def _path_of(python: str) -> list[str]:
    """As in the script of a training: the launcher lies beside the interpreter."""
    return [f"export PATH={shlex.quote(str(Path(python).parent))}:$PATH"] if "/" in python else []


def _directives(resources: Resources) -> Iterator[str]:
    """As the trainings ask, but for one node and a few minutes."""
    asked: dict[str, Any] = {
        "job-name": "cytonet-doctor",
        "output": "/dev/null",
        "time": _MINUTES,
        "nodes": 1,
        "ntasks-per-node": 1,
        "partition": resources.partition,
        "account": resources.account,
        "cpus-per-task": resources.cpus_per_task,
        "gres": f"gpu:{resources.gpus_per_node}" if resources.gpus_per_node else None,
        "export": "NIL",
        **resources.directives,
    }
    for name, value in asked.items():
        if value is not None and value is not False:
            yield f"#SBATCH --{name}" if value is True else f"#SBATCH {shlex.quote(f'--{name}={value}')}"


@contextmanager
def _shared_folder(store: Path) -> Iterator[Path]:
    """A folder in the store for questions and answers; gone afterwards, as is the store if it was not there."""
    made = [folder for folder in (store, *store.parents) if not folder.exists()]
    store.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=".doctor-", dir=store))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        # The job may not have let go of it yet; an empty folder harms nobody.
        with suppress(OSError):
            for folder in made:
                folder.rmdir()
