"""The command that starts the Dagster UI, and ends it with all that belongs to it."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from types import FrameType
from typing import Annotated

import typer

from cytonet_pipeline.cli.app import app
from cytonet_pipeline.cli.console import out
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings, project_file, project_folder

# Where to begin: the start page shows the runs of the last hours only.
PAGES = {"asset graph": "/asset-groups", "runs": "/runs", "automation": "/automation"}
# What a web server, a daemon and a code server may take to end.
_GRACE_S = 10.0


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port of the web server.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on; the web server has no login.")] = "127.0.0.1",
) -> None:
    """Start the Dagster UI and its daemon on the same instance as `cytonet run`."""
    from cytonet_pipeline.defs.instance import dagster_home, open_instance
    from cytonet_pipeline.learning import PATH_ENVIRONMENT

    _require_free_port(host, port)
    settings = Settings.from_environment()
    home = dagster_home(settings.store)
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    open_instance(settings.store).dispose()
    address = f"http://{host}:{port}"
    out.print(f"{address}  (instance in {home}; stop with Ctrl-C)", soft_wrap=True)
    for what, path in PAGES.items():
        out.print(f"{what:<12}{address}{path}", soft_wrap=True)
    # The code server may start in another folder: what the settings are here, they are there.
    os.environ.update({**settings.environment(), **PATH_ENVIRONMENT})
    workspace = project_file("workspace.yaml")
    os.chdir(project_folder())
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(workspace), "-h", host, "-p", str(port)]
    raise typer.Exit(_run_until_stopped(command))


def _run_until_stopped(command: list[str]) -> int:
    """Run a command; after Ctrl-C, SIGTERM or SIGHUP end it with all that it has started, and return its exit code.

    `dagster dev` stops its web server, daemon and code server after SIGINT, and leaves them running after SIGTERM.
    """
    process = subprocess.Popen(command, start_new_session=True)

    def stop(number: int, frame: FrameType | None) -> None:
        _signal(process, signal.SIGINT)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    code = process.wait()
    # Its own children end a moment later, or not at all.
    deadline = time.monotonic() + _GRACE_S
    while _signal(process, 0):
        if time.monotonic() > deadline:
            _signal(process, signal.SIGKILL)
            break
        time.sleep(0.1)
    return code


def _signal(process: "subprocess.Popen[bytes]", number: int) -> bool:
    """Send a signal to a process and all that belong to its group; tell whether there was one."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def _require_free_port(host: str, port: int) -> None:
    """Refuse an address that the web server could not listen on, before Dagster fails of it in the background."""
    try:
        _listen(host, port)
    except (OSError, OverflowError) as error:
        if not isinstance(error, OSError) or error.errno != errno.EADDRINUSE:
            raise ConfigurationError(
                f"{host}:{port}: cannot be listened on ({error}).",
                to_fix="cytonet ui --host ADDRESS --port PORT, with an address of this machine and a port from 1024 on",
            ) from error
        raise ConfigurationError(
            f"{host}:{port}: in use, by another UI or another program.",
            to_fix=f"open http://{host}:{port} if it is yours, or: cytonet ui --port {_next_free(host, port)}",
        ) from error


def _next_free(host: str, port: int) -> int:
    for candidate in range(port + 1, min(port + 100, 65536)):
        try:
            _listen(host, candidate)
        except OSError:
            continue
        return candidate
    return 0


def _listen(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as server:
        # As the web server does: a port whose last connections are still closing is free.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, port))
        server.listen(1)
