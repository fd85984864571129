"""Accounting for the throw-away Slurm: a private MariaDB and slurmdbd. sacct answers, and accounts are checked."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from cytonet_pipeline_tests.cluster.processes import PATH, daemon, end, free_ports, until

PROGRAMS = ("slurmdbd", "mariadbd", "mariadb", "mariadb-install-db")

_CONF = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm_acct_db
"""
_FOR_SLURM = """AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations
"""


class Accounting:
    """slurmdbd and its database in the folder of a cluster, whose munged runs already."""

    def __init__(self, folder: Path, user: str) -> None:
        self.folder = folder
        self.user = user
        self.port = free_ports(1)[0]

    @staticmethod
    def missing() -> list[str]:
        """List the programs that this machine lacks."""
        return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]

    @property
    def lines(self) -> str:
        """Lines that slurm.conf needs for it."""
        return _FOR_SLURM.format(folder=self.folder, port=self.port)

    def start(self) -> None:
        """Make the database and start both daemons."""
        data, place = self.folder / "db", self.folder / "run" / "mysql.sock"
        made = ["mariadb-install-db", "--no-defaults", f"--user={self.user}", f"--datadir={data}", "--skip-test-db"]
        self._run(*made, "--auth-root-authentication-method=normal")
        with (self.folder / "log" / "mariadbd.log").open("ab") as log:
            self._database = subprocess.Popen(
                [
                    *("mariadbd", "--no-defaults", f"--user={self.user}", f"--datadir={data}", f"--socket={place}"),
                    *(f"--pid-file={self.folder}/run/mariadbd.pid", "--skip-networking"),
                    *("--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0"),
                ],
                env=self._variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(lambda: self._sql("select 1") == 0, 60)
        for statement in (
            "create database slurm_acct_db",
            "create user 'slurm'@'localhost' identified by ''",
            "grant all on slurm_acct_db.* to 'slurm'@'localhost'",
        ):
            self._sql(statement)
        conf = self.folder / "slurmdbd.conf"
        host = socket.gethostname().partition(".")[0]
        conf.write_text(_CONF.format(folder=self.folder, host=host, port=self.port, user=self.user))
        conf.chmod(0o600)
        (self.folder / "my.cnf").write_text(f"[client]\nsocket={place}\n")
        self.start_daemon()

    def start_daemon(self) -> None:
        """Start slurmdbd, also again after `stop_daemon`."""
        place = self.folder / "run" / "mysql.sock"
        variables = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        daemon("slurmdbd", variables={**variables, "MYSQL_UNIX_PORT": str(place), "MYSQL_HOME": str(self.folder)})
        until(self._listens, 30)

    def stop_daemon(self) -> None:
        """Stop slurmdbd: sacct fails until `start_daemon`."""
        end(self.folder / "run" / "slurmdbd.pid")

    def stop(self) -> None:
        """Stop both."""
        self.stop_daemon()
        if hasattr(self, "_database"):
            self._database.send_signal(signal.SIGTERM)
            self._database.wait(30)

    @property
    def _variables(self) -> dict[str, str]:
        # Two databases would mix up their temporary tables.
        return {**os.environ, "PATH": PATH, "TMPDIR": str(self.folder / "run")}

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _sql(self, statement: str) -> int:
        place = self.folder / "run" / "mysql.sock"
        return self._run("mariadb", "--no-defaults", "-uroot", "-S", str(place), "-e", statement, check=False)

    def _run(self, *command: str, check: bool = True) -> int:
        ran = subprocess.run(command, env=self._variables, capture_output=True, stdin=subprocess.DEVNULL, timeout=120)
        if check and ran.returncode:
            raise RuntimeError(f"{' '.join(command)}: {ran.stdout.decode()}{ran.stderr.decode()}")
        return ran.returncode
