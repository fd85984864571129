"""A real sshd on loopback: own host key, own authorized keys, a high port, everything in one folder.

A test that needs it: `from cytonet_pipeline_tests.cluster.batch.sshd import sshd  # noqa: F401`.
"""

import getpass
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from cytonet_pipeline.cluster.batch.transport import SshTransport
from cytonet_pipeline_tests.cluster.processes import free_ports, until

_SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Sshd:
    """A server in `folder`, for the current user; `config` is what its clients read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config"
        self.port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make keys, start the server, wait until it listens."""
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)], check=True)
        self.allow()
        server = (self.folder / "host.pub").read_text()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {server}")
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nUsePAM no\nPermitRootLogin yes\nAcceptEnv NOTHING\n"
        )
        self.config.write_text(
            f"Host cluster\n HostName 127.0.0.1\n Port {self.port}\n User {getpass.getuser()}\n"
            f" IdentityFile {self.folder}/user\n IdentitiesOnly yes\n IdentityAgent none\n"
            f" UserKnownHostsFile {self.folder}/known_hosts\n GlobalKnownHostsFile none\n"
        )
        if os.getuid() == 0:
            # The privilege separation folder, which Debian's service makes at boot.
            Path("/run/sshd").mkdir(exist_ok=True)
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [str(_SSHD), "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(lambda: "Server listening" in self.log(), 10)

    def stop(self) -> None:
        """End the server and every session of it."""
        if self._process:
            # Sessions are in groups of their own; the master connections of the clients end with them.
            for child in _children(self._process.pid):
                os.kill(child, signal.SIGTERM)
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def allow(self) -> None:
        """Accept the user's key."""
        (self.folder / "authorized_keys").write_text((self.folder / "user.pub").read_text())

    def refuse(self) -> None:
        """Refuse every login, as after a login has expired."""
        (self.folder / "authorized_keys").write_text("")

    def log(self) -> str:
        """Return the log of the server."""
        return (self.folder / "log.txt").read_text()

    def logins(self) -> int:
        """Count the accepted logins."""
        time.sleep(0.1)
        return self.log().count("Accepted publickey")

    def transport(self, **options) -> SshTransport:
        """Make a client that does not wait before it reconnects, unless `options` say so."""
        given = {"config": self.config, "folder": self.folder, "gap_s": 0.0, **options}
        return SshTransport("cluster", **given)


@pytest.fixture
def sshd():
    """Start a server without any login so far."""
    if _SSHD is None:
        pytest.skip("no sshd here: apt-get install openssh-server")
    # Sockets need a short path; those of pytest's folders are too long.
    folder = Path(tempfile.mkdtemp(prefix="cs-"))
    server = Sshd(folder)
    try:
        server.start()
        yield server
        server.transport().close()
    finally:
        server.stop()
        shutil.rmtree(folder)


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]
