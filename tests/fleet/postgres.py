"""A real PostgreSQL of our own: in a temporary directory, on loopback, ended by its pid.

Debian keeps its programs in a directory that is not on PATH. A server refuses to run as root, so root's
tests run it as the user whom Debian made for it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.deadlines import scaled, until
from tests.ports import free_port

_PLACES = Path("/usr/lib/postgresql")
_USER = "postgres"


def programs() -> Path | None:
    """Where the newest PostgreSQL's programs are."""
    found = [path for path in _PLACES.glob("*/bin") if (path / "initdb").exists()]
    return max(found, key=lambda path: int(path.parent.name), default=None)


def why_unavailable() -> str:
    """Why there is none; "" if there is."""
    if programs() is None:
        return "PostgreSQL is not installed (Debian: postgresql-15)"
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        return str(error)
    return ""


class Postgres:
    """One server, with its files in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> Postgres:
        """The files of an empty server."""
        self.run(
            "initdb", "-D", self.data, "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync", "--no-locale"
        )
        return self

    def run(self, program: str, *arguments: object) -> str:
        """Run one of PostgreSQL's programs to its end."""
        where = programs()
        assert where is not None
        done = subprocess.run(
            [where / program, *map(str, arguments)], capture_output=True, text=True, cwd=self.directory,
            timeout=scaled(60), check=False, **_who(),
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *settings: str) -> None:
        until(lambda: self._starts(settings), "nobody of an earlier one holds its memory", 30)

    def _starts(self, settings: Sequence[str]) -> bool:
        """False where somebody whom it forked just before it was killed has not ended yet."""
        where = programs()
        assert where is not None
        options = ["-p", str(self.port), "-k", str(self.directory), "-h", "127.0.0.1"]
        for setting in (*_CHEAP, *settings):
            options += ["-c", setting]
        log = self.directory / "log"
        before = log.stat().st_size if log.exists() else 0
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [where / "postgres", "-D", self.data, *options],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=self.directory, **_who(),
            )  # fmt: skip
        until(lambda: self._answers() or self._process.poll() is not None, "PostgreSQL answers", 30)
        if self._process.poll() is None:
            return True
        said = log.read_bytes()[before:]
        assert b"pre-existing shared memory block" in said, log.read_text()
        return False

    def _answers(self) -> bool:
        import psycopg

        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url("postgres")):
            return True
        return False

    def url(self, database: str) -> str:
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """The address of a database in which there is nothing: a schema of its own, which is made in no
        time."""
        import psycopg

        name = f"t{secrets.token_hex(6)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{self.url('postgres')}?options=-csearch_path%3D{name}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self, how: int = signal.SIGQUIT) -> None:
        """SIGINT is orderly, SIGQUIT at once. SIGKILL is a crash: its children end by themselves, and before
        that nobody may start it again."""
        if self._process is None:
            return
        children = [int(pid) for pid in _children(self.pid)]
        for pid in (*children, self.pid):  # who is stopped ends nothing
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._process.send_signal(how)
        self._process.wait(scaled(30))
        self._process = None
        until(lambda: not any(map(_runs, children)), "its children have ended")


def _children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []


def _runs(pid: int) -> bool:
    """Whether it has not ended; one of whose end nobody was told yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


DURABLE = ("fsync=on", "autovacuum=on", "shared_buffers=256MB", "max_wal_size=4GB", "max_connections=100")
"""For `Postgres.start`: as a site has it."""

_CHEAP = (
    "fsync=off",  # no test takes power away
    "shared_buffers=16MB",
    "max_connections=60",
    "autovacuum=off",
    "log_min_messages=fatal",
)


def _who() -> dict[str, object]:
    return {"user": _USER, "group": _USER, "extra_groups": []} if os.geteuid() == 0 else {}


@contextlib.contextmanager
def new_postgres(*, empty: bool = False, below: Path | None = None) -> Iterator[Postgres]:
    """A server whose files are made (unless it is to be `empty`: a standby), and which is not started; it is
    ended and removed afterwards. Its files are in memory, or `below` a directory."""
    memory = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="cyrus-sync-postgres-", dir=below or memory))
    if os.geteuid() == 0:
        entry = pwd.getpwnam(_USER)
        os.chown(directory, entry.pw_uid, entry.pw_gid)
    server = Postgres(directory)
    try:
        yield server if empty else server.make()
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
