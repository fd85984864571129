"""Running commands of a cluster: as child processes of this machine, or through one lasting OpenSSH connection."""

import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cytonet_pipeline.errors import ClusterError, StoreError, TransportDown
from cytonet_pipeline.store import lock

_NOT_FOUND = 127
_SSH_FAILED = 255
# The process that holds the connection is on this machine, so it answers at once or hangs.
_CONTROL_S = 20.0


@dataclass(frozen=True)
class Finished:
    """A command that ran: exit code and output."""

    code: int
    out: str
    err: str


class Transport(Protocol):
    """Runs commands where those of the batch system are."""

    def run(self, argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = 60.0) -> Finished:
        """Run a command and wait for it.

        Returns
        -------
        Finished
            With any exit code; 127 if there is no such command.

        Raises
        ------
        TransportDown
            The machine cannot be reached, or did not answer in `timeout_s`. The command may have run.
        """
        ...


class LocalTransport:
    """Commands of this machine.

    Parameters
    ----------
    environment : mapping, optional
        Variables in place of this process's own.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.environment = environment

    def run(self, argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = 60.0) -> Finished:
        """See `Transport.run`."""
        try:
            ran = _run(argv, stdin, timeout_s, self.environment)
        except FileNotFoundError:
            return Finished(_NOT_FOUND, "", f"{argv[0]}: command not found")
        except subprocess.TimeoutExpired:
            raise TransportDown(f"{argv[0]} did not answer within {timeout_s:g} s.") from None
        return ran


class SshTransport:
    """Commands of another machine, all through one connection that every process of this user here shares.

    Sites block users who log in too often: a new connection is made only `gap_s` after the last try; each failure
    doubles this time, up to `longest_gap_s`. The time of the last try is kept in a file beside the socket.

    Parameters
    ----------
    host : str
        Name for ssh.
    config : Path, optional
        Another file than ~/.ssh/config.
    folder : Path, optional
        For the socket and the time of the last try; default: a private folder of this user. Sockets need a short path.
    idle_s : int
        The connection closes by itself when it was not used for so long.
    """

    def __init__(
        self,
        host: str,
        *,
        config: Path | None = None,
        folder: Path | None = None,
        gap_s: float = 30.0,
        longest_gap_s: float = 3600.0,
        connect_s: int = 20,
        idle_s: int = 3600,
    ) -> None:
        self.host = host
        self.gap_s = gap_s
        self.longest_gap_s = longest_gap_s
        self._config = ["-F", str(config)] if config else []
        self._options = [
            *("-o", "BatchMode=yes", "-o", f"ConnectTimeout={connect_s}", "-o", "ServerAliveInterval=15"),
            *("-o", "ServerAliveCountMax=3", "-o", f"ControlPersist={idle_s}"),
            # The user's own configuration may forward ports and screens; that is for logins by hand.
            *("-o", "ClearAllForwardings=yes", "-o", "ForwardX11=no", "-o", "ForwardAgent=no", "-o", "LogLevel=ERROR"),
            *("-o", "RemoteCommand=none"),
        ]
        self._connect_s = connect_s
        folder = folder or private_folder()
        name = hashlib.sha256(f"{host}\n{config}".encode()).hexdigest()[:16]
        self._socket = folder / f"{name}.s"
        self._stamp = folder / f"{name}.tried"
        self._lock = folder / f"{name}.lock"

    def run(self, argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = 60.0) -> Finished:
        """See `Transport.run`.

        Raises
        ------
        ClusterError
            This machine has no ssh.
        """
        if shutil.which("ssh") is None:
            raise ClusterError(
                f"{self.host} cannot be reached: no `ssh` on this machine.",
                to_fix="install OpenSSH's client (Debian: apt-get install openssh-client)",
            )
        self._connect()
        # If the connection has gone meanwhile, ssh would make one of its own: a proxy that only fails prevents that.
        never = ["-o", "ControlMaster=no", "-o", "ProxyCommand=false", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
        never += ["-o", "RemoteCommand=none"]
        # One argument for the remote shell, which splits it again.
        command = [*self._ssh(), *never, "-T", "--", self.host, shlex.join(argv)]
        try:
            ran = _run(command, stdin, timeout_s, None)
        except subprocess.TimeoutExpired:
            raise TransportDown(f"{argv[0]} on {self.host} did not answer within {timeout_s:g} s.") from None
        if ran.code == _SSH_FAILED and (not self.connected() or "mux_client" in ran.err):
            raise TransportDown(f"the connection to {self.host} was lost ({_last_line(ran.err)}).")
        return ran

    def connected(self) -> bool:
        """Tell whether there is a connection; asks no other machine."""
        return self._socket.exists() and self._control("check").returncode == 0

    def close(self) -> None:
        """Close the connection, for all processes that use it."""
        if self._socket.exists():
            self._control("exit")

    def forget_failures(self) -> None:
        """Let the next command try at once, for a person who has fixed something and waits."""
        self._stamp.unlink(missing_ok=True)

    def _control(self, request: str) -> "subprocess.CompletedProcess[bytes]":
        command = [*self._ssh(), "-O", request, self.host]
        try:
            return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_CONTROL_S)
        except subprocess.TimeoutExpired:
            # A connection that hangs counts as none; a process that follows a job must not fail because of it.
            return subprocess.CompletedProcess(command, _SSH_FAILED, b"", b"")

    def _ssh(self) -> list[str]:
        return ["ssh", *self._config, "-S", str(self._socket)]

    def _connect(self) -> None:
        if self.connected():
            return
        try:
            with lock(self._lock, f"connecting to {self.host}", wait_s=self._connect_s + 5):
                if not self.connected():
                    self._open()
        except StoreError as error:
            raise TransportDown(f"{self.host}: another process is connecting ({error.what})") from error

    def _open(self) -> None:
        failures, wait_s, message = self._held_back()
        if wait_s > 0:
            raise TransportDown(
                f"{self.host} is not connected; the next attempt is held back for {wait_s:.0f} s"
                + (f" after {failures} that failed ({message})." if failures else ", sites block frequent logins."),
                to_fix=_remedy(message, self.host) if failures else "",
            )
        # Counted as a failure before it is tried: a process that is killed meanwhile has logged in, too.
        self._remember(failures + 1, "interrupted")
        self._socket.unlink(missing_ok=True)
        message = self._log_in()
        if not self.connected():
            self._remember(failures + 1, message)
            raise TransportDown(f"{self.host}: no connection ({message}).", to_fix=_remedy(message, self.host))
        self._remember(0, "")

    def _log_in(self) -> str:
        """Start the connection in the background and return ssh's last message."""
        # A file, not a pipe: the connection in the background would keep a pipe open for ever.
        with tempfile.TemporaryFile() as output:
            command = [*self._ssh(), *self._options, "-o", "ControlMaster=yes", "-N", "-f", "--", self.host]
            try:
                subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=self._connect_s + 10,
                    start_new_session=True,
                )
            except subprocess.TimeoutExpired:
                return "Connection timed out"
            output.seek(0)
            return _last_line(output.read().decode(errors="replace"))

    def _remember(self, failures: int, message: str) -> None:
        self._stamp.write_text(f"{failures} {message}\n")

    def _held_back(self) -> tuple[int, float, str]:
        """Return failures in a row, seconds until the next attempt is allowed, and ssh's last message."""
        try:
            tried = self._stamp.stat().st_mtime
            count, _, message = self._stamp.read_text().strip().partition(" ")
            failures = int(count)
        except (OSError, ValueError):
            return 0, 0.0, ""
        gap_s = min(self.gap_s * 2.0 ** min(failures, 20), self.longest_gap_s)
        wait_s = tried + gap_s - time.time()
        # Longer than the gap: the clock was set back since, and the time of the last try says nothing.
        return failures, wait_s if wait_s <= 2 * gap_s else 0.0, message


def transport_to(host: str | None, ssh_config: Path | None = None) -> Transport:
    """Make the transport to a host; None: this machine."""
    return SshTransport(host, config=ssh_config) if host else LocalTransport()


def _run(argv: Sequence[str], stdin: str | None, timeout_s: float, environment: Mapping[str, str] | None) -> Finished:
    ran = subprocess.run(
        list(argv),
        input=b"" if stdin is None else stdin.encode(),
        capture_output=True,
        timeout=timeout_s,
        env=None if environment is None else dict(environment),
    )
    return Finished(ran.returncode, ran.stdout.decode(errors="replace"), ran.stderr.decode(errors="replace"))


def private_folder() -> Path:
    """Make a folder on this machine that only this user can read and write.

    Raises
    ------
    ClusterError
        It belongs to another user, or is open to others.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    usable = runtime is not None and len(runtime) < 60 and os.access(runtime, os.W_OK)
    folder = Path(runtime if usable and runtime else tempfile.gettempdir()) / f"cytonet-{os.getuid()}"
    if not folder.is_symlink():
        folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ClusterError(
            f"{folder}: not a private folder of this user.", to_fix=f"remove it, or chmod 700 {folder} if it is yours"
        )
    return folder


def _remedy(message: str, host: str) -> str:
    """Say what a person can do about ssh's last message."""
    if "denied" in message or "expired" in message or "authentication failures" in message:
        return (
            f"the login was refused or has expired: load the key (ssh-add) and try `ssh {host} true`; work then goes on"
        )
    if "Host key" in message or "host key" in message or "IDENTIFICATION" in message:
        return f"log in once by hand (ssh {host}), compare the host's key with what the site publishes and accept it"
    if "resolve" in message:
        return "correct `host` in the profile, or the alias in ~/.ssh/config"
    return f"nothing if {host} is only away for a while: it is tried again; otherwise try `ssh {host} true`"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "no message from ssh"
