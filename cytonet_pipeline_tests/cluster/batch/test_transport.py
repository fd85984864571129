"""Commands on this machine, and through a real sshd on loopback."""

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from cytonet_pipeline.cluster.batch.transport import Finished, LocalTransport, SshTransport, transport_to
from cytonet_pipeline.errors import ClusterError, TransportDown
from cytonet_pipeline_tests.cluster.batch.sshd import sshd  # noqa: F401
from cytonet_pipeline_tests.cluster.processes import until

ODD = [
    "",
    "two words",
    "it's",
    'a "quote"',
    "$HOME `id` \\ ; & | > *",
    "line\nbreak",
    "µm – ü",
    "-n",
    "!x",
    "~",
    "{a,b}",
]
PRINT = ["python3", "-c", "import sys; sys.stdout.write('\\0'.join(sys.argv[1:]))"]


@pytest.fixture(params=["local", "ssh"])
def transport(request):
    """Make a transport of each kind; both behave alike."""
    return LocalTransport() if request.param == "local" else request.getfixturevalue("sshd").transport()


def test_a_command_gives_code_output_and_errors(transport):
    assert transport.run(["sh", "-c", "echo out; echo err >&2; exit 3"]) == Finished(3, "out\n", "err\n")


def test_arguments_arrive_as_they_were(transport):
    assert transport.run([*PRINT, *ODD]).out.split("\0") == ODD


def test_standard_input_arrives_and_is_empty_unless_given(transport):
    script = "#!/bin/sh\n# µ 'quoted'\n" + "x" * 200_000

    assert transport.run(["cat"], stdin=script).out == script
    assert transport.run(["cat"]).out == ""


def test_a_command_that_does_not_exist_is_127(transport):
    assert transport.run(["no-such-command-here", "--version"]).code == 127


def test_a_command_that_does_not_answer_is_a_state(transport):
    with pytest.raises(TransportDown, match=r"did not answer within 0\.5 s"):
        transport.run(["sleep", "3"], timeout_s=0.5)


def test_code_255_of_a_command_is_not_taken_for_a_lost_connection(transport):
    """sbatch itself ends with 255 for an option that it does not know; ssh does for a connection that broke."""
    assert transport.run(["sh", "-c", "echo unrecognized >&2; exit 255"]) == Finished(255, "", "unrecognized\n")


def test_many_commands_share_one_login(sshd):  # noqa: F811
    transport = sshd.transport()

    for number in range(3):
        assert transport.run(["echo", str(number)]).out == f"{number}\n"

    assert sshd.logins() == 1
    # Another process of the same user uses it, too.
    assert sshd.transport().run(["echo", "x"]).out == "x\n"
    assert sshd.logins() == 1


def test_a_lost_connection_is_replaced(sshd):  # noqa: F811
    transport = sshd.transport()
    transport.run(["true"])

    os.kill(_master(transport), signal.SIGKILL)

    assert transport.run(["echo", "again"]).out == "again\n"
    assert sshd.logins() == 2


def test_reconnecting_waits_for_its_gap(sshd):  # noqa: F811
    """Sites block users who log in too often, for a day."""
    transport = sshd.transport(gap_s=60.0)
    transport.run(["true"])
    os.kill(_master(transport), signal.SIGKILL)

    for _ in range(5):
        with pytest.raises(TransportDown, match=r"held back for [56]\d s"):
            transport.run(["true"])
    assert sshd.logins() == 1

    last_try = time.time() - 61
    os.utime(transport._stamp, (last_try, last_try))
    assert transport.run(["echo", "again"]).out == "again\n"
    assert sshd.logins() == 2


def test_a_refused_key_is_a_state_with_a_remedy(sshd):  # noqa: F811
    sshd.refuse()
    transport = sshd.transport(gap_s=60.0)

    with pytest.raises(TransportDown, match="Permission denied") as refused:
        transport.run(["true"])
    assert "ssh-add" in refused.value.to_fix
    with pytest.raises(TransportDown, match=r"held back for 1[12]\d s after 1 that failed") as held_back:
        transport.run(["true"])
    assert "ssh-add" in held_back.value.to_fix
    assert sshd.log().count("Failed publickey") + sshd.log().count("Connection closed by authenticating user") == 1

    sshd.allow()
    transport.forget_failures()
    assert transport.run(["echo", "in"]).out == "in\n"


def test_pauses_grow_with_each_failure_and_end_with_a_success(sshd):  # noqa: F811
    sshd.refuse()
    transport = sshd.transport(gap_s=0.01)
    waits = []
    for _ in range(4):
        with pytest.raises(TransportDown, match="Permission denied"):
            transport.run(["true"])
        waits.append(transport._held_back()[1])
        time.sleep(max(waits[-1], 0))

    sshd.allow()
    time.sleep(0.3)
    transport.run(["true"])

    assert waits == sorted(waits)
    assert waits[-1] > 4 * 0.01
    assert transport._held_back()[0] == 0


def test_a_try_of_the_future_holds_no_connection_back(tmp_path):
    """The clock was set back since: the next connection would wait until it is where it was."""
    transport = SshTransport("elsewhere", folder=tmp_path, gap_s=10.0)
    transport._remember(1, "refused")

    def wait_s(tried_s):
        os.utime(transport._stamp, (time.time() + tried_s, time.time() + tried_s))
        return transport._held_back()[1]

    assert wait_s(0) == pytest.approx(20, abs=2)
    assert wait_s(5) == pytest.approx(25, abs=2)
    assert wait_s(7200) == 0


def test_an_unknown_host_key_is_never_accepted(sshd):  # noqa: F811
    (sshd.folder / "known_hosts").write_text("")

    with pytest.raises(TransportDown, match="Host key verification failed") as refused:
        sshd.transport().run(["true"])
    assert "by hand" in refused.value.to_fix
    assert sshd.logins() == 0


def test_settings_for_logins_by_hand_do_not_interfere(sshd):  # noqa: F811
    """Many users have such lines for a cluster: tmux at login, a forwarded port, a connection of their own."""
    with sshd.config.open("a") as config:
        config.write(f" RemoteCommand tmux attach\n RequestTTY force\n LocalForward {sshd.port} localhost:22\n")
        config.write(f" ExitOnForwardFailure yes\n ControlMaster auto\n ControlPath {sshd.folder}/mine-%C\n")

    assert sshd.transport().run(["echo", "x"]) == Finished(0, "x\n", "")
    assert not list(sshd.folder.glob("mine-*"))


def test_a_machine_that_is_away_is_a_state(sshd):  # noqa: F811
    sshd.stop()

    with pytest.raises(TransportDown, match="refused") as away:
        sshd.transport().run(["true"])
    assert "tried again" in away.value.to_fix


def test_a_connection_that_dies_under_a_command_is_a_state(sshd):  # noqa: F811
    transport = sshd.transport()
    transport.run(["true"])
    master = _master(transport)
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.7; kill -9 {master}"])

    with pytest.raises(TransportDown, match="lost"):
        transport.run(["sleep", "5"])
    killer.wait()


def test_closing_leaves_nothing_behind(sshd):  # noqa: F811
    transport = sshd.transport()
    transport.run(["true"])
    master = _master(transport)

    transport.close()

    until(lambda: not os.path.exists(f"/proc/{master}"), 5)
    assert not transport.connected()


def test_a_host_is_reached_through_ssh_and_this_machine_directly(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert isinstance(transport_to(None), LocalTransport)
    remote = transport_to("jureca")
    assert isinstance(remote, SshTransport)
    assert remote.host == "jureca"


@pytest.mark.parametrize("kind", ["open to all", "a link"])
def test_sockets_lie_in_a_folder_that_is_private(monkeypatch, kind):
    """In a folder of another user, that user could answer in place of the cluster."""
    with tempfile.TemporaryDirectory(prefix="cs-") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        folder = Path(runtime) / f"cytonet-{os.getuid()}"
        if kind == "a link":
            (Path(runtime) / "elsewhere").mkdir(mode=0o700)
            folder.symlink_to("elsewhere")
        else:
            folder.mkdir()
            folder.chmod(0o777)

        with pytest.raises(ClusterError, match="private"):
            SshTransport("jureca")


def _master(transport) -> int:
    answer = transport._control("check")
    return int((answer.stdout + answer.stderr).decode().partition("pid=")[2].partition(")")[0])


def test_a_connection_that_hangs_counts_as_none(tmp_path, monkeypatch):
    """An outage is a state: it must not end the run that follows a job."""
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nexec sleep 5\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("cytonet_pipeline.cluster.batch.transport._CONTROL_S", 0.1)
    hanging = SshTransport("nowhere", folder=tmp_path)
    hanging._socket.touch()

    assert not hanging.connected()


def test_a_machine_without_ssh_is_an_error_that_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ClusterError, match=r"(?s)no `ssh` on this machine.*openssh-client"):
        SshTransport("jureca", folder=tmp_path).run(["squeue"])
