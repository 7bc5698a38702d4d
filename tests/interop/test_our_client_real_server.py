"""Our sync_client fills a real Cyrus and keeps it current.

Our store is the master; what the real server then says of the user must be what our own server says of
the same store, a user must see it over IMAP, Cyrus's own tools must have nothing to mend, and the next
run must have nothing to do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from cyrus_sync.common.model import Seen
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailWriter
from tests.deadlines import until

from .csync import differences, scripts_of, state_of
from .cyrus import Cyrus
from .fill import BINARY, EIGHT_BIT, SCRIPT, message
from .ours import Ours
from .proxy import Proxy
from .view import view

JANUARY = 1704103200


@pytest.fixture(scope="module")
def ours(real_cyrus: None) -> Iterator[Ours]:
    """Our store, and our sync_server to ask what it holds."""
    with Ours.installed("master") as installation:
        yield installation
        installation.verify()


def write(ours: Ours, user: str) -> AbstractContextManager[MailWriter]:
    return ours.store.write(Owner("user", user))


def fill_our_store(box: MailWriter, user: str) -> None:
    """A user with all kinds of things, as `fill.fill_everything` does it to a real Cyrus."""
    inbox = f"user.{user}"
    for folder in (
        "",
        ".lists",
        ".lists.cyrus",
        ".empty",
        ".with space",
        ".dotted^name",
        ".Entw&APw-rfe",
        ".(a) 'b'",
    ):
        box.create(inbox + folder)
    box.append(
        inbox, [(message("one"), JANUARY, "\\Seen"), (message("two"), JANUARY + 60, "\\Flagged $Label1 Work")]
    )
    box.append(inbox, [(EIGHT_BIT, JANUARY, "\\Answered"), (BINARY, JANUARY, "\\Draft \\Deleted")])
    box.append(inbox, [(message("large", 300_000), JANUARY, "")])
    box.append(f"{inbox}.lists", [(message("list one"), JANUARY, "NonJunk"), (message("gone"), JANUARY, "")])
    box.append(f"{inbox}.lists.cyrus", [(message("one"), JANUARY, "")])
    box.append(f"{inbox}.with space", [(message("in a space"), JANUARY, "")])
    box.expunge(f"{inbox}.lists", [2])
    box.set_acl(f"{inbox}.lists", "anyone", "lrs")
    box.set_quota(inbox, {"STORAGE": 100_000, "MESSAGE": 5000})
    box.annotate(f"{inbox}.lists", "/comment", "", b"shared words")
    box.annotate(f"{inbox}.lists", "/comment", user, b'private "words" \\ and 100 %')
    box.annotate(inbox, "/comment", user, b"my note", uid=1)
    box.annotate(inbox, "/altsubject", "", "größer".encode(), uid=3)
    box.subscribe(f"{inbox}.lists")
    box.put_script("main", SCRIPT)
    box.activate_script("main")


def replicate(ours: Ours, replica: Cyrus, *users: str) -> None:
    """Sync these users, compare everything, and insist that a second run has nothing to do."""
    ours.sync_client("-u", *users, to=replica.csync).check()
    for user in users:
        assert differences(state_of(ours.csync, user), state_of(replica.csync, user)) == []
    with Proxy(replica.csync) as proxy:
        ours.sync_client("-u", *users, to=proxy.address).check()
        assert proxy.commands("GET USER")
        changes = [line for line in proxy.commands("APPLY ") if not line.startswith("APPLY CAPABILITIES")]
        assert changes == []


def folder(replica: Cyrus, user: str, name: str = "INBOX") -> dict[int, frozenset[str]]:
    """Flags by UID as the user sees them over IMAP."""
    return {uid: seen.flags for uid, seen in view(replica, user).mailboxes[name].messages.items()}


@pytest.mark.every_release
def test_a_real_cyrus_is_filled_and_finds_nothing_to_mend(ours: Ours, replica: Cyrus, user: str) -> None:
    with write(ours, user) as box:
        fill_our_store(box, user)
    replicate(ours, replica, user)
    seen = view(replica, user)
    inbox = seen.mailboxes["INBOX"]
    assert [m.sha1 for m in inbox.messages.values()] == [
        hashlib.sha1(raw).hexdigest()
        for raw in (message("one"), message("two"), EIGHT_BIT, BINARY, message("large", 300_000))
    ]
    assert inbox.messages[2].flags == {"\\Flagged", "$Label1", "Work"}
    assert inbox.messages[2].internaldate == JANUARY + 60
    assert inbox.messages[1].annotations[("/comment", "value.priv")] == b"my note"
    assert list(seen.mailboxes["INBOX/lists"].messages) == [1]
    assert seen.mailboxes["INBOX/lists"].acl["anyone"] == "lrs"
    assert seen.mailboxes["INBOX/lists"].metadata["/shared/comment"] == b"shared words"
    assert seen.subscriptions == ["INBOX/lists"]
    assert seen.quota["INBOX"]["STORAGE"][1] == 100_000
    assert scripts_of(replica.csync, user) == {"main": (SCRIPT, True)}
    assert "recon" not in replica.tool("reconstruct", "-n", "-r", f"user/{user}").check().err
    assert f"user.{user}.lists" in replica.tool("ctl_mboxlist", "-d").check().out
    checked = replica.tool("quota", "-f", f"user/{user}").check()
    assert "now" not in checked.out and "now" not in checked.err, checked.describe()


@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "56")
@pytest.mark.every_release
def test_changes_of_messages_follow(ours: Ours, replica: Cyrus, user: str) -> None:
    with write(ours, user) as box:
        fill_our_store(box, user)
    replicate(ours, replica, user)
    inbox = f"user.{user}"
    with write(ours, user) as box:
        box.set_flags(inbox, [1], add=["\\Flagged", "Urgent"], remove=["\\Seen"])
        box.expunge(inbox, [2])
        box.append(inbox, [(message("new"), JANUARY, "")])
        box.copy(inbox, [1], f"{inbox}.lists")
        box.copy(inbox, [3], f"{inbox}.lists", move=True)
    replicate(ours, replica, user)
    assert set(folder(replica, user)) == {1, 4, 5, 6}
    assert folder(replica, user)[1] == {"\\Flagged", "Urgent"}
    assert set(folder(replica, user, "INBOX/lists")) == {1, 3, 4}
    with write(ours, user) as box:
        box.unexpunge(inbox, [2])
        box.annotate(f"{inbox}.lists", "/comment", "", None)
        box.set_acl(f"{inbox}.lists", "anyone", "")
        box.set_quota(inbox, None)
        box.subscribe(f"{inbox}.lists", False)
        box.activate_script(None)
    replicate(ours, replica, user)
    assert set(folder(replica, user)) == {1, 4, 5, 6, 7}
    assert view(replica, user).subscriptions == []
    assert view(replica, user).quota == {}
    assert scripts_of(replica.csync, user) == {"main": (SCRIPT, False)}


def test_a_message_that_the_replica_has_is_not_sent_again(ours: Ours, replica: Cyrus, user: str) -> None:
    inbox = f"user.{user}"
    with write(ours, user) as box:
        box.create(inbox)
        box.create(f"{inbox}.copies")
        box.append(inbox, [(message("large", 100_000), JANUARY, "")])
    replicate(ours, replica, user)
    with write(ours, user) as box:
        box.copy(inbox, [1], f"{inbox}.copies")
    with Proxy(replica.csync) as proxy:
        ours.sync_client("-u", user, to=proxy.address).check()
        assert proxy.commands("APPLY RESERVE")
        assert not proxy.commands("APPLY MESSAGE")
    assert set(folder(replica, user, "INBOX/copies")) == {1}


@pytest.mark.every_release
def test_renames_and_a_swap_of_names_follow(ours: Ours, replica: Cyrus, user: str) -> None:
    inbox = f"user.{user}"
    with write(ours, user) as box:
        for name in ("", ".a", ".b", ".tree", ".tree.x"):
            box.create(inbox + name)
            box.append(inbox + name, [(message(f"in{name}"), JANUARY, "")])
    replicate(ours, replica, user)
    for old, new in (
        (".a", ".spare"),
        (".b", ".a"),
        (".spare", ".b"),
        (".tree.x", ".wood.x"),
        (".tree", ".wood"),
    ):
        ours.store.rename(inbox + old, inbox + new, log=True)
    with Proxy(replica.csync) as proxy:
        ours.sync_client("-u", user, to=proxy.address).check()
        assert not proxy.commands("APPLY MESSAGE")
    replicate(ours, replica, user)
    assert (
        view(replica, user).mailboxes["INBOX/a"].messages[1].sha1 == hashlib.sha1(message("in.b")).hexdigest()
    )


@pytest.mark.every_release
def test_a_deleted_folder_goes_and_one_that_was_never_ours_stays(
    ours: Ours, replica: Cyrus, user: str
) -> None:
    inbox = f"user.{user}"
    with write(ours, user) as box:
        for name in ("", ".short", ".gone"):
            box.create(inbox + name)
    replicate(ours, replica, user)
    with replica.imap(user) as imap:
        imap.ok("CREATE", "INBOX/theirs")
        imap.append("INBOX/theirs", message("one"), message("two"))
    with write(ours, user) as box:
        box.delete(f"{inbox}.short")
        box.delete(f"{inbox}.gone", delayed=False)
    for _ in range(2):
        done = ours.sync_client("-u", user, to=replica.csync)
        assert done.status == 1, "what only the replica has is told every time"
        assert f"only the replica has user/{user}/theirs" in done.err and "with 2 messages" in done.err
    assert set(view(replica, user).mailboxes) == {"INBOX", "INBOX/theirs"}


@pytest.mark.every_release
def test_what_others_have_seen_follows(ours: Ours, replica: Cyrus, user: str) -> None:
    other = f"{user}b"
    with write(ours, user) as box:
        box.create(f"user.{user}")
        shared = box.create(f"user.{user}.shared", acl=f"{user}\tlrswipkxtecdan\t{other}\tlrs\t")
        box.append(shared.name, [(message("one"), JANUARY, ""), (message("two"), JANUARY, "")])
    with write(ours, other) as box:
        box.create(f"user.{other}")
        box.set_seen(Seen(shared.uniqueid, JANUARY, 2, JANUARY, "1"))
    replicate(ours, replica, user, other)
    with replica.imap(other) as imap:
        assert imap.status(f"user/{user}/shared")["UNSEEN"] == 1


@pytest.mark.every_release
def test_rolling_carries_the_action_log(ours: Ours, replica: Cyrus, user: str) -> None:
    inbox = f"user.{user}"
    with ours.roll("-d", "1", to=replica.csync):
        with write(ours, user) as box:
            fill_our_store(box, user)
        until(lambda: _same(ours, replica, user), "everything is there")
        with write(ours, user) as box:
            box.set_flags(inbox, [1], add=["Rolled"])
            box.delete(f"{inbox}.empty")
            box.activate_script(None)
        ours.store.rename(f"{inbox}.with space", f"{inbox}.without", log=True)
        until(lambda: _same(ours, replica, user), "the changes are there")
    assert "Rolled" in folder(replica, user)[1]


def _same(ours: Ours, replica: Cyrus, user: str) -> bool:
    return differences(state_of(ours.csync, user), state_of(replica.csync, user)) == []


@pytest.mark.parametrize("options", [["-z"], ["-L"], ["-O"], ["-N"], ["-p", "default"]])
def test_an_option_changes_nothing_of_the_result(
    ours: Ours, replica: Cyrus, user: str, options: list[str]
) -> None:
    with write(ours, user) as box:
        box.create(f"user.{user}")
        box.append(f"user.{user}", [(message("one"), JANUARY, "")])
    ours.sync_client(*options, "-u", user, to=replica.csync).check()
    assert _same(ours, replica, user)


def test_mailboxes_by_name_and_meta_alone(ours: Ours, replica: Cyrus, user: str) -> None:
    with write(ours, user) as box:
        box.create(f"user.{user}")
        box.create(f"user.{user}.sub")
        box.subscribe(f"user.{user}.sub")
    ours.sync_client("-m", f"user/{user}", f"user/{user}/sub", to=replica.csync).check()
    assert state_of(replica.csync, user)["subscriptions"] == []
    ours.sync_client("-s", user, to=replica.csync).check()
    assert _same(ours, replica, user)
