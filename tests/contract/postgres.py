"""A PostgreSQL server of the tests' own: in a temporary folder, on a Unix socket, as nobody else's.

Debian's package is `postgresql`; without it there is none, and the tests say so.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path


def programs():
    """Find the folder of the newest server's programs, None where there is no server."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return found[-1].parent if found else None


class Postgres:
    """A running server; `url` gives a new and empty database."""

    def __init__(self):
        self._folder = Path(tempfile.mkdtemp(prefix="hpcimg-postgres-"))
        self._numbers = itertools.count()
        self._account = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(self._folder, "postgres", "postgres")
        self._cluster = self._folder / "cluster"
        self._run("initdb", "-D", self._cluster, "-A", "trust", "-N", "-E", "UTF8")
        self.start()

    def url(self):
        """Make a database, and give its URL."""
        name = f"hub{next(self._numbers)}"
        self._run("createdb", "-h", self._folder, name)
        return f"postgresql://{self._account}@/{name}?host={self._folder}"

    def close(self):
        """End the server, and leave nothing."""
        self.stop()
        shutil.rmtree(self._folder)

    def stop(self):
        """End the server alone, as one that fails."""
        self._run("pg_ctl", "-D", self._cluster, "-m", "immediate", "stop")

    def start(self):
        """Begin again with what there was."""
        options = f"-k {self._folder} -c listen_addresses= -c fsync=off -c max_connections=200"
        log = self._folder / "log"
        self._run("pg_ctl", "-D", self._cluster, "-w", "-l", log, "-o", options, "start")

    def _run(self, program, *words):
        command = [str(programs() / program), *map(str, words)]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]
        # The server lives on: it must not hold the pipes of who started it.
        with (self._folder / "said").open("w") as said:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/", check=False
            )
        assert done.returncode == 0, (self._folder / "said").read_text()
