"""The harness proves itself: two real Cyruses, and what we know of them."""

from __future__ import annotations

import pytest

from tests.deadlines import until

from .csync import Csync, scripts_of, state_of
from .cyrus import Cyrus
from .fill import FOLDERS, SCRIPT, fill_everything, message
from .proxy import Proxy
from .running import processes_of
from .view import view


@pytest.mark.every_release
def test_a_user_with_everything_arrives_and_the_second_run_has_nothing_to_do(
    master: Cyrus, replica: Cyrus, user: str
) -> None:
    other = f"{user}b"
    fill_everything(master, user, other)
    first = master.sync_client("-v", "-u", user, other, to=replica.csync).check()
    assert f"MAILBOX user.{user}.lists" in first.out

    assert state_of(master.csync, user) == state_of(replica.csync, user)
    assert state_of(master.csync, other) == state_of(replica.csync, other)
    seen, there = view(master, user), view(replica, user)
    assert seen == there
    assert len(seen.mailboxes) >= len(FOLDERS)
    assert seen.mailboxes["INBOX"].messages[1].annotations[("/comment", "value.priv")] == b"my note"
    assert scripts_of(replica.csync, user) == {"main": (SCRIPT, True), "spare": (b"keep;\r\n", False)}

    with Proxy(replica.csync, hide=("COMPRESS",)) as proxy:
        master.sync_client("-u", user, other, to=proxy.address).check()
        assert proxy.commands("GET USER")
        assert not proxy.commands("APPLY MAILBOX")


def test_the_proxy_can_cut_a_connection_and_the_next_run_mends_it(
    master: Cyrus, replica: Cyrus, user: str
) -> None:
    master.create_user(user)
    with master.imap(user) as imap:
        imap.append("INBOX", *(message(f"number {n}", 2000) for n in range(40)))
    with Proxy(replica.csync, hide=("COMPRESS",), cut_after=("c2s", 30_000)) as proxy:
        cut = master.sync_client("-u", user, to=proxy.address)
        assert cut.status != 0
        assert len(proxy.conversations[0].c2s) == 30_000
    master.sync_client("-u", user, to=replica.csync).check()
    assert state_of(master.csync, user) == state_of(replica.csync, user)


def test_a_rolling_real_client_follows_its_log(fresh_master: Cyrus, replica: Cyrus, user: str) -> None:
    def arrived() -> bool:
        return bool(state_of(replica.csync, user)["mailboxes"].get(f"user.{user}", {}).get("RECORD"))

    with fresh_master.roll("-d", "1", to=replica.csync):
        fresh_master.create_user(user)
        fresh_master.deliver(message("while rolling"), user)
        until(arrived, "the message is at the replica", 15)


def test_an_installation_leaves_no_process_behind(real_cyrus: None) -> None:
    with Cyrus.running("brief") as cyrus:
        cyrus.create_user("alice")
        with Csync(cyrus.csync) as csync:
            assert csync.ok(b"NOOP") == []
            assert processes_of(cyrus.root)
        root = cyrus.root
    assert not processes_of(root)
    assert not root.exists()
