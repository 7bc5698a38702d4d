"""Whatever goes wrong at the server: nothing is lost, nothing doubled, and nobody else waits."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from cyrus_sync.common.errors import AuthenticationFailed, CyrusSyncError
from tests.deadlines import scaled, until
from tests.dovecot.pulling import Sidecar, message
from tests.dovecot.test_rolling_pull import flags, rolling, status
from tests.ports import free_port
from tests.pull.fake import FULL, PLAIN, Box, FakeImap
from tests.pull.test_folders import equal

Beside = Callable[[FakeImap], Sidecar]


class Once:
    """One command is answered NO, after so many others."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, command: str) -> bool:
        self.left -= 1
        return self.left == -1


@pytest.mark.parametrize("capabilities", [FULL, PLAIN])
def test_whatever_command_fails_once_the_next_pull_has_everything(capabilities: str, beside: Beside) -> None:
    """First of a pull of new folders, then of changes in all of them."""
    with FakeImap(capabilities) as server:
        sidecar = beside(server)
        server.boxes |= {"a": Box(2), "b": Box(3)}
        numbers = count()
        for at in count():
            for box in server.boxes.values():
                box.add(message(next(numbers)))
                if len(box.mails) > 4:
                    box.flag(min(box.mails), "\\Seen")
                    box.expunge(sorted(box.mails)[1])
            server.refuses = fault = Once(at)
            try:
                troubles = sidecar.fresh().pull("alice").troubles
            except CyrusSyncError as error:
                troubles = [str(error)]
            server.refuses = lambda _: False
            sidecar.fresh()
            sidecar.pull("alice")
            equal(sidecar, server)
            if fault.left >= 0:
                assert not troubles
                break
        assert at > 6


def test_a_password_that_has_changed_ends_no_pull_for_good(
    server: FakeImap, beside: Beside, tmp_path: Path
) -> None:
    server.boxes["INBOX"].add(message(1))
    sidecar = beside(server)
    passwords = tmp_path / "passwords"
    passwords.write_text("alice:old\n")
    sidecar.settings = replace(sidecar.settings, master="", password="", passwords=passwords)
    server.password = "old"
    puller = sidecar.fresh(keep=60)
    assert puller.pull("alice").messages == 1
    server.password = "new"
    server.boxes["INBOX"].add(message(2))
    assert puller.pull("alice").messages == 1, "who is logged in stays so"
    puller.sessions.close()
    server.boxes["INBOX"].add(message(3))
    with pytest.raises(AuthenticationFailed, match="login of alice refused"):
        puller.pull("alice")
    passwords.write_text("alice:new\n")
    assert puller.pull("alice").messages == 1
    equal(sidecar, server)


def test_who_is_locked_slow_or_has_a_broken_message_holds_up_nobody(server: FakeImap, tmp_path: Path) -> None:
    """Six have a message that the server does not give, which is more than a server may refuse in a row."""
    many = [f"u{number}" for number in range(6)]
    inbox, port = server.boxes["INBOX"], free_port()
    for number in range(2):
        inbox.add(message(number))
    server.bad = {2: "NO"}
    server.locked, server.holding = {"locked"}, {"slow": threading.Event()}
    conf = tmp_path / "imapd.conf"
    conf.write_text(
        f"configdirectory: {tmp_path}/conf\npartition-default: {tmp_path}/mail\nsync_source: imap\n"
        f"imap_host: 127.0.0.1\nimap_port: {server.port}\nimap_tls: no\nimap_master_user: m\n"
        "imap_password: p\nimap_sieve_port: 0\nimap_connections: 3\n"
        f"imap_users: slow locked {' '.join(many)}\nimap_events_listen: {port}\n"
    )
    aside = tmp_path / "conf" / "sync" / "pull" / "quarantine.yaml"
    with rolling(conf):
        until(lambda: _names(aside, "locked", *many), "who has trouble is set aside", 60, 0.1)
        assert [len(flags(conf, user)) for user in ("slow", "u0", "u5")] == [0, 1, 1]
        inbox.add(message(3))
        _tell(port, "u5")
        until(lambda: len(flags(conf, "u5")) == 2, "what is told of is here", every=0.1)
        said = status(conf)
        assert "set aside: 7" in said and "login of locked refused" in said and "uid 2 is left out" in said
        server.locked, server.bad = set(), {}
        server.holding["slow"].set()

        def all_are_here() -> bool:
            # All of them are tried at once; whoever fails just now, a moment later.
            aside.unlink(missing_ok=True)
            return all(len(flags(conf, one)) == 3 for one in ("slow", "locked", *many))

        until(all_are_here, "everybody is here", 60, 0.3)


def _names(listing: Path, *names: str) -> bool:
    text = listing.read_text() if listing.exists() else ""
    return all(name in text for name in names)


def _tell(port: int, user: str) -> None:
    event = json.dumps({"user": user, "event": "messageNew", "folder": "INBOX"}).encode()
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=scaled(20))
    line.request("POST", "/", event)
    line.getresponse().read()
    line.close()
