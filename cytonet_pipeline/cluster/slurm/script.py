"""The job script: a pure function of what is to run, and where. What differs between sites comes from the profile.

The script starts one task per node, waits for them, and handles the time limit: Slurm warns it with SIGUSR1, it passes
the signal on, the training process writes a checkpoint, and the script puts its own job back into the queue. It writes
what happened to `events.jsonl` beside it, independently of what the queue remembers.
"""

import json
import shlex
from pathlib import Path

from cytonet_pipeline.cluster.attempt import CONTINUE
from cytonet_pipeline.cluster.batch.launcher import Job
from cytonet_pipeline.cluster.slurm.profile import ClusterProfile, Resources

# Rendezvous ports lie below those that the system assigns by itself (from 32768 on Linux) and beside Slurm's own.
_FIRST_PORT, _PORTS = 15000, 5000
# Ranks that were asked to stop get nearly the whole warning time for their checkpoint; torchrun's default is 30 s.
_KILL_MARGIN_S = 10


def render(job: Job, profile: ClusterProfile) -> str:
    """Render the script that `sbatch` gets."""
    resources = profile.resources(job.step)
    parts = [
        "#!/bin/bash -l",
        *_directives(job, resources, profile.signal_before_s),
        "",
        _PREAMBLE.format(place=shlex.quote(str(job.place))).strip(),
        "",
        *(["# Set up by the profile."] if profile.setup else []),
        *profile.setup,
        *([f"export PATH={shlex.quote(str(Path(profile.python).parent))}:$PATH"] if "/" in profile.python else []),
        *(f"export {name}={shlex.quote(value)}" for name, value in sorted(job.environment.items())),
        "",
        _LOOK.format(python=shlex.quote(profile.python), module=json.dumps(_needed(job))).strip(),
        "",
        *(_rendezvous(profile) if job.ranks else []),
        _RUN.format(command=_command(job, profile, resources), again=CONTINUE).strip(),
    ]
    return "\n".join(parts) + "\n"


def _directives(job: Job, resources: Resources, signal_before_s: int) -> list[str]:
    own: dict[str, str | int | float | bool | None] = {
        "job-name": job.name,
        "partition": resources.partition,
        "account": resources.account,
        # A step without ranks is one process, however many nodes training takes.
        "nodes": resources.nodes if job.ranks else 1,
        "ntasks-per-node": 1,
        "cpus-per-task": resources.cpus_per_task,
        "gres": f"gpu:{resources.gpus_per_node}" if resources.gpus_per_node else None,
        "time": resources.walltime,
        "signal": f"B:USR1@{signal_before_s}",
        "chdir": str(job.place),
        # Slurm expands %j and the like in file names.
        "output": str(job.place / "log.txt").replace("%", "%%"),
        "open-mode": "append",
        "requeue": True,
        # No variable of the submitting process reaches the job: they may be secret, and differ every time.
        "export": "NIL",
    }
    return [_directive(name, value) for name, value in {**own, **resources.directives}.items() if _is_set(value)]


def _is_set(value: str | int | float | bool | None) -> bool:
    return value is not None and value is not False


def _directive(name: str, value: str | int | float | bool | None) -> str:
    option = f"--{name}" if value is True else f"--{name}={value}"
    return f"#SBATCH {option}" if " " not in option else f'#SBATCH "{option}"'


def _rendezvous(profile: ClusterProfile) -> list[str]:
    return [_RENDEZVOUS.format(suffix=profile.master_suffix, first=_FIRST_PORT, ports=_PORTS).strip(), ""]


def _command(job: Job, profile: ClusterProfile, resources: Resources) -> str:
    nodes = resources.nodes if job.ranks else 1
    task = ["srun", "--kill-on-bad-exit=1", f"--nodes={nodes}", "--ntasks-per-node=1"]
    if not job.ranks:
        return shlex.join([*task, profile.python, "-m", *job.arguments])
    # torchrun passes on only the signals named here; older releases read the first two variables.
    signals, patience_s = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1", max(profile.signal_before_s - _KILL_MARGIN_S, 5)
    variables = {
        "TORCHELASTIC_SIGNALS_TO_HANDLE": signals,
        "PET_SIGNALS_TO_HANDLE": signals,
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": patience_s,
    }
    launch = [f"--nnodes={nodes}", f"--nproc-per-node={job.ranks}", "--rdzv-backend=c10d"]
    rendezvous = '--rdzv-id="$SLURM_JOB_ID-$restart" --rdzv-endpoint="$MASTER_ADDR:$MASTER_PORT"'
    exported = "\n".join(f"export {name}={value}" for name, value in variables.items())
    start = f"{shlex.join([*task, *profile.launcher, *launch])} {rendezvous} {shlex.join(['-m', *job.arguments])}"
    return f"{exported}\n{start}"


def _needed(job: Job) -> list[str]:
    """Name the packages without which the first import would fail."""
    return ["cytonet_pipeline", "torch", "dagster_pipes"] if job.ranks else ["cytonet_pipeline"]


_PREAMBLE = """
place={place}
restart=${{SLURM_RESTART_COUNT:-0}}
note() {{
    printf '{{"event": "%s", "restart": %d, "time": %d, "nodes": "%s", "node_count": %d%s}}\\n' \\
        "$1" "$restart" "$(date +%s)" "$SLURM_JOB_NODELIST" "$SLURM_JOB_NUM_NODES" "${{2:-}}" >> "$place/events.jsonl"
}}
fail() {{ echo "$1" | tee "$place/fault.txt" >&2; note end ', "code": 1'; exit 1; }}
reported() {{
    grep -o "\\"$1\\": *[^,}}]*" "$place/../../progress.json" 2> /dev/null | head -n 1 | tr -d ' "' | cut -d : -f 2
}}
# With a full quota, files can be made but nothing can be written to them.
head -c 65536 /dev/zero > "$place/.room" || fail "$(hostname): cannot write to $place: no room, or no permission"
rm -f "$place/.room" "$place/fault.txt"
note start

# Tasks get the variables of this script, and as many cores as the job has.
export SLURM_EXPORT_ENV=ALL
[ -z "${{SLURM_CPUS_PER_TASK:-}}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
"""

_LOOK = """
# Reported in the first minute rather than by the first import of every rank.
lacking=$({python} -c 'import importlib.util as u; print(*[n for n in {module} if u.find_spec(n) is None])' 2>&1) \\
    || fail "$(hostname): {python} does not run: $(echo "$lacking" | tail -n 1)"
[ -z "$lacking" ] || fail "$(hostname): {python} lacks $lacking: correct setup or python in the cluster profile"
"""

_RENDEZVOUS = """
# Ranks meet on the first node; if its name does not resolve, at the address that Slurm has for it.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR="${{first}}{suffix}"
getent hosts "$MASTER_ADDR" > /dev/null \\
    || MASTER_ADDR=$(scontrol show node "$first" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')
export MASTER_PORT=$(({first} + (SLURM_JOB_ID * 7 + restart) % {ports}))
"""

_RUN = """
# USR1: the walltime is nearly over. TERM: cancelled or preempted. Both are passed on and waited for.
asked='' passed=''
pass_on() {{ asked=$1; [ -z "${{child:-}}" ] || {{ passed=$1; kill -s "$1" "$child" 2> /dev/null; }}; }}
trap 'pass_on USR1' USR1
trap 'pass_on TERM' TERM
{command} &
child=$!
# A signal that came before the child had a number.
[ "$asked" = "$passed" ] || pass_on "$asked"
# Short waits: bash runs the trap of a signal that arrives just before a wait only when that wait is over.
while kill -0 "$child" 2> /dev/null; do sleep 1 & wait $!; done
wait "$child"
code=$?
# The last state that the training process reported is more reliable than the launcher's exit code.
if [ -n "$asked" ] && [ "$(reported state)" = done ]; then code=0; fi
note end ", \\"code\\": $code, \\"asked\\": \\"$asked\\", \\"step\\": $(printf %d "$(reported step)")"

if [ "$asked" = USR1 ] && [ "$code" != 0 ] && [ "$(reported state)" != failed ]; then
    [ "$(cat "$place/.step" 2> /dev/null)" != "at $(reported step)" ] \\
        || fail "no checkpoint or part was finished in a whole walltime: raise walltime or lower checkpoint_every"
    echo "at $(reported step)" > "$place/.step"
    note requeue
    scontrol requeue "$SLURM_JOB_ID" && exit 0
    exit {again}
fi
exit "$code"
"""
