"""A site points its own sync_client at our sync_server and does not notice.

The real 3.6.1 client runs one-shot; what our server then says of the user must be what the real server of
the master says, down to the last record and CRC, and the next run must find nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .csync import differences, scripts_of, state_of
from .cyrus import Cyrus
from .fill import BINARY, EIGHT_BIT, SCRIPT, fill_everything, message
from .imap import quote
from .judge import Server, server_under_test
from .proxy import Proxy
from .running import Finished


@pytest.fixture(scope="module")
def server(real_cyrus: None) -> Iterator[Server]:
    """The replica, shared by the tests of this module."""
    with server_under_test("replica", {"maxliteral": "0"}) as replica:
        yield replica


def replicate(master: Cyrus, server: Server, *users: str, expunged: bool = True) -> None:
    """Sync these users, compare everything, and insist that a second run has nothing to do.

    `expunged` False: each end may keep expunged records for as long as it likes.
    """
    master.sync_client("-u", *users, to=server.csync).check()
    for user in users:
        same(master, server, user, expunged)
    nothing_to_do(master, server, "-u", *users)


def same(master: Cyrus, server: Server, user: str, expunged: bool = True) -> None:
    here, there = state_of(master.csync, user, expunged), state_of(server.csync, user, expunged)
    assert differences(here, there) == []


def nothing_to_do(master: Cyrus, server: Server, *args: str) -> None:
    with Proxy(server.csync, hide=("COMPRESS",)) as proxy:
        master.sync_client(*args, to=proxy.address).check()
        assert proxy.commands("GET ")
        changes = [line for line in proxy.commands("APPLY ") if not line.startswith("APPLY CAPABILITIES")]
        assert changes == []


def records(server: Server, user: str, folder: str = "") -> dict[int, dict[str, Any]]:
    name = f"user.{user}" + (f".{folder}" if folder else "")
    found: dict[int, dict[str, Any]] = state_of(server.csync, user)["mailboxes"][name]["RECORD"]
    return found


def live(server: Server, user: str, folder: str = "") -> list[int]:
    """UIDs that are not expunged."""
    return [uid for uid, r in records(server, user, folder).items() if b"\\Expunged" not in r["FLAGS"]]


def quota_names(cyrus: Cyrus) -> tuple[str, str]:
    """How its imapd calls the limits of folders and of annotations (in KiB)."""
    old = cyrus.release.number < (3, 10)
    return ("X-NUM-FOLDERS", "X-ANNOTATION-STORAGE") if old else ("MAILBOX", "ANNOTATION-STORAGE")


@pytest.mark.covers("GET, APPLY, RESTORE", "GET USER")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "54")
@pytest.mark.every_release
def test_a_user_with_everything_arrives_whole(master: Cyrus, server: Server, user: str) -> None:
    other = f"{user}b"
    fill_everything(master, user, other)
    replicate(master, server, user, other)
    assert scripts_of(server.csync, user) == {"main": (SCRIPT, True), "spare": (b"keep;\r\n", False)}
    assert state_of(server.csync, other)["seen"]


@pytest.mark.every_release
def test_changes_of_messages_follow(master: Cyrus, server: Server, user: str) -> None:
    master.create_user(user)
    with master.imap(user) as imap:
        imap.append("INBOX", *(message(f"m{n}") for n in range(6)))
        imap.ok("CREATE", "INBOX/there")
        replicate(master, server, user)
        imap.select()
        imap.store("1", "+FLAGS", "\\Seen \\Flagged")
        imap.store("2", "+FLAGS", "$Label1 Work")
        imap.store("3", "+FLAGS", "\\Deleted")
        imap.ok("UID", "EXPUNGE", "3")
        imap.append("INBOX", EIGHT_BIT, BINARY)
        imap.ok("UID", "COPY", "1:2", "INBOX/there")
        imap.ok("UID", "MOVE", "4", "INBOX/there")
        replicate(master, server, user)
        assert live(server, user) == [1, 2, 5, 6, 7, 8]
        assert live(server, user, "there") == [1, 2, 3]
        imap.store("2", "-FLAGS", "Work")
        imap.store("1", "FLAGS", "")
        replicate(master, server, user)
        assert records(server, user)[1]["FLAGS"] == frozenset()
        assert records(server, user)[2]["FLAGS"] == {b"$Label1"}


def test_an_incremental_run_sends_only_what_changed(master: Cyrus, server: Server, user: str) -> None:
    master.create_user(user)
    with master.imap(user) as imap:
        imap.append("INBOX", *(message(f"m{n}") for n in range(20)))
        replicate(master, server, user)
        imap.select()
        imap.store("7", "+FLAGS", "\\Flagged")
    with Proxy(server.csync, hide=("COMPRESS",)) as proxy:
        master.sync_client("-u", user, to=proxy.address).check()
        (applied,) = proxy.commands("APPLY MAILBOX")
        assert applied.count("%(UID ") == 1
        assert " SINCE_MODSEQ " in applied
        assert not proxy.commands("APPLY MESSAGE")


def test_unexpunged_messages_come_back(master: Cyrus, server: Server, user: str) -> None:
    master.create_user(user)
    with master.imap(user) as imap:
        imap.append("INBOX", message("stays"), message("goes"))
        imap.select()
        imap.store("2", "+FLAGS", "\\Deleted")
        imap.ok("UID", "EXPUNGE", "2")
    replicate(master, server, user)
    assert live(server, user) == [1]
    master.tool("unexpunge", "-u", f"user/{user}", "2").check()
    replicate(master, server, user, expunged=False)
    assert live(server, user) == [1, 3]


@pytest.mark.every_release
def test_expunge_and_delete_at_once_follow(server: Server, user: str) -> None:
    settings = {"expunge_mode": "immediate", "delete_mode": "immediate"}
    with Cyrus.running("hasty", settings) as hasty:
        hasty.create_user(user)
        with hasty.imap(user) as imap:
            imap.append("INBOX", message("stays"), message("goes"), message("goes too"))
            imap.ok("CREATE", "INBOX/folder")
            imap.append("INBOX/folder", message("inside"))
            replicate(hasty, server, user, expunged=False)
            imap.select()
            imap.store("2:3", "+FLAGS", "\\Deleted")
            imap.ok("EXPUNGE")
            imap.ok("UNSELECT")
            replicate(hasty, server, user, expunged=False)
            assert live(server, user) == [1]
            imap.ok("DELETE", "INBOX/folder")
        hasty.follow(server.csync).check()
        replicate(hasty, server, user, expunged=False)
        assert list(state_of(server.csync, user)["mailboxes"]) == [f"user.{user}"]


@pytest.mark.every_release
def test_annotations_of_every_kind_follow_and_go(master: Cyrus, server: Server, user: str) -> None:
    master.create_user(user)
    large = b"0123456789abcdef" * 9000
    with master.imap(user) as imap:
        imap.append("INBOX", message("one"), message("two"))
        imap.select()
        imap.annotate("1", "/comment", "value.priv", b"private")
        imap.annotate("1", "/comment", "value.shared", b'quotes " and \\ and percent % (all)')
        imap.annotate("2", "/altsubject", "value.shared", large)
        imap.set_metadata("INBOX", "/shared/comment", large)
        imap.set_metadata("INBOX", "/private/comment", "für mich".encode())
        replicate(master, server, user)
        assert large in [value for _, _, value, _ in records(server, user)[2]["ANNOTATIONS"]]
        imap.annotate("1", "/comment", "value.priv", b"")
        imap.set_metadata("INBOX", "/shared/comment", None)
        replicate(master, server, user)
        entries = state_of(server.csync, user)["mailboxes"][f"user.{user}"]["ANNOTATIONS"]
        assert entries == [(b"/comment", user.encode(), "für mich".encode())]


@pytest.mark.every_release
def test_rights_quota_and_subscriptions_follow(master: Cyrus, server: Server, user: str) -> None:
    master.create_user(user)
    with master.imap() as admin, master.imap(user) as imap:
        imap.ok("CREATE", "INBOX/sub")
        folders, notes = quota_names(master)
        admin.ok("SETQUOTA", f"user/{user}", f"(STORAGE 5000 MESSAGE 100 {folders} 50 {notes} 9)")
        admin.ok("SETQUOTA", f"user/{user}/sub", "(STORAGE 700)")
        imap.ok("SUBSCRIBE", "INBOX/sub")
        imap.ok("SETACL", "INBOX/sub", "anyone", "lrs")
        replicate(master, server, user)
        roots = state_of(server.csync, user)["quota"]
        assert set(roots) == {f"user.{user}".encode(), f"user.{user}.sub".encode()}
        assert roots[f"user.{user}".encode()]["X-NUM-FOLDERS"] == b"50"
        assert roots[f"user.{user}".encode()]["X-ANNOTATION-STORAGE"] == b"9"
        admin.ok("SETQUOTA", f"user/{user}", "(MESSAGE 7)")
        admin.ok("SETQUOTA", f"user/{user}/sub", "()")
        imap.ok("UNSUBSCRIBE", "INBOX/sub")
        imap.ok("SETACL", "INBOX/sub", "anyone", '""')
        replicate(master, server, user)
        assert state_of(server.csync, user)["subscriptions"] == []


@pytest.mark.covers("GET, APPLY, RESTORE", "APPLY SIEVE")
@pytest.mark.every_release
def test_scripts_follow_by_sieve_commands_where_the_mailbox_is_not_agreed(
    master: Cyrus, server: Server, user: str
) -> None:
    master.create_user(user)

    def sync() -> list[str]:
        with Proxy(server.csync, hide=("COMPRESS", "SIEVE-MAILBOX")) as proxy:
            master.sync_client("-u", user, to=proxy.address).check()
            return [line.split(" %")[0] for line in proxy.commands("APPLY ") if "SIEVE" in line]

    with master.sieve(user) as sieve:
        sieve.put("main", SCRIPT)
        sieve.put("other", b"keep;\r\n")
        sieve.activate("main")
        assert sync() == ["APPLY SIEVE", "APPLY SIEVE", "APPLY ACTIVATE_SIEVE"]
        assert scripts_of(server.csync, user) == {"main": (SCRIPT, True), "other": (b"keep;\r\n", False)}
        assert sync() == []
        sieve.put("other", b"discard;\r\n")
        sieve.activate("other")
        sync()
        assert scripts_of(server.csync, user) == {"main": (SCRIPT, False), "other": (b"discard;\r\n", True)}
        if isinstance(server, Cyrus):
            return  # a real server ignores the UNSIEVE other.bc that is all a real client then says
        sieve.activate("")
        sieve.delete("main")
        sync()
        assert scripts_of(server.csync, user) == {"other": (b"discard;\r\n", False)}
        assert sync() == []


@pytest.mark.every_release
def test_scripts_follow_as_a_mailbox(master: Cyrus, server: Server, user: str) -> None:
    master.create_user(user)
    with master.sieve(user) as sieve:
        sieve.put("main", SCRIPT)
        sieve.activate("main")
        replicate(master, server, user)
        sieve.put("main", b"discard;\r\n")
        sieve.activate("")
        replicate(master, server, user)
        assert scripts_of(server.csync, user) == {"main": (b"discard;\r\n", False)}
        sieve.delete("main")
        replicate(master, server, user)
    assert scripts_of(server.csync, user) == {}


@pytest.mark.every_release
def test_renames_of_a_mailbox_and_of_a_tree_follow(master: Cyrus, server: Server, user: str) -> None:
    master.create_user(user)
    with master.imap(user) as imap:
        for folder in ("a", "tree", "tree/x", "tree/x/y"):
            imap.ok("CREATE", f"INBOX/{folder}")
            imap.append(f"INBOX/{folder}", message(folder))
        replicate(master, server, user)
        imap.ok("RENAME", "INBOX/a", quote("INBOX/the new a"))
        imap.ok("RENAME", "INBOX/tree", "INBOX/forest")
        imap.ok("CREATE", "INBOX/a")
        with Proxy(server.csync, hide=("COMPRESS",)) as proxy:
            master.sync_client("-u", user, to=proxy.address).check()
            assert len(proxy.commands("APPLY RENAME")) == 4
            assert not proxy.commands("APPLY MESSAGE")
    replicate(master, server, user)
    names = set(state_of(server.csync, user)["mailboxes"])
    assert {f"user.{user}.{f}" for f in ("a", "the new a", "forest", "forest.x", "forest.x.y")} <= names


@pytest.mark.every_release
def test_a_deleted_folder_goes_below_deleted_and_can_be_recreated(
    master: Cyrus, server: Server, user: str
) -> None:
    master.create_user(user)
    with master.imap(user) as imap:
        imap.ok("CREATE", "INBOX/short")
        imap.append("INBOX/short", message("lived"))
        replicate(master, server, user)
        imap.ok("DELETE", "INBOX/short")
        imap.ok("CREATE", "INBOX/short")
        imap.append("INBOX/short", message("anew"))
    replicate(master, server, user)
    names = sorted(state_of(server.csync, user)["mailboxes"])
    assert names[0].startswith(f"DELETED.user.{user}.short.")
    assert names[1:] == [f"user.{user}", f"user.{user}.short"]


def test_a_large_message_and_a_large_mailbox(master: Cyrus, server: Server, user: str) -> None:
    master.create_user(user)
    with master.imap(user) as imap:
        imap.append("INBOX", message("fifty megabytes", 50 << 20))
        imap.ok("CREATE", "INBOX/many")
        imap.append("INBOX/many", message("the one"))
        imap.select("INBOX/many")
        while (count := imap.status("INBOX/many")["MESSAGES"]) < 10_000:
            imap.ok("UID", "COPY", f"1:{min(count, 10_000 - count)}", "INBOX/many")
    replicate(master, server, user)


def test_collections_of_calendars_and_addresses_are_opaque_mail(
    master: Cyrus, server: Server, user: str
) -> None:
    master.create_user(user)
    with master.imap() as admin:
        for folder, kind in (
            ("#calendars", "CALENDAR"),
            ("#addressbooks", "ADDRESSBOOK"),
            ("#files", "COLLECTION"),
        ):
            admin.ok("CREATE", f"user/{user}/{folder}", f"(TYPE {kind})")
    replicate(master, server, user)
    boxes = state_of(server.csync, user)["mailboxes"]
    kinds = {name.rsplit(".", 1)[1]: box["MBOXTYPE"] for name, box in boxes.items() if "#" in name}
    assert kinds == {"#calendars": b"c", "#addressbooks": b"a", "#files": b"b"}


@pytest.mark.every_release
def test_conversations_and_archives_agree_too(server: Server, user: str) -> None:
    with Cyrus.running(
        "modern", {"conversations": "1", "archive_enabled": "1", "archive_days": "1"}
    ) as modern:
        if isinstance(server, Cyrus):
            pytest.skip("a real replica without conversations does not keep XCONVMODSEQ")
        other = f"{user}b"
        fill_everything(modern, user, other)
        replicate(modern, server, user, other)
        assert int(state_of(server.csync, user)["mailboxes"][f"user.{user}"]["XCONVMODSEQ"])


@pytest.mark.every_release
def test_a_shared_mailbox_replicates_by_name(master: Cyrus, server: Server, user: str) -> None:
    shared = f"shared{user}"
    with master.imap() as admin:
        admin.ok("CREATE", shared)
        admin.ok("CREATE", f"{shared}/below")
        admin.ok("SETACL", shared, "anyone", "lrsip")
        admin.ok("SETACL", shared, "cyrus", "lrswipkxtecda")
        admin.append(shared, message("for all"))
    master.sync_client("-m", shared, f"{shared}/below", to=server.csync).check()
    nothing_to_do(master, server, "-m", shared, f"{shared}/below")


def test_a_partition_that_the_replica_has_not_is_a_clear_error(server: Server, user: str) -> None:
    with Cyrus.running("elsewhere", {"defaultpartition": "fast", "partition-fast": "{root}/fast"}) as there:
        there.create_user(user)
        with there.imap(user) as imap:
            imap.append("INBOX", message("on another partition"))
        assert there.sync_client("-u", user, to=server.csync).status != 0
        there.sync_client("-p", "default", "-u", user, to=server.csync).check()
    assert live(server, user) == [1]


class TestModes:
    """The real client's ways to be called."""

    @pytest.fixture
    def filled(self, fresh_master: Cyrus, user: str) -> str:
        fresh_master.create_user(user, f"{user}b")
        with fresh_master.imap(user) as imap:
            imap.append("INBOX", message("one"))
            imap.ok("SUBSCRIBE", "INBOX")
        return user

    @pytest.mark.parametrize("option", ["-O", "-N", "-L", "-z", "-l"])
    def test_an_option_changes_nothing_of_the_result(
        self, fresh_master: Cyrus, server: Server, filled: str, option: str
    ) -> None:
        fresh_master.sync_client(option, "-u", filled, to=server.csync).check()
        same(fresh_master, server, filled)

    def test_everybody(self, fresh_master: Cyrus, server: Server, filled: str) -> None:
        fresh_master.sync_client("-A", to=server.csync).check()
        for user in (filled, f"{filled}b"):
            same(fresh_master, server, user)
        nothing_to_do(fresh_master, server, "-A")

    def test_mailboxes_by_name(self, fresh_master: Cyrus, server: Server, filled: str) -> None:
        fresh_master.sync_client("-m", f"user/{filled}", to=server.csync).check()
        assert live(server, filled) == [1]
        nothing_to_do(fresh_master, server, "-m", f"user/{filled}")

    def test_meta_alone(self, fresh_master: Cyrus, server: Server, filled: str) -> None:
        fresh_master.sync_client("-u", filled, to=server.csync).check()
        with fresh_master.imap(filled) as imap:
            imap.ok("UNSUBSCRIBE", "INBOX")
        fresh_master.sync_client("-s", filled, to=server.csync).check()
        assert state_of(server.csync, filled)["subscriptions"] == []

    def test_the_log_once(self, fresh_master: Cyrus, server: Server, filled: str) -> None:
        ran: Finished = fresh_master.follow(server.csync)
        assert ran.status == 0, ran.describe()
        same(fresh_master, server, filled)
        assert not fresh_master.sync_log.exists()
