"""A store of its own for each test, and the command in-process."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.model import MailboxState, Record
from cyrus_sync.common.names import owner_of
from cyrus_sync.common.stores import open_store
from cyrus_sync.common.synclog.lines import parse_lines
from cyrus_sync.mailstore.cli import main
from tests.mailstore.past import time_goes_by
from tests.reactors import new_reactor

MESSAGE = b"From: a@example.org\r\nSubject: hello\r\n\r\nhi\r\n"


class Result(NamedTuple):
    status: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode("utf-8", "surrogateescape")

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Site:
    """One configuration with an empty store."""

    def __init__(self, path: Path, extra: str = "") -> None:
        self.path = path
        self.conf = path / "imapd.conf"
        self.conf.write_text(
            f"configdirectory: {path}/conf\npartition-default: {path}/spool\npartition-other: {path}/other\n"
            f"servername: test.example\nsync_log: yes\n{extra}"
        )

    def run(self, *argv: str, stdin: bytes = b"") -> Result:
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        err = io.StringIO()
        status = main(["-C", str(self.conf), *argv], stdin=io.BytesIO(stdin), stdout=out, stderr=err)
        return Result(status, out.buffer.getvalue(), err.getvalue())  # type: ignore[attr-defined]

    def ok(self, *argv: str, stdin: bytes = b"") -> Result:
        """As `run`, for what must succeed."""
        result = self.run(*argv, stdin=stdin)
        assert result.status == 0, result.err + result.out
        return result

    def config(self) -> Config:
        return Config.load(self.conf, "mailstore")

    def mailboxes(self, name: str) -> list[str]:
        """Names of the mailboxes of the owner of `name`."""
        store = open_store(self.config(), readonly=True)
        try:
            with store.read(owner_of(name)) as reader:
                return [mailbox.name for mailbox in reader.mailboxes()]
        finally:
            store.close()

    def mailbox(self, name: str) -> MailboxState:
        store = open_store(self.config(), readonly=True)
        try:
            with store.read(owner_of(name)) as reader:
                found = reader.mailbox(name)
                assert found is not None
                return found
        finally:
            store.close()

    def records(self, name: str, *, expunged: bool = False) -> list[Record]:
        store = open_store(self.config(), readonly=True)
        try:
            with store.read(owner_of(name)) as reader:
                mailbox = reader.mailbox(name)
                assert mailbox is not None
                return [r for b in reader.records(mailbox.uniqueid) for r in b if r.expunged == expunged]
        finally:
            store.close()

    def log(self) -> list[tuple[str, ...]]:
        """The action log since it was last looked at."""
        path = self.path / "conf" / "sync" / "log"
        if not path.exists():
            return []
        lines = [(line.type, *line.args) for line in parse_lines(path.read_bytes())]
        path.unlink()
        return lines

    def deliver(self, user: str, count: int = 1, *argv: str) -> None:
        for number in range(count):
            self.ok("deliver", user, *argv, stdin=MESSAGE + b"number %d\r\n" % number)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def alice(site: Site) -> Iterator[Site]:
    """A site with a user alice, her folder Work, and nothing in the log."""
    site.ok("create", "user/alice", "user/alice/Work")
    site.log()
    yield site


def later(site: Site, seconds: int, user: str = "alice", *, dated: bool = False) -> None:
    """Let what was done so far have been done so much earlier. `dated`: what is dumped says so, too."""
    time_goes_by(site.path, seconds, user, dated=dated)


@pytest.fixture(autouse=True)
def _a_reactor_for_each_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in the process of the tests, and a reactor runs once."""
    monkeypatch.setattr("cyrus_sync.mailstore.reactor.installed", new_reactor)
