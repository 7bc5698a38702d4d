"""A sync_server process of our own for tests: its own directory, a free port and a UNIX socket.

Everything lies below ``base/a/b/c``, so that a path that climbs out of the store still lands where
`strange_files` sees it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from tests.deadlines import scaled
from tests.ports import free_port
from tests.walking import files_below

ADMIN = "repl"
PASSWORD = "s3cret"
USER = "alice"
READY_SECONDS = 30.0

_WITHOUT_COLLECTOR = (
    "import gc, sys; gc.disable(); from cyrus_sync.sync_server.cli import main; sys.exit(main())"
)


def plain(user: str, password: str) -> bytes:
    """An AUTHENTICATE PLAIN command, with its line end."""
    return b"AUTHENTICATE PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()) + b"\r\n"


class RunningServer:
    """`with RunningServer(tmp_path) as server: …`; ended by its process id, whatever happens."""

    def __init__(
        self,
        base: Path,
        *,
        options: dict[str, str] | None = None,
        arguments: Iterable[str] = (),
        failed_login_pause: int = 3,
        file_size_limit: int | None = None,
        open_files: tuple[int, int] | None = None,
        spool: Path | None = None,
        collector: bool = True,
    ) -> None:
        """`open_files`: the soft and the hard limit.
        `collector`: whether Python collects cyclic garbage in it. Without, what a cycle holds stays."""
        self.base = base
        self.root = base / "a" / "b" / "c"
        self.spool = spool or self.root / "spool"
        self.config = self.root / "imapd.conf"
        self.log = self.root / "log"
        self.port = 0
        self._connections = 0
        self.socket_path = str(self.root / "s")
        self.process: subprocess.Popen[bytes] | None = None
        self._arguments = list(arguments)
        self._file_size_limit = file_size_limit
        self._open_files = open_files
        self._program = ["-m", "cyrus_sync.sync_server.cli"] if collector else ["-c", _WITHOUT_COLLECTOR]
        self._options = {
            "configdirectory": str(self.root / "conf"),
            "partition-default": str(self.spool),
            "servername": "replica.test",
            "admins": ADMIN,
            "allowplaintext": "yes",
            "failedloginpause": str(failed_login_pause),
            "sync_passwd_file": str(self.root / "passwd"),
        } | (options or {})

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True, exist_ok=True)
        passwords = PasswordFile(self.root / "passwd")
        passwords.set_password(ADMIN, PASSWORD)
        passwords.set_password(USER, PASSWORD)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    # -- the process

    def start(self) -> None:
        """Start and wait until it listens. May be called again after `kill` or `stop`."""
        self.port = free_port()
        own = {"sync_listen": f"127.0.0.1:{self.port} {self.socket_path}"}
        lines = [f"{key}: {value}\n" for key, value in (self._options | own).items()]
        self.config.write_text("".join(lines))
        command = [sys.executable, *self._program, "-C", str(self.config), "-e", *self._arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.root,
                preexec_fn=self._limit if self._file_size_limit or self._open_files else None,  # noqa: PLW1509
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            )
        began = time.monotonic()
        while time.monotonic() - began < scaled(READY_SECONDS):
            if self.process.poll() is not None:
                raise RuntimeError(f"sync_server ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                for trusted in (False, True):
                    with self.connect(trusted=trusted) as line:
                        line.recv(1)  # it greets: it is running, and knows what signals mean
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"sync_server does not listen:\n{self.log_tail()}")

    def _limit(self) -> None:
        import resource

        if self._file_size_limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._file_size_limit, resource.RLIM_INFINITY))
        if self._open_files:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._open_files)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, if it still runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM; the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds: float = 20.0) -> int:
        assert self.process is not None
        return self.process.wait(scaled(seconds))

    # -- talking to it

    def connect(self, *, trusted: bool = False, seconds: float = 20.0) -> socket.socket:
        """A TCP connection from a loopback address of its own, or one to the UNIX socket."""
        if trusted:
            line = socket.socket(socket.AF_UNIX)
            line.settimeout(scaled(seconds))
            line.connect(self.socket_path)
            return line
        self._connections += 1
        high, low = divmod(self._connections % 60000 + 300, 250)
        source = (f"127.1.{high}.{low + 1}", 0)
        return socket.create_connection(("127.0.0.1", self.port), scaled(seconds), source)

    def talk(self, commands: Iterable[bytes], *, seconds: float = 20.0) -> bytes:
        """All commands at once, then EXIT; everything that was said after the greeting's last line."""
        with self.connect(trusted=True, seconds=seconds) as line:
            line.sendall(b"".join(command + b"\r\n" for command in commands) + b"EXIT\r\n")
            heard = b""
            while data := line.recv(1 << 16):
                heard += data
        return heard.partition(b"\r\n")[2]

    # -- looking at it

    def check_alive(self) -> None:
        """AssertionError if it has ended, or logged something that nobody had foreseen."""
        assert self.process is not None
        assert self.process.poll() is None, f"ended with {self.process.returncode}\n{self.log_tail()}"
        text = self.log.read_bytes()
        for word in (b"Traceback", b"unexpected ", b"internal error", b"Unhandled"):
            assert word not in text, text[max(0, text.index(word) - 500) :][:4000].decode("utf-8", "replace")

    def peak_rss_kb(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    def strange_files(self) -> list[str]:
        """Files outside the directories of store and configuration."""
        own = {self.config, self.log, self.root / "passwd", Path(self.socket_path)}
        allowed = (self.root / "conf", self.spool)
        found = []
        for path in files_below(self.base):
            if path in own or any(path.is_relative_to(place) for place in allowed):
                continue
            if path.parent == self.root and path.name.startswith("passwd"):
                continue
            found.append(str(path))
        return found

    def log_tail(self, lines: int = 40) -> str:
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


# -- commands


def sha1_hex(message: bytes) -> bytes:
    """The GUID of a message, as on the wire."""
    return hashlib.sha1(message).hexdigest().encode()


def upload(*messages: bytes, partition: bytes = b"default") -> bytes:
    """APPLY MESSAGE"""
    files = [b"%%{%s %s %d}\r\n%s" % (partition, sha1_hex(each), len(each), each) for each in messages]
    return b"APPLY MESSAGE (" + b" ".join(files) + b")"


def record(uid: int, message: bytes, modseq: int = 2, flags: bytes = b"") -> bytes:
    """An item of RECORD."""
    return (
        b"%%(UID %d MODSEQ %d LAST_UPDATED 1700000000 FLAGS (%s) INTERNALDATE 1600000000 SIZE %d GUID %s)"
    ) % (uid, modseq, flags, len(message), sha1_hex(message))


def mailbox(
    name: bytes,
    uniqueid: bytes,
    messages: Sequence[bytes] = (),
    *,
    first: int = 1,
    highestmodseq: int = 3,
    notes: Iterable[tuple[bytes, bytes]] = (),
    extra: bytes = b"",
    records: bytes | None = None,
) -> bytes:
    """APPLY MAILBOX of `messages` with uids from `first` on, without CRCs."""
    if records is None:
        records = b" ".join(record(uid, each) for uid, each in enumerate(messages, first))
    annotations = b" ".join(
        b'%%(ENTRY %s USERID "" MODSEQ 0 VALUE "%s")' % (entry, value) for entry, value in notes
    )
    owner = name.split(b".")[1] if b"." in name else b"anyone"
    return (
        b"APPLY MAILBOX %%(UNIQUEID %s MBOXNAME %s LAST_UID %d HIGHESTMODSEQ %d RECENTUID 0 RECENTTIME 0 "
        b"LAST_APPENDDATE 1700000000 POP3_LAST_LOGIN 0 POP3_SHOW_AFTER 0 UIDVALIDITY 1700000000 "
        b'PARTITION default ACL "%s\tlrswipkxtecdan\t" OPTIONS P CREATEDMODSEQ 1 FOLDERMODSEQ 1%s%s '
        b"RECORD (%s))"
    ) % (
        uniqueid,
        name,
        max(0, first + len(messages) - 1),
        highestmodseq,
        owner,
        b" ANNOTATIONS (%s)" % annotations if annotations else b"",
        extra,
        records,
    )
