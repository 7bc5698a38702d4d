"""A real rolling sync_client, fed by the real daemons' own sync log, towards our sync_server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cyrus_sync.common.names import Owner
from tests.deadlines import until

from .csync import differences, state_of
from .cyrus import Cyrus, follow_log
from .fill import change_everything, fill_everything, message
from .judge import Server, server_under_test
from .proxy import Proxy


@pytest.fixture(scope="module")
def server(real_cyrus: None) -> Iterator[Server]:
    """The replica, shared by the tests of this module."""
    with server_under_test("replica") as replica:
        yield replica


def same(master: Cyrus, server: Server, *users: str) -> None:
    for user in users:
        assert differences(state_of(master.csync, user), state_of(server.csync, user)) == []


@pytest.mark.every_release
def test_what_the_daemons_log_is_enough(fresh_master: Cyrus, server: Server, user: str) -> None:
    other = f"{user}b"
    fill_everything(fresh_master, user, other)
    follow_log(fresh_master, server.csync)
    same(fresh_master, server, user, other)
    change_everything(fresh_master, user, other)
    follow_log(fresh_master, server.csync)
    same(fresh_master, server, user, other)


@pytest.mark.every_release
def test_a_user_is_renamed(fresh_master: Cyrus, server: Server, user: str) -> None:
    new = f"{user}new"
    fresh_master.create_user(user)
    with fresh_master.imap(user) as imap:
        imap.ok("CREATE", "INBOX/folder")
        imap.append("INBOX/folder", message("inside"))
        imap.ok("SUBSCRIBE", "INBOX/folder")
    follow_log(fresh_master, server.csync)
    with fresh_master.imap() as admin:
        admin.ok("RENAME", f"user/{user}", f"user/{new}")
    follow_log(fresh_master, server.csync)
    if isinstance(server, Cyrus):
        return  # a real server loses the subscriptions with the UNUSER of the old name
    same(fresh_master, server, user, new)
    state = state_of(server.csync, new)
    assert sorted(state["mailboxes"]) == [f"user.{new}", f"user.{new}.folder"]
    assert state["subscriptions"] == [f"user.{new}.folder".encode()]


@pytest.mark.every_release
def test_a_user_is_deleted(fresh_master: Cyrus, server: Server, user: str) -> None:
    fresh_master.create_user(user)
    with fresh_master.imap(user) as imap:
        imap.ok("CREATE", "INBOX/folder")
        imap.append("INBOX/folder", message("inside"))
    follow_log(fresh_master, server.csync)
    with fresh_master.imap() as admin:
        admin.ok("SETACL", f"user/{user}", "cyrus", "lrswipkxtecda")
        admin.ok("DELETE", f"user/{user}")
    follow_log(fresh_master, server.csync)
    same(fresh_master, server, user)
    assert not [n for n in state_of(server.csync, user)["mailboxes"] if n.startswith("user.")]


@pytest.mark.every_release
def test_a_client_that_runs_survives_our_restart(fresh_master: Cyrus, user: str) -> None:
    with server_under_test("restarted") as server:
        fresh_master.create_user(user)
        rolling = fresh_master.roll("-d", "1", to=server.csync)
        until(lambda: f"user.{user}" in state_of(server.csync, user)["mailboxes"], "the user arrives")
        server.stop()
        fresh_master.deliver(message("meanwhile"), user)
        until(lambda: rolling.process.poll() is not None, "the real client ends when its server is gone", 15)
        assert rolling.process.returncode == 0
        server.start()
        fresh_master.roll("-d", "1", to=server.csync)
        until(lambda: 1 in _records(server, user), "the message arrives after the restart")
        same(fresh_master, server, user)


def test_one_locked_user_holds_up_nobody_else(fresh_master: Cyrus, server: Server, user: str) -> None:
    if isinstance(server, Cyrus):
        pytest.skip("a real server's user cannot be locked from here")
    other = f"{user}b"
    fresh_master.create_user(user, other)
    follow_log(fresh_master, server.csync)
    with Proxy(server.csync, hide=("COMPRESS",)) as proxy:
        with server.store.write(Owner("user", user)):
            fresh_master.deliver(message("waits"), user)
            fresh_master.deliver(message("flows"), other)
            fresh_master.follow(proxy.address)
            assert any("IMAP_MAILBOX_LOCKED" in line for line in proxy.conversations[0].answers())
        fresh_master.follow(server.csync).check()
    same(fresh_master, server, user, other)


def test_an_idle_client_reconnects_after_its_time(fresh_master: Cyrus, server: Server, user: str) -> None:
    with Proxy(server.csync, hide=("COMPRESS",)) as proxy:
        fresh_master.create_user(user)
        rolling = fresh_master.roll("-d", "1", "-t", "1", to=proxy.address)
        until(lambda: len(proxy.conversations) > 1, "the client connects again", 15)
        fresh_master.deliver(message("later"), user)
        until(lambda: 1 in _records(server, user), "the message arrives")
        assert "RESTART" in proxy.conversations[0].commands()
        rolling.stop()


def _records(server: Server, user: str) -> dict[int, object]:
    mailbox = state_of(server.csync, user)["mailboxes"].get(f"user.{user}", {})
    found: dict[int, object] = mailbox.get("RECORD", {})
    return found
