"""``mailstore restore`` into a real Cyrus: as it was, only what is lacking, expunged mail, another name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner

from .csync import differences, scripts_of, state_of
from .cyrus import Cyrus
from .fill import fill_everything, message
from .imap import quote
from .ours import BIN, Ours
from .proxy import Proxy
from .running import Finished
from .view import MailboxView, view


@pytest.fixture(scope="module")
def ours(real_cyrus: None) -> Iterator[Ours]:
    with Ours.installed("backup", {"maxliteral": "0"}) as installation:
        yield installation
        installation.verify()


def restore(ours: Ours, to: Cyrus, *args: str) -> Finished:
    """Run the command with --yes; a second run must have nothing to do."""
    config = ours.client_config(to.csync)
    command = ["restore", "--yes", *args]
    done = ours._run([str(BIN / "mailstore"), "-C", str(config), *command], 120).check()
    again = ours._run([str(BIN / "mailstore"), "-C", str(config), *command], 120).check()
    assert again.out.startswith("nothing to do at "), again.out
    return done


def subjects(box: MailboxView) -> set[str]:
    return {found.sha1 for found in box.messages.values()}


@pytest.mark.every_release
def test_users_of_a_lost_server_come_back_from_our_store_as_they_were(
    master: Cyrus, fresh_replica: Cyrus, ours: Ours, user: str
) -> None:
    other = f"{user}b"
    fill_everything(master, user, other)
    master.sync_client("-u", user, other, to=ours.csync).check()
    for name in (user, other):
        restore(ours, fresh_replica, name)
    for name in (user, other):
        assert differences(state_of(master.csync, name), state_of(fresh_replica.csync, name)) == []
        assert view(master, name) == view(fresh_replica, name)
        assert scripts_of(master.csync, name) == scripts_of(fresh_replica.csync, name)
    with Proxy(fresh_replica.csync, hide=("COMPRESS",)) as proxy:
        master.sync_client("-u", user, other, to=proxy.address).check()
        changes = [line for line in proxy.commands("APPLY ") if not line.startswith("APPLY CAPABILITIES")]
        assert changes == [], "the real client finds nothing to do"


def test_a_user_of_a_lost_server_and_a_lost_replica_comes_back_from_the_object_store(
    master: Cyrus, fresh_replica: Cyrus, ours: Ours, user: str, tmp_path: Path
) -> None:
    fill_everything(master, user, f"{user}b")
    master.sync_client("-u", user, to=ours.csync).check()
    ours.mailstore("backup", f"file:{tmp_path}/backup", user).check()
    config = ours.client_config(fresh_replica.csync)
    config.write_text(
        re.sub(r"(?m)^partition-.*$", f"partition-default: {tmp_path}/nothing", config.read_text())
    )
    host, port = fresh_replica.csync
    words = ["restore", "--from", f"file:{tmp_path}/backup", "--to", f"{host}:{port}", "--yes", user]
    ours._run([str(BIN / "mailstore"), "-C", str(config), *words], 120).check()
    assert differences(state_of(master.csync, user), state_of(fresh_replica.csync, user)) == []
    assert view(master, user) == view(fresh_replica, user)
    assert scripts_of(master.csync, user) == scripts_of(fresh_replica.csync, user)


def test_what_a_user_lost_comes_back_and_what_he_has_stays(master: Cyrus, ours: Ours, user: str) -> None:
    master.create_user(user)
    with master.imap(user) as imap:
        imap.ok("CREATE", "INBOX/Work")
        imap.append("INBOX", message("one"), message("two"), message("three"))
        imap.append("INBOX/Work", message("work"))
    master.sync_client("-u", user, to=ours.csync).check()
    before = view(master, user)
    with master.imap(user) as imap:
        imap.select("INBOX")
        imap.store("2", "+FLAGS", "\\Deleted")
        imap.ok("EXPUNGE")
        imap.store("3", "+FLAGS", "\\Flagged")
        imap.append("INBOX", message("four"))
        imap.ok("DELETE", "INBOX/Work")
    restore(ours, master, user)
    after = view(master, user)
    inbox = after.mailboxes["INBOX"]
    assert sorted(inbox.messages) == [1, 3, 4, 5]
    assert inbox.messages[5].sha1 == before.mailboxes["INBOX"].messages[2].sha1
    assert inbox.messages[3].flags == {"\\Flagged"}
    assert subjects(after.mailboxes["INBOX/Work"]) == subjects(before.mailboxes["INBOX/Work"])


def test_expunged_messages_come_back_into_a_folder_apart(master: Cyrus, ours: Ours, user: str) -> None:
    master.create_user(user)
    with master.imap(user) as imap:
        imap.append("INBOX", message("one"), message("two"))
        imap.select("INBOX")
        imap.store("1", "+FLAGS", "\\Deleted")
        imap.ok("EXPUNGE")
        imap.append("INBOX", message("three"))
    master.sync_client("-u", user, to=ours.csync).check()
    done = restore(ours, master, f"user/{user}", "--as", f"user/{user}/Found", "--expunged", "--since", "1h")
    assert "bring back 1 expunged message" in done.out
    seen = view(master, user)
    assert len(seen.mailboxes["INBOX"].messages) == 2
    assert len(seen.mailboxes["INBOX/Found"].messages) == 3
    with master.imap(user) as imap:
        assert imap.status("INBOX/Found")["MESSAGES"] == 3
        imap.append("INBOX/Found", message("goes on"))
    master.sync_client("-u", user, to=ours.csync).check()


def test_another_user_gets_a_copy_that_is_his_own(
    master: Cyrus, replica: Cyrus, ours: Ours, user: str
) -> None:
    other, copy = f"{user}b", f"{user}c"
    fill_everything(master, user, other)
    master.sync_client("-u", user, to=ours.csync).check()
    restore(ours, replica, user, "--as", copy)
    mine, his = view(master, user), view(replica, copy)
    assert list(mine.mailboxes) == list(his.mailboxes)
    for name, box in mine.mailboxes.items():
        assert {uid: m.sha1 for uid, m in box.messages.items()} == {
            uid: m.sha1 for uid, m in his.mailboxes[name].messages.items()
        }, name
        assert his.mailboxes[name].acl[copy] == box.acl[user]
    with replica.imap(copy) as imap:
        imap.ok("DELETE", quote("INBOX/empty"))
        imap.append("INBOX", message("and it can be used"))


def test_a_mailbox_of_our_own_master_goes_into_a_users_place(replica: Cyrus, ours: Ours, user: str) -> None:
    replica.create_user(user)
    with ours.store.write(Owner("user", user)) as box:
        box.create(f"user.{user}")
        box.create(f"user.{user}.Entw&APw-rfe")
        box.append(f"user.{user}.Entw&APw-rfe", [(message("draft"), 1_704_103_200, "\\Draft Work")])
    restore(ours, replica, f"user/{user}/Entwürfe")
    found = view(replica, user).mailboxes["INBOX/Entw&APw-rfe"].messages[1]
    assert (found.flags, found.internaldate) == ({"\\Draft", "Work"}, 1_704_103_200)
