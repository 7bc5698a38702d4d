"""An installation of our own: a store, a sync_server as a process, and our commands run as processes.

The same shape as `cyrus.Cyrus`, so that a test or a benchmark can put either on either end.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from cyrus_sync.common.config import Config
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from tests.deadlines import scaled, until
from tests.ports import free_port

from .cyrus import ADMIN, PASSWORD, Address, write_client_config
from .running import Finished, Rolling, default_ground, dying_with_us, finish

BIN = Path(sys.executable).parent


def environment() -> dict[str, str]:
    """For our commands: output at once, and compiled modules kept, or every start compiles them anew."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONUNBUFFERED": "1"}


class Ours:
    """One installation of cyrus-sync. `settings` are lines of imapd.conf that replace or join the usual."""

    def __init__(self, root: Path, name: str, settings: dict[str, str] | None = None) -> None:
        self.root = root
        self.name = name
        self.port = free_port()
        self.config = root / "imapd.conf"
        self.server: subprocess.Popen[bytes] | None = None
        self._clients = 0
        self._rolling: list[Rolling] = []
        for directory in ("conf", "mail"):
            (root / directory).mkdir(exist_ok=True)
        options = {
            "configdirectory": f"{root}/conf",
            "defaultpartition": "default",
            "partition-default": f"{root}/mail",
            "servername": f"{name}.lab",
            "admins": ADMIN,
            "unixhierarchysep": "yes",
            "allowplaintext": "yes",
            "sasl_pwcheck_method": "auxprop",
            "sync_log": "1",
            "sync_listen": f"127.0.0.1:{self.port} {root}/conf/csync.socket",
            "failedloginpause": "0",
        }
        options.update(settings or {})
        for key, value in options.items():
            if key.startswith("partition-"):
                Path(value).mkdir(parents=True, exist_ok=True)
        self.config.write_text("".join(f"{key}: {value}\n" for key, value in options.items()))
        self.config.chmod(0o600)
        PasswordFile(root / "conf" / "sync_passwd").set_password(ADMIN, PASSWORD)

    @classmethod
    @contextmanager
    def installed(
        cls,
        name: str,
        settings: dict[str, str] | None = None,
        *,
        serving: bool = True,
        ground: Path | None = None,
    ) -> Iterator[Ours]:
        """An installation in a new directory, its sync_server started (if `serving`); then gone."""
        root = Path(tempfile.mkdtemp(prefix=f"ours-{name}-", dir=ground or default_ground()))
        try:
            ours = cls(root, name, settings)
            try:
                if serving:
                    ours.start()
                yield ours
            finally:
                ours.stop()
        finally:
            shutil.rmtree(root, ignore_errors=True)

    # -- life

    def start(self, *args: str) -> None:
        """Start sync_server and wait until it listens."""
        assert self.server is None
        with self.log.open("ab") as output:
            self.server = subprocess.Popen(
                [*dying_with_us(), str(BIN / "sync_server"), "-e", "-C", str(self.config), *args],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=environment(),
            )
        until(self._accepts, "our sync_server listens")

    def _accepts(self) -> bool:
        assert self.server is not None
        if self.server.poll() is not None:
            raise AssertionError(f"our sync_server ended:\n{self.log.read_text()}")
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=scaled(2)).close()
        except OSError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """End the rolling clients and sync_server; the status that the server ended with."""
        for client in self._rolling:
            client.stop()
        self._rolling.clear()
        store = self.__dict__.pop("store", None)
        if store is not None:
            store.close()
        if self.server is None:
            return None
        self.server.send_signal(how)
        try:
            status = self.server.wait(scaled(15))
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()
            raise AssertionError(f"our sync_server did not end:\n{self.log.read_text()}") from None
        finally:
            self.server = None
        return status

    @property
    def log(self) -> Path:
        """What sync_server wrote on its stderr."""
        return self.root / "server.log"

    @property
    def csync(self) -> Address:
        return ("127.0.0.1", self.port)

    @property
    def sync_log(self) -> Path:
        return self.root / "conf" / "sync" / "log"

    @cached_property
    def store(self) -> MailStore:
        """The store, opened in this process: to fill it and to look into it."""
        from cyrus_sync.common.stores import open_store

        return open_store(Config.load(self.config, program="mailstore"))

    # -- our programs

    def mailstore(self, *args: str, stdin: bytes = b"", timeout: float = 120) -> Finished:
        return self._run([str(BIN / "mailstore"), "-C", str(self.config), *args], timeout, stdin)

    def dump(self, *users: str) -> str:
        """The canonical text of what the store holds of these users (of everybody)."""
        return self.mailstore("dump", *users).check().out

    def verify(self, *users: str) -> None:
        """The store agrees with itself: GUIDs, CRCs, quota usage, index."""
        self.mailstore("verify", *users).check()

    def _run(self, command: list[str], timeout: float, stdin: bytes = b"") -> Finished:
        return finish(command, timeout, {"env": environment()}, stdin)

    def client_config(self, to: Address, extra: dict[str, str] | None = None) -> Path:
        """An imapd.conf for our sync_client: this installation's, and whom to talk to."""
        self._clients += 1
        path = self.root / f"client{self._clients}.conf"
        write_client_config(path, self.config, to, {"sync_allowplaintext": "yes", **(extra or {})})
        path.chmod(0o600)  # there is a password in it
        return path

    def sync_client(
        self, *args: str, to: Address, extra: dict[str, str] | None = None, timeout: float = 120
    ) -> Finished:
        """One run of our sync_client towards the csync server at `to`."""
        conf = self.client_config(to, extra)
        return self._run([str(BIN / "sync_client"), "-C", str(conf), "-o", *args], timeout)

    def roll(self, *args: str, to: Address, extra: dict[str, str] | None = None) -> Rolling:
        """Start a rolling sync_client (``-R``) and leave it running."""
        conf = self.client_config(to, extra)
        command = [str(BIN / "sync_client"), "-C", str(conf), "-R", "-v", *args]
        rolling = Rolling(
            [*dying_with_us(), *command], self.root / f"rolling{self._clients}.out", env=environment()
        )
        self._rolling.append(rolling)
        return rolling
