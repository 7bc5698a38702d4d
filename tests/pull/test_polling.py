"""A poll of everybody comes into the log in portions."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.machine import RollingState
from cyrus_sync.sync_client.pull_polling import NEARLY, PORTION, Polling
from tests.deadlines import scaled, until
from tests.interop.ours import environment
from tests.pull.fake import FakeImap

MANY = [f"u{number:04}" for number in range(3 * PORTION)]


class Site:
    """Stands for `PullLog` and for the rolling loop, which work on `written`."""

    def __init__(self, users: Sequence[str]) -> None:
        self.users = list(users)
        self.written: list[str] = []
        self.portions: list[int] = []
        self.full = False
        self.aside: set[str] = set()
        self.clock = Clock()
        self.state = RollingState.RUNNING
        self.source = SimpleNamespace(pending=lambda: False)
        threads: Any = SimpleNamespace(run=maybeDeferred)
        reactor = SimpleNamespace(
            seconds=self.clock.seconds,
            callLater=self.clock.callLater,
            addSystemEventTrigger=lambda *_: None,
        )
        self.polling = Polling(cast(Any, reactor), threads, threads, cast(Any, self), 86400)
        self.polling.begin(None, cast(Any, self), lambda owner: owner.name in self.aside)

    def poll(self) -> list[str]:
        return self.users

    def to_poll(self, userids: list[str]) -> list[str]:
        return userids

    def whole(self, userids: Sequence[str]) -> None:
        if self.full:
            raise StoreError("No space left on device")
        self.written += userids
        self.portions.append(len(userids))

    def look_at(self, count: int) -> list[str]:
        """Pulls of so many begin, in the order of their lines."""
        begun, self.written = self.written[:count], self.written[count:]
        for userid in begun:
            self.polling.begun(Owner("user", userid))
        return begun


@pytest.mark.covers("imapd.conf", "imap_poll")
def test_the_next_portion_of_a_poll_comes_when_the_last_one_is_nearly_done() -> None:
    site = Site(MANY)
    assert site.written == MANY[:PORTION] and site.polling.left == len(MANY)
    begun = site.look_at(PORTION - NEARLY - 1)
    assert site.portions == [PORTION]
    begun += site.look_at(1)
    assert site.portions == [PORTION, PORTION]
    assert site.polling.left == len(MANY) - len(begun)
    while site.written:
        assert len(site.written) <= PORTION + NEARLY
        begun += site.look_at(10)
    assert begun == MANY and site.polling.left == 0


def test_who_is_left_of_a_poll_is_first_when_the_next_one_begins() -> None:
    site = Site(MANY)
    site.look_at(PORTION - NEARLY)
    site.users = [*MANY[:-1], "new"]
    site.polling.look()
    begun = []
    while site.written:
        begun += site.look_at(10)
    left = MANY[PORTION - NEARLY : -1]
    assert begun == [*left, *MANY[: PORTION - NEARLY], "new"]


def test_users_who_are_set_aside_stop_no_poll() -> None:
    site = Site(MANY)
    site.aside = set(MANY[:PORTION])
    site.look_at(1)
    assert site.portions == [PORTION, PORTION]
    # Of others nobody will begin a pull, either, once the log is empty: a name that no store keeps.
    site.look_at(PORTION)
    assert site.portions == [PORTION, PORTION]
    site.state = RollingState.IDLE
    site.clock.advance(1)
    assert site.portions == [PORTION, PORTION, PORTION]


def test_a_portion_that_cannot_be_written_is_tried_again() -> None:
    site = Site(MANY)
    site.full = True
    site.look_at(PORTION)
    site.clock.advance(30)
    assert site.portions == [PORTION] and site.polling.left == len(MANY) - PORTION
    site.full = False
    site.clock.advance(30)
    assert site.written == MANY[PORTION : 2 * PORTION]


SMALL_PORTIONS = """
import sys
from cyrus_sync.sync_client import cli, pull_polling
pull_polling.PORTION, pull_polling.NEARLY = 3, 1
sys.argv[0] = "sync_client"
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_client_that_is_killed_in_a_poll_begins_it_again(server: FakeImap, tmp_path: Path) -> None:
    conf, pull = tmp_path / "imapd.conf", tmp_path / "conf" / "sync" / "pull"
    (tmp_path / "users").write_text("".join(f"{user}\n" for user in MANY[:8]))
    conf.write_text(
        f"configdirectory: {tmp_path}/conf\npartition-default: {tmp_path}/mail\nsync_source: imap\n"
        f"imap_host: 127.0.0.1\nimap_port: {server.port}\nimap_tls: no\nimap_master_user: m\n"
        f"imap_password: p\nimap_sieve_port: 0\nimap_users: {tmp_path}/users\nimap_connections: 2\n"
    )
    conf.chmod(0o600)

    def command(*words: str) -> list[str]:
        return [sys.executable, "-c", SMALL_PORTIONS, "-C", str(conf), *words]

    def started() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command("-R", "-d", "1"), stdin=subprocess.DEVNULL, env=environment())

    def status() -> str:
        words = command("--status", "-n", "pull")
        return subprocess.run(
            words, check=False, capture_output=True, text=True, env=environment(), timeout=scaled(30)
        ).stdout

    def to_poll() -> int | None:
        try:
            left: int | None = json.loads((pull / "status.json").read_text()).get("users_to_poll")
        except (OSError, ValueError):
            return None
        return left

    goes_on = server.holding["INBOX"] = threading.Event()
    client = started()
    try:
        until(lambda: to_poll() == 7, "a pull of the first one has begun")
        assert "users to poll: 7" in status()
        client.send_signal(signal.SIGHUP)
        until(lambda: to_poll() == 8, "everybody is polled anew")
    finally:
        client.kill()
        client.wait()
    goes_on.set()
    client = started()
    try:
        until(lambda: len(list((tmp_path / "conf" / "pull").rglob("*.db"))) == 8, "everybody is pulled")
        until(lambda: to_poll() == 0, "the poll is over")
    finally:
        client.terminate()
        client.wait()
