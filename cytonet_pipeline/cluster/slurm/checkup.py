"""Check-up of a cluster by a job of a minute, before hours are spent in its queue.

The job's script contains the questions (`probe.py`), so that it also runs where this package is missing. If a job is
not even able to write down its answers, its exit code says why.
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
from cytonet_pipeline.cluster.backend import SiteCheck
from cytonet_pipeline.cluster.batch.job_state import JobState, Phase
from cytonet_pipeline.cluster.batch.launcher import Job
from cytonet_pipeline.cluster.batch.transport import SshTransport, transport_to
from cytonet_pipeline.cluster.slurm.node_report import report_on_node
from cytonet_pipeline.cluster.slurm.profile import ClusterProfile, Resources
from cytonet_pipeline.cluster.slurm.queue import SlurmQueue
from cytonet_pipeline.cluster.slurm.script import render
from cytonet_pipeline.errors import ClusterError, SubmissionRefused, TransportDown
from cytonet_pipeline.settings import Settings

# The last one is what training imports, with all that it imports in turn.
_PACKAGES = ("torch", "numpy", "pyarrow", "dagster_pipes", "cytonet_pipeline", "cytonet_pipeline.learning")
# Python on a cold file system takes minutes to load torch; the job itself ends as soon as it is done.
_MINUTES = 5
_UNSEEN, _OTHER, _FULL = 41, 42, 43
_SCRIPT = """#!/bin/bash -l
{directives}
# What it cannot write down is reported by its exit code.
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


def check_up(settings: Settings, profile: ClusterProfile, *, wait_s: float = 600.0) -> Iterator[SiteCheck]:
    """Examine a cluster from outside and, by a job, from inside.

    Parameters
    ----------
    wait_s : float
        How long the job may wait in the queue before it is cancelled.
    """
    transport = transport_to(profile.host, profile.ssh_config)
    if isinstance(transport, SshTransport):
        # A person asks, who may just have fixed what failed before.
        transport.forget_failures()
    queue = SlurmQueue(transport, profile.slurm_prefix)
    try:
        started = time.monotonic()
        where = f"through ssh to {profile.host}" if profile.host else "on this machine"
        yield SiteCheck("ok", f"Slurm {queue.version()} {where}, answers in {time.monotonic() - started:.2f} s")
        yield from _describe_partitions(queue, profile)
        rehearsals = list(_rehearse_steps(queue, profile))
        yield from rehearsals
        if not any(check.level == "bad" for check in rehearsals):
            yield from _visit_node(settings, profile, queue, wait_s)
    except TransportDown as error:
        yield SiteCheck("bad", str(error))


def _describe_partitions(queue: SlurmQueue, profile: ClusterProfile) -> Iterator[SiteCheck]:
    """Describe what the partition offers; whether a job fits is decided by Slurm itself, see `_rehearse_steps`."""
    for name, limits in queue.partitions(profile.partition).items():
        gpus = "" if limits.gres in ("(null)", "") else f", {limits.gres}"
        text = f"partition {name}: {limits.nodes} nodes, {limits.cpus} cores{gpus}, at most {limits.walltime}"
        yield SiteCheck("ok", text)


def _rehearse_steps(queue: SlurmQueue, profile: ClusterProfile) -> Iterator[SiteCheck]:
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
            yield SiteCheck("bad", f"{step}: {error}")
        else:
            start = f", {when}" if when else ""
            text = f"{step}: {nodes}{gpus} for {resources.walltime}{directives}: accepted{start}"
            yield SiteCheck("ok", text)


def _visit_node(settings: Settings, profile: ClusterProfile, queue: SlurmQueue, wait_s: float) -> Iterator[SiteCheck]:
    """Submit the job, and report what it saw on its node."""
    try:
        with _shared_folder(settings.store) as place:
            token = uuid.uuid4().hex
            (place / "token").write_text(token)
            job_id = queue.submit(_script(settings, profile, place, token))
            try:
                yield from _follow_job(settings, profile, queue, place, job_id, wait_s)
            finally:
                queue.cancel(job_id)
    except OSError as error:
        fault = f"{settings.store}: cannot be written from here ({error.strerror})"
        yield SiteCheck("bad", f"{fault}; set CYTONET_STORE to another place")
    except ClusterError as error:
        yield SiteCheck("bad", str(error))


def _follow_job(
    settings: Settings, profile: ClusterProfile, queue: SlurmQueue, place: Path, job_id: str, wait_s: float
) -> Iterator[SiteCheck]:
    submitted = time.monotonic()
    began: float | None = None
    with progress.task("examining the cluster") as line:
        while not (place / "seen.json").exists():
            state = queue.states([job_id])[job_id] or JobState(job_id)
            waited_s = time.monotonic() - submitted
            line.to(0, str(state))
            if state.ended and not (place / "seen.json").exists():
                yield _explain_end(state, settings, profile, place)
                return
            if began is None and state.phase is not Phase.PENDING:
                began = waited_s
            if waited_s > wait_s + (60.0 * _MINUTES if began is not None else 0.0):
                text = f"{state} after {waited_s / 60:.0f} min, given up; the checks on a node were left out"
                yield SiteCheck("note", text)
                return
            time.sleep(0.3 if waited_s < 30 else 3.0)
        seen = json.loads((place / "seen.json").read_text())
        yield SiteCheck("ok", f"job {job_id} began on {seen['node']} after {began or 0.0:.0f} s")
        printed = _last_line_of_log(place)
        if printed:
            yield SiteCheck("note", f"{seen['node']}: `setup` prints: {printed}")
        yield from report_on_node(seen, profile, token=(place / "token").read_text(), version=__version__)
        yield _measure_round_trip(place, seen)


def _measure_round_trip(place: Path, seen: dict[str, Any]) -> SiteCheck:
    """Measure the time of a message to the node and back, through files, as the messages of training take."""
    sent, clock = time.monotonic(), time.time()
    (place / "ping").write_text("")
    while not (place / "pong").exists():
        if time.monotonic() - sent > 40:
            fault = f"a file written here is not seen on {seen['node']} within 40 s"
            return SiteCheck("bad", f"{fault}; fix the caching of the file system")
        time.sleep(0.05)
    took_s = time.monotonic() - sent
    ahead_s = json.loads((place / "pong").read_text())["time"] - clock
    text = f"a message and its answer take {took_s:.1f} s"
    if not -2.0 < ahead_s < took_s + 2.0:
        return SiteCheck("note", f"{text}; the node's clock is {ahead_s:+.0f} s off")
    return SiteCheck("ok", text)


def _explain_end(state: JobState, settings: Settings, profile: ClusterProfile, place: Path) -> SiteCheck:
    """Explain why a job ended without an answer."""
    where, store = f"{state.nodes}: " if state.nodes else "", settings.store
    printed = _last_line_of_log(place)
    last = f": {printed}" if printed else ""
    if state.exit_code == _UNSEEN:
        text = f"{where}does not see {store}; put CYTONET_STORE on a file system that the nodes share"
    elif state.exit_code == _OTHER:
        text = f"{where}{store} is another folder than here; put CYTONET_STORE on a shared file system"
    elif state.exit_code == _FULL:
        text = f"{where}cannot write to {store}: its quota is full or it is read-only there; free some space"
    elif state.exit_code in (126, 127):
        text = f"{where}{profile.python} does not run there{last}; correct `python` or `setup` in the profile"
    else:
        text = f"{state} before it could report anything{last}; correct `setup` or `directives` in the profile"
    return SiteCheck("bad", text)


def _last_line_of_log(place: Path) -> str:
    """Return the last line that the job printed."""
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
    """Extend PATH as in the script of a training job: the launcher lies beside the interpreter."""
    return [f"export PATH={shlex.quote(str(Path(python).parent))}:$PATH"] if "/" in python else []


def _directives(resources: Resources) -> Iterator[str]:
    """Request what training requests, but one node and a few minutes."""
    requested: dict[str, Any] = {
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
    for name, value in requested.items():
        if value is not None and value is not False:
            yield f"#SBATCH --{name}" if value is True else f"#SBATCH {shlex.quote(f'--{name}={value}')}"


@contextmanager
def _shared_folder(store: Path) -> Iterator[Path]:
    """Make a folder in the store for questions and answers; removed afterwards, with the store if that was new."""
    made = [folder for folder in (store, *store.parents) if not folder.exists()]
    store.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=".doctor-", dir=store))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        # The job may still be using it; an empty folder that stays behind does no harm.
        with suppress(OSError):
            for folder in made:
                folder.rmdir()
