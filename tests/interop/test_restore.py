"""``mailstore restore`` into a real Cyrus: as it was, only what is lacking, expunged mail, another name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from tests.mailstore.past import time_goes_by

from .csync import differences, scripts_of, state_of
from .cyrus import Cyrus
from .fill import change_everything, fill_everything, message
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


def mailstore(ours: Ours, to: Cyrus, *command: str) -> Finished:
    """Run a command with the server `to` in its configuration."""
    config = ours.client_config(to.csync)
    return ours._run([str(BIN / "mailstore"), "-C", str(config), *command], 120).check()


def restore(ours: Ours, to: Cyrus, *args: str) -> Finished:
    """Run the command with --yes; a second run must have nothing to do."""
    done = mailstore(ours, to, "restore", "--yes", *args)
    again = mailstore(ours, to, "restore", "--yes", *args)
    assert "nothing to do at " in again.out and "to be done" not in again.out, again.out
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


@pytest.mark.every_release
@pytest.mark.covers("mailstore: commands and options", "restore --as-of", "restore --dry-run")
def test_a_state_of_yesterday_comes_to_an_empty_server_and_to_one_where_the_user_lives_on(
    master: Cyrus, fresh_replica: Cyrus, ours: Ours, user: str
) -> None:
    other = f"{user}b"
    fill_everything(master, user, other)
    master.sync_client("-u", user, other, to=ours.csync).check()
    yesterday, seen, scripts = (
        state_of(master.csync, user),
        view(master, user),
        scripts_of(master.csync, user),
    )
    time_goes_by(ours.root, 86400, user)
    change_everything(master, user, other)
    with master.imap(user) as imap, master.sieve(user) as sieve:
        imap.select("INBOX")
        imap.store("2,3", "+FLAGS", "\\Deleted")
        imap.ok("EXPUNGE")
        imap.ok("CREATE", quote("INBOX/of today"))
        imap.append("INBOX/of today", message("today"))
        sieve.ok(b'DELETESCRIPT "spare"')
    master.sync_client("-u", user, other, to=ours.csync).check()
    today, seen_today = state_of(master.csync, user), view(master, user)
    as_of = [user, "--as-of", "12h"]

    def dry_run(to: Cyrus) -> str:
        return mailstore(ours, to, "restore", "--dry-run", *as_of).out

    shown = dry_run(fresh_replica)
    assert f"user/{user}/lists/cyrus: create with " in shown and f"user/{user}/dotted.name: create " in shown
    assert "moved" not in shown and "of today" not in shown
    with fresh_replica.imap() as admin:
        assert admin.mailboxes() == [], "a dry run changes nothing"
    restore(ours, fresh_replica, *as_of)
    assert differences(yesterday, state_of(fresh_replica.csync, user)) == []
    assert view(fresh_replica, user) == seen
    assert scripts_of(fresh_replica.csync, user) == scripts

    shown = dry_run(master)
    assert differences(today, state_of(master.csync, user)) == [], "a dry run changes nothing"
    told = restore(ours, master, *as_of).out
    assert told.startswith(shown), "the dry run has said all of it"
    assert f"user/{user}: add 3 messages; stays as it is there: other flags of 1 message\n" in told
    assert re.search(
        r"#sieve: add 1 script; stays as it is there: 1 other script$|main.script: stays as", told, re.M
    )
    assert f"{user}: quota user/{user}: stays as it is there: it is another one\n" in told
    copy = f"create with 4 messages; as a copy with a new uniqueid (there it is user/{user}/lists/moved)"
    assert f"user/{user}/lists/cyrus: {copy}\n" in told
    assert f"user/{user}/dotted.name: create with 1 message" in told
    assert f"user/{user}/of today: stays as it is: it is not among what is restored\n" in told
    assert f"{user}: subscribe to user/{user}/with space\n" in told
    now = view(master, user)
    for name, box in seen_today.mailboxes.items():
        assert {uid: now.mailboxes[name].messages[uid] for uid in box.messages} == box.messages, name
    for name, box in seen.mailboxes.items():
        assert subjects(box) <= subjects(now.mailboxes[name]), name
    found = scripts_of(master.csync, user)
    assert found["spare"] == scripts["spare"], "the script that he deleted is there again"
    assert found["main"] == (b"discard;\r\n", True), "and the one that he has changed is his"


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
