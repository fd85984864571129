"""The queue of a real Slurm: submissions, states, and outages."""

import os
import time
from pathlib import Path

import pytest

from cytonet_pipeline.cluster.batch.job_state import JobState, Phase
from cytonet_pipeline.cluster.slurm.queue import SlurmQueue
from cytonet_pipeline.errors import SubmissionRefused, TransportDown
from cytonet_pipeline_tests.cluster.batch.sshd import sshd  # noqa: F401
from cytonet_pipeline_tests.cluster.processes import until
from cytonet_pipeline_tests.cluster.slurm.slurm_cluster import (  # noqa: F401
    SlurmCluster,
    slurm,
    slurm_with_accounting,
    transport,
)

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]

# A job that runs until it is interrupted, and ends at once after it was requeued.
ONLY_ON_FIRST_START = '[ "${SLURM_RESTART_COUNT:-0}" != 0 ] || sleep 300'


class Counting:
    """Transport that records which commands went through it."""

    def __init__(self, inner) -> None:
        self.inner = inner
        self.commands: list[str] = []

    def run(self, argv, **options):
        self.commands.append(argv[0])
        return self.inner.run(argv, **options)


@pytest.fixture
def queue(slurm):  # noqa: F811
    return SlurmQueue(transport(slurm))


@pytest.fixture
def submit(queue, tmp_path):
    """Submit a few lines of shell; jobs that still run at the end are cancelled."""
    submitted = []

    def submit(body: str, *directives: str, name: str = "a-job") -> str:
        options = [f"--job-name={name}", f"--output={tmp_path}/log.txt", *directives]
        script = "".join(f"#SBATCH {option}\n" for option in options)
        submitted.append(queue.submit(f"#!/bin/sh\n{script}{body}\n"))
        return submitted[-1]

    yield submit
    for job_id in submitted:
        queue.cancel(job_id)
    until(lambda: all(job is None or job.ended for job in queue.states(submitted).values()), 30)


def wait(queue: SlurmQueue, job_id: str, condition, timeout_s: float = 60.0) -> JobState:
    """Follow a job until `condition(state)` holds, and return its state then."""
    seen: list[JobState] = []

    def so() -> bool:
        state = queue.states([job_id])[job_id]
        if state is not None and state not in seen:
            seen.append(state)
        return state is not None and condition(state)

    try:
        until(so, timeout_s)
    except TimeoutError as error:
        raise TimeoutError(f"job {job_id} never got there: {', '.join(map(str, seen))}") from error
    return seen[-1]


def ended(state: JobState) -> bool:
    return state.ended


def test_jobs_end_as_their_scripts_did(queue, submit):
    fine = submit("sleep 0.2", "--nodes=2", "--gres=gpu:2")
    failing = submit("exit 3")
    killed = submit("kill -9 $$")

    done = wait(queue, fine, ended)
    assert (done.phase, done.exit_code, done.nodes, done.node_count, done.gpus) == ("COMPLETED", 0, "n[1-2]", 2, 4)
    assert (wait(queue, failing, ended).phase, wait(queue, failing, ended).exit_code) == ("FAILED", 3)
    assert (wait(queue, killed, ended).phase, wait(queue, killed, ended).signal) == ("FAILED", 9)


def test_one_call_asks_for_all_jobs_and_none_for_those_that_have_ended(slurm, queue, submit):  # noqa: F811
    counting = Counting(transport(slurm))
    asking = SlurmQueue(counting)
    ids = [submit("sleep 60") for _ in range(3)]
    short = submit("true")
    wait(queue, short, ended)

    assert {state.phase for state in asking.states([*ids, short]).values()} <= {"PENDING", "RUNNING", "COMPLETED"}
    assert counting.commands == ["squeue"]
    asking.states([short])
    assert counting.commands == ["squeue"]


def test_a_waiting_job_says_why(queue, submit):
    submit("sleep 60", "--nodes=2", "--exclusive")
    waiting = submit("sleep 60", "--nodes=2", "--exclusive")

    state = wait(queue, waiting, lambda state: state.reason != "")
    assert (state.phase, state.reason in ("Resources", "Priority")) == (Phase.PENDING, True)


def test_a_cancelled_job_is_cancelled_and_cancelling_again_is_no_fault(queue, submit):
    job_id = submit("sleep 60")
    wait(queue, job_id, lambda state: state.phase is Phase.RUNNING)

    queue.cancel(job_id)

    assert wait(queue, job_id, ended).phase is Phase.CANCELLED
    queue.cancel(job_id)
    queue.cancel("999999")


def test_jobs_are_found_by_name_running_and_finished(queue, submit):
    """The one who submitted may be killed before it wrote down the id."""
    first = submit("true", name="cytonet-x-1")
    wait(queue, first, ended)
    second = submit("sleep 60", name="cytonet-x-1")
    submit("sleep 60", name="cytonet-x-10")

    assert [job.job_id for job in queue.find("cytonet-x-1")] == [first, second]
    assert queue.find("cytonet-y") == []


def test_a_job_that_never_was_is_unknown(queue):
    assert queue.states(["999998", "999999"]) == {"999998": None, "999999": None}


@pytest.mark.parametrize(
    ("directive", "words", "key"),
    [
        ("--partition=nowhere", "invalid partition specified: nowhere", "partition"),
        ("--frobnicate=1", "unrecognized option '--frobnicate=1'", "directives"),
        ("--gres=gpu:99", "Requested node configuration is not available", "profile"),
        ("--constraint=quantum", "Invalid feature specification", "profile"),
    ],
)
def test_a_refusal_of_slurm_is_reported_in_its_own_words(submit, directive, words, key):
    with pytest.raises(SubmissionRefused, match=words) as refused:
        submit("true", directive)
    assert key in refused.value.to_fix


def test_variables_of_the_environment_do_not_win_against_the_script(slurm, submit, tmp_path):  # noqa: F811
    """Sites set SBATCH_PARTITION and its like, and sbatch lets them win against what a script says."""
    queue = SlurmQueue(transport(slurm, SBATCH_PARTITION="low", SBATCH_JOB_NAME="other"))

    job_id = queue.submit("#!/bin/sh\n#SBATCH --partition=main\n#SBATCH --job-name=mine\n#SBATCH -o /dev/null\ntrue\n")

    assert slurm.slurm("squeue", "-h", "--states=all", "-j", job_id, "-o", "%P %j").stdout.split() == ["main", "mine"]


def test_without_slurm_here_the_error_says_what_to_set(tmp_path):
    from cytonet_pipeline.cluster.batch.transport import LocalTransport

    nothing = SlurmQueue(LocalTransport({"PATH": str(tmp_path)}))

    with pytest.raises(SubmissionRefused, match="sbatch: command not found") as refused:
        nothing.submit("#!/bin/sh\n")
    assert "transport: ssh" in refused.value.to_fix


def test_the_version_is_read(queue):
    assert [part.isdigit() for part in queue.version().split(".")[:2]] == [True, True]


def test_a_queue_that_does_not_answer_is_not_the_end_of_a_job(slurm, submit, tmp_path):  # noqa: F811
    """squeue fails for minutes when slurmctld is restarted; what was known holds until it answers again."""
    broken = tmp_path / "bin"
    broken.mkdir()
    counting = Counting(transport(slurm, PATH=f"{broken}:{os.environ['PATH']}"))
    queue = SlurmQueue(counting)
    job_id = submit("sleep 60")
    wait(queue, job_id, lambda state: state.phase is Phase.RUNNING)
    before = time.time()
    _break(broken / "squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    counting.commands.clear()

    for _ in range(5):
        states = queue.states([job_id, "999999"])
    assert states[job_id].phase is Phase.RUNNING
    assert states["999999"].phase is Phase.UNKNOWN
    assert "has not answered since" in states["999999"].reason
    assert "Unable to contact slurm controller" in str(queue.outage)
    assert abs(queue.outage.since - before) < 10
    # A queue in trouble is not asked five times at once.
    assert counting.commands == ["squeue"]
    with pytest.raises(TransportDown):
        queue.find("a-job")

    (broken / "squeue").unlink()
    queue._ask_again = 0.0
    assert queue.states([job_id])[job_id].phase is Phase.RUNNING
    assert queue.outage is None


def test_a_controller_that_is_restarted_loses_no_job(slurm, submit, tmp_path):  # noqa: F811
    # Slurm's commands look for a controller for as long as a message may take.
    impatient = tmp_path / "slurm.conf"
    configuration = Path(slurm.environment["SLURM_CONF"]).read_text()
    impatient.write_text(configuration.replace("MessageTimeout=10", "MessageTimeout=2"))
    queue = SlurmQueue(transport(slurm, SLURM_CONF=str(impatient)))
    job_id = submit("sleep 2")
    wait(queue, job_id, lambda state: state.phase is Phase.RUNNING)

    slurm.stop_controller()
    try:
        with pytest.raises(TransportDown, match="Unable to contact slurm controller"):
            queue.submit("#!/bin/sh\ntrue\n")
        assert queue.states([job_id])[job_id].phase is Phase.RUNNING
        assert queue.outage is not None
        # The next question has to wait.
        assert queue._ask_again > time.monotonic()
    finally:
        slurm.start_controller()

    queue._ask_again = 0.0
    assert wait(queue, job_id, ended).phase is Phase.COMPLETED


def test_a_preempted_job_is_requeued_and_does_not_count_as_ended(queue, submit):
    low = submit(ONLY_ON_FIRST_START, "--partition=low", "--nodes=2", "--exclusive", "--requeue")
    wait(queue, low, lambda state: state.phase is Phase.RUNNING)

    submit("sleep 0.5", "--partition=main", "--nodes=2", "--exclusive")

    again = wait(queue, low, lambda state: state.ended or state.restarts == 1)
    assert not again.ended
    assert wait(queue, low, ended).phase is Phase.COMPLETED


@pytest.mark.long
def test_the_death_of_a_node_is_seen_as_a_requeue(slurm, queue, submit, tmp_path):  # noqa: F811
    began = tmp_path / "began"
    job_id = submit(f"touch {began}; {ONLY_ON_FIRST_START}", "--exclusive", "--requeue")
    # A node that dies while it starts the script is another matter: its daemon would leave a half-started job behind.
    until(began.exists, 30)
    first = wait(queue, job_id, lambda state: state.phase is Phase.RUNNING)
    slurm.kill_node(first.nodes)
    try:
        assert slurm.processes(first.nodes) == []
        last = wait(queue, job_id, ended, timeout_s=120)
    finally:
        slurm.restart_node(first.nodes)
        slurm.wait_until_idle()

    assert (last.phase, last.restarts) == (Phase.COMPLETED, 1)
    assert last.nodes != first.nodes


def test_accounting_names_the_account_the_canceller_and_forgotten_jobs(slurm_with_accounting):  # noqa: F811
    queue = SlurmQueue(transport(slurm_with_accounting))
    with pytest.raises(SubmissionRefused, match="Invalid account or account/partition combination") as refused:
        queue.submit("#!/bin/sh\n#SBATCH --account=nobodys\ntrue\n")
    assert "`account`" in refused.value.to_fix

    job_id = queue.submit("#!/bin/sh\n#SBATCH --account=brains --job-name=named -o /dev/null --gres=gpu:1\nsleep 60\n")
    wait(queue, job_id, lambda state: state.phase is Phase.RUNNING)
    queue.cancel(job_id)
    until(lambda: "CANCELLED" in slurm_with_accounting.slurm("sacct", "-nPXj", job_id, "-o", "State").stdout, 20)

    fresh = SlurmQueue(transport(slurm_with_accounting))
    assert wait(fresh, job_id, ended).by == str(os.getuid())
    assert wait(fresh, job_id, ended).gpus == 1


def test_a_forgotten_job_is_known_to_accounting_and_its_outage_ends_nothing(slurm_with_accounting, tmp_path):  # noqa: F811
    """The queue forgets a job after MinJobAge; only slurmdbd knows it then, and may be down."""
    cluster = slurm_with_accounting
    forgetful = tmp_path / "bin"
    forgetful.mkdir()
    job_id = SlurmQueue(transport(cluster)).submit("#!/bin/sh\n#SBATCH --job-name=past -o /dev/null\nexit 4\n")
    # The database receives a job in several steps; the queue remembers it for longer than that.
    until(lambda: "FAILED" in cluster.slurm("sacct", "-nPX", "--name=past", "-o", "State").stdout, 60)
    _break(forgetful / "squeue", "slurm_load_jobs error: Invalid job id specified")
    queue = SlurmQueue(transport(cluster, PATH=f"{forgetful}:{os.environ['PATH']}"))

    cluster.accounting.stop_daemon()
    try:
        assert queue.states([job_id])[job_id].phase is Phase.UNKNOWN
        assert "Problem talking to the database" in str(queue.outage)
        with pytest.raises(TransportDown):
            queue.find("past")
    finally:
        cluster.accounting.start_daemon()

    queue._ask_again = 0.0
    state = queue.states([job_id])[job_id]
    assert (state.phase, state.exit_code) == (Phase.FAILED, 4)
    assert [job.job_id for job in queue.find("past")] == [job_id]
    assert queue.states(["999999"]) == {"999999": None}


def test_the_queue_is_reached_through_ssh(slurm, sshd):  # noqa: F811
    variables = [f"{name}={value}" for name, value in slurm.environment.items()]
    queue = SlurmQueue(sshd.transport(), prefix=["env", *variables])

    job_id = queue.submit("#!/bin/sh\n#SBATCH --job-name=far -o /dev/null\nexit 5\n")

    assert wait(queue, job_id, ended).exit_code == 5
    assert sshd.logins() == 1


def _break(command: Path, words: str) -> None:
    command.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    command.chmod(0o755)
