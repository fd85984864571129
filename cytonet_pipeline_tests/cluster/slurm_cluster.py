"""A throw-away Slurm on this machine: munged, slurmctld and a few slurmd, all in one folder, no root's files touched.

A test that needs it: `from cytonet_pipeline_tests.cluster.slurm_cluster import slurm  # noqa: F401`, the marker
`slurm`, and `xdist_group("slurm")`. Nodes share one address and their names do not resolve.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# Also how long a requeued job waits before it may start again; the default is two minutes.
AuthInfo=socket={folder}/munge/munge.socket,cred_expire=5
SlurmctldPort={port}
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
# Nothing that needs cgroups.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
{accounting}
JobCompType=jobcomp/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=5,sched_min_interval=0,bf_interval=1
MinJobAge={min_job_age_s}
InactiveLimit=0
KillWait=5
SlurmdTimeout=10
SlurmctldTimeout=30
MessageTimeout=10
EpilogMsgTime=100
JobRequeue=1
RebootProgram=/bin/true
PropagateResourceLimits=NONE
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
"""


class SlurmCluster:
    """A cluster of `nodes` nodes in `folder`.

    `main` is the default partition; jobs of `low` are preempted by those of `main`. Neither CPUs nor memory are
    enforced. Without `accounting` there is no sacct, as at sites without slurmdbd.
    """

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 2,
        cpus: int = 4,
        gpus: int = 2,
        min_job_age_s: int = 600,
        accounting: bool = False,
    ) -> None:
        self.folder = folder
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.cpus = cpus
        self.gpus = gpus
        self.min_job_age_s = min_job_age_s
        self.accounting = accounting

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make Slurm's commands speak to this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        """Bring everything up and wait until all nodes are idle."""
        for name in ("munge", "state", "spool", "log", "run", "jobs", "dev"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # munged insists on folders that no group may write to.
        (self.folder / "munge").chmod(0o755)
        self._start_munged()
        self._configure()
        self.start_controller()
        for node in self.nodes:
            (self.folder / "spool" / node).mkdir(exist_ok=True)
            self.start_node(node)
        self.wait_until_idle()

    def stop(self) -> None:
        """End all jobs, then the daemons; nothing of this cluster is left running."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.slurm("scancel", "--user", str(os.getuid()), timeout=10)
            until(lambda: not self.slurm("squeue", "-h", timeout=5).stdout.strip(), 15, complain=False)
        for name in self.nodes:
            self._end(self.folder / "run" / f"slurmd-{name}.pid")
        self._end(self.folder / "run" / "slurmctld.pid")
        if self.accounting:
            self._end(self.folder / "run" / "slurmdbd.pid")
            self._end(self.folder / "run" / "mariadbd.pid")
        for node in self.nodes:
            self._kill_processes_of(node)
        self._end(self.folder / "munge" / "munged.pid")

    def kill_node(self, node: str) -> None:
        """What a power cut does: the daemon and every process of its jobs are gone at once."""
        _signal(self.folder / "run" / f"slurmd-{node}.pid", signal.SIGKILL)
        self._kill_processes_of(node)

    def start_node(self, node: str) -> None:
        """Start a node's daemon, also again after `kill_node`."""
        self._daemon("slurmd", "-f", self.environment["SLURM_CONF"], "-N", node)

    restart_node = start_node

    def stop_controller(self) -> None:
        """Stop slurmctld: squeue and sbatch fail until `start_controller`; jobs go on."""
        self._end(self.folder / "run" / "slurmctld.pid")

    def start_controller(self) -> None:
        """Start slurmctld, also again with the state that it left."""
        self._daemon("slurmctld", "-f", self.environment["SLURM_CONF"])

    def wait_until_idle(self, timeout_s: float = 60.0) -> None:
        """Wait until every node is idle."""

        def idle() -> bool:
            listed = self.slurm("sinfo", "-h", "-N", "-p", "main", "-o", "%T").stdout.split()
            return listed == ["idle"] * len(self.nodes)

        try:
            until(idle, timeout_s)
        except TimeoutError as error:
            logs = "\n".join(path.read_text()[-1500:] for path in sorted((self.folder / "log").glob("*.log")))
            raise TimeoutError(f"nodes did not become idle\n{logs}") from error

    def slurm(self, *command: str, stdin: str = "", timeout: float = 30.0) -> "subprocess.CompletedProcess[str]":
        """Run one of Slurm's commands on this cluster."""
        return subprocess.run(
            command,
            env={**os.environ, **self.environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def processes(self, node: str | None = None) -> list[int]:
        """Processes of jobs (and slurmstepd) on a node, or on all."""
        nodes = [node] if node else self.nodes
        return [pid for pid in _pids() if any(self._belongs_to(pid, name) for name in nodes)]

    def _belongs_to(self, pid: int, node: str) -> bool:
        """Whether a process is a slurmstepd of the node (it holds its log open) or was started by one."""
        log = str(self.folder / "log" / f"slurmd-{node}.log")
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if Path(f"/proc/{pid}/comm").read_text().startswith("slurmstepd"):
                return any(os.readlink(place) == log for place in Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            return False
        ours = {f"SLURMD_NODENAME={node}".encode(), f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()}
        return ours <= set(variables)

    def _kill_processes_of(self, node: str) -> None:
        def gone() -> bool:
            pids = self.processes(node)
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not pids

        until(gone, 10)

    def _start_munged(self) -> None:
        place = self.folder / "munge"
        key = place / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        options = {"key-file": key, "socket": place / "munge.socket", "pid-file": place / "munged.pid"}
        options |= {"seed-file": place / "munged.seed", "log-file": place / "munged.log"}
        self._daemon("munged", *(f"--{name}={value}" for name, value in options.items()), "--num-threads=2")

    def _configure(self) -> None:
        ports = free_ports(len(self.nodes) + 1)
        # A gpu must name character devices; symlinks to /dev/null pass for that.
        for number in range(self.gpus):
            (self.folder / "dev" / f"gpu{number}").symlink_to("/dev/null")
        gres = f"Gres=gpu:fake:{self.gpus}" if self.gpus else ""
        devices = f"Name=gpu Type=fake File={self.folder}/dev/gpu[0-{self.gpus - 1}]\n" if self.gpus else ""
        (self.folder / "gres.conf").write_text(devices)
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        host = socket.gethostname().partition(".")[0]
        text = CONF.format(
            host=host,
            user=user,
            folder=self.folder,
            port=ports[0],
            min_job_age_s=self.min_job_age_s,
            accounting="AccountingStorageType=accounting_storage/none",
        )
        for name, port in zip(self.nodes, ports[1:], strict=True):
            shape = f"CPUs={self.cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={self.cpus} ThreadsPerCore=1"
            address = f"NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
            text += f"NodeName={name} {address} {shape} RealMemory=2000 {gres} State=UNKNOWN\n"
        common = f"Nodes={','.join(self.nodes)} MaxTime=INFINITE OverSubscribe=NO State=UP"
        text += f"PartitionName=main {common} Default=YES PriorityTier=10\n"
        text += f"PartitionName=low {common} PriorityTier=1 PreemptMode=REQUEUE GraceTime=0\n"
        (self.folder / "slurm.conf").write_text(text)

    def _daemon(self, *command: str) -> None:
        environment = {**os.environ, **self.environment, "PATH": _PATH}
        # They go to the background by themselves.
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        if ran.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit {ran.returncode}\n{ran.stdout}{ran.stderr}")

    def _end(self, pid_file: Path) -> None:
        pid = _signal(pid_file, signal.SIGTERM)
        if pid and not until(lambda: not _alive(pid), 10, complain=False):
            _signal(pid_file, signal.SIGKILL)
            until(lambda: not _alive(pid), 10)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, below those that the system hands out by itself."""
    first = 20000 + (os.getpid() * 37) % 9000
    free: list[int] = []
    for port in range(first, first + 3000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == count:
            return free
    raise RuntimeError("no free ports")


def until(true, timeout_s: float, *, complain: bool = True, every_s: float = 0.1) -> bool:
    """Wait until `true()` holds; `TimeoutError`, or False, if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            if complain:
                raise TimeoutError(f"still not so after {timeout_s:g} s")
            return False
        time.sleep(every_s)
    return True


def missing_packages() -> list[str]:
    """Programs of Slurm that this machine does not have."""
    return [name for name in DAEMONS if shutil.which(name, path=_PATH) is None]


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A running cluster of two nodes with four CPUs and two fake GPUs each, without accounting."""
    missing = missing_packages()
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: apt-get install slurmctld slurmd slurm-client munge")
    if os.getuid() != 0:
        pytest.skip("the throw-away Slurm is only started as root")
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        left = cluster.processes()
    assert left == []


def _pids() -> list[int]:
    return [int(place.name) for place in Path("/proc").iterdir() if place.name.isdigit()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _signal(pid_file: Path, number: int) -> int | None:
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, number)
    except (OSError, ValueError):
        return None
    return pid
