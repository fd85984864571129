"""A throw-away Slurm on this machine: munged, slurmctld and a few slurmd, all in one folder, no system files touched.

A test that needs it: `from cytonet_pipeline_tests.cluster.slurm.slurm_cluster import slurm  # noqa: F401`, the marker
`slurm`, and `xdist_group("slurm")`. Nodes share one address and their names do not resolve.
"""

import contextlib
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cytonet_pipeline.cluster.batch.transport import LocalTransport
from cytonet_pipeline_tests.cluster.processes import PATH, daemon, end, free_ports, pids, send, until
from cytonet_pipeline_tests.cluster.slurm.accounting import Accounting

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")

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
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.accounting = Accounting(folder, self.user) if accounting else None

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which Slurm's commands use this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        """Bring everything up and wait until all nodes are idle."""
        for name in ("munge", "state", "spool", "log", "run", "jobs", "dev"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # munged refuses folders that a group may write to.
        (self.folder / "munge").chmod(0o755)
        self._start_munged()
        self._configure()
        if self.accounting:
            self.accounting.start()
        self.start_controller()
        for node in self.nodes:
            (self.folder / "spool" / node).mkdir(exist_ok=True)
            self.start_node(node)
        self.wait_until_idle()
        if self.accounting:
            for added in ("account brains", f"user {self.user} account=brains defaultaccount=brains"):
                self.slurm("sacctmgr", "--immediate", "add", *added.split())

    def stop(self) -> None:
        """End all jobs, then the daemons; nothing of this cluster is left running."""
        with contextlib.suppress(subprocess.TimeoutExpired, FileNotFoundError):
            self.slurm("scancel", "--user", str(os.getuid()), timeout=10)
            until(lambda: not self.slurm("squeue", "-h", timeout=5).stdout.strip(), 15, complain=False)
        for name in self.nodes:
            end(self.folder / "run" / f"slurmd-{name}.pid")
        end(self.folder / "run" / "slurmctld.pid")
        if self.accounting:
            self.accounting.stop()
        for node in self.nodes:
            self._kill_processes_of(node)
        end(self.folder / "munge" / "munged.pid")

    def kill_node(self, node: str) -> None:
        """Simulate a power cut: the daemon and every process of its jobs are gone at once."""
        send(self.folder / "run" / f"slurmd-{node}.pid", signal.SIGKILL)
        self._kill_processes_of(node)

    def start_node(self, node: str, *, hidden: Path | None = None) -> None:
        """Start a node's daemon, also again after `kill_node`; the folder `hidden` is empty for its jobs."""
        command = ["slurmd", "-f", self.environment["SLURM_CONF"], "-N", node]
        if hidden:
            # A file system of its own for the daemon and all that it starts.
            masked = f"mount -t tmpfs none {shlex.quote(str(hidden))} && exec {shlex.join(command)}"
            command = ["unshare", "--mount", "sh", "-c", masked]
        daemon(*command, variables=self.environment)

    restart_node = start_node

    def stop_node(self, node: str) -> None:
        """Stop a node's daemon properly; its jobs go on."""
        end(self.folder / "run" / f"slurmd-{node}.pid")

    def stop_controller(self) -> None:
        """Stop slurmctld: squeue and sbatch fail until `start_controller`; jobs go on."""
        end(self.folder / "run" / "slurmctld.pid")

    def start_controller(self) -> None:
        """Start slurmctld, also again with the state that it left."""
        daemon("slurmctld", "-f", self.environment["SLURM_CONF"], variables=self.environment)

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
        """List the processes of jobs (and slurmstepd) on a node, or on all nodes."""
        nodes = [node] if node else self.nodes
        return [pid for pid in pids() if any(self._belongs_to(pid, name) for name in nodes)]

    def _belongs_to(self, pid: int, node: str) -> bool:
        """Tell whether a process is a slurmstepd of the node (it holds its log open) or was started by one."""
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
            found = self.processes(node)
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not found

        until(gone, 10)

    def _start_munged(self) -> None:
        place = self.folder / "munge"
        key = place / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        options = {"key-file": key, "socket": place / "munge.socket", "pid-file": place / "munged.pid"}
        options |= {"seed-file": place / "munged.seed", "log-file": place / "munged.log"}
        daemon("munged", *(f"--{name}={value}" for name, value in options.items()), "--num-threads=2", variables={})

    def _configure(self) -> None:
        ports = free_ports(len(self.nodes) + 1)
        # A gpu must name character devices; symlinks to /dev/null pass for that.
        for number in range(self.gpus):
            (self.folder / "dev" / f"gpu{number}").symlink_to("/dev/null")
        gres = f"Gres=gpu:fake:{self.gpus}" if self.gpus else ""
        devices = f"Name=gpu Type=fake File={self.folder}/dev/gpu[0-{self.gpus - 1}]\n" if self.gpus else ""
        (self.folder / "gres.conf").write_text(devices)
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        host = socket.gethostname().partition(".")[0]
        text = CONF.format(
            host=host,
            user=self.user,
            folder=self.folder,
            port=ports[0],
            min_job_age_s=self.min_job_age_s,
            accounting=self.accounting.lines if self.accounting else "AccountingStorageType=accounting_storage/none",
        )
        for name, port in zip(self.nodes, ports[1:], strict=True):
            shape = f"CPUs={self.cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={self.cpus} ThreadsPerCore=1"
            address = f"NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
            text += f"NodeName={name} {address} {shape} RealMemory=2000 {gres} State=UNKNOWN\n"
        common = f"Nodes={','.join(self.nodes)} MaxTime=INFINITE OverSubscribe=NO State=UP"
        text += f"PartitionName=main {common} Default=YES PriorityTier=10\n"
        text += f"PartitionName=low {common} PriorityTier=1 PreemptMode=REQUEUE GraceTime=0\n"
        (self.folder / "slurm.conf").write_text(text)


def missing_packages() -> list[str]:
    """List the programs of Slurm that this machine lacks."""
    return [name for name in DAEMONS if shutil.which(name, path=PATH) is None]


def transport(cluster: SlurmCluster, **variables: str) -> LocalTransport:
    """Make a transport to a cluster without changing the variables of this process."""
    return LocalTransport({**os.environ, **cluster.environment, **variables})


@pytest.fixture(scope="session")
def slurm():
    """Start a cluster of two nodes with four CPUs and two fake GPUs each, without accounting."""
    with _running() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def slurm_with_accounting():
    """Start a cluster with slurmdbd: sacct answers, and only the account `brains` exists."""
    missing = Accounting.missing()
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: apt-get install slurmdbd mariadb-server-core mariadb-client-core")
    with _running(accounting=True) as cluster:
        yield cluster


@contextlib.contextmanager
def _running(**options) -> Iterator[SlurmCluster]:
    missing = missing_packages()
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: apt-get install slurmctld slurmd slurm-client munge")
    if os.getuid() != 0:
        pytest.skip("the throw-away Slurm is only started as root")
    # Not a folder of pytest's: munged requires all folders above its socket to be readable by everybody.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    cluster = SlurmCluster(folder, **options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        left = cluster.processes()
        shutil.rmtree(folder)
    assert left == []
