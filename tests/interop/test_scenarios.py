"""What Cyrus's own suite does to a pair of servers, done to one of theirs, of each release, and one of ours.

After every scenario both ends say the same, and another run has nothing to do. With INTEROP_SERVER=real both
ends are real: a scenario that fails then expects what no pair does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.deadlines import until

from .csync import differences, scripts_of, state_of
from .cyrus import Address, Cyrus
from .fill import SCRIPT, message
from .imap import Imap, quote
from .judge import Server, server_under_test
from .proxy import Proxy
from .releases import Release
from .sides import PAIRS, Side, guids, side

pytestmark = pytest.mark.every_release


@pytest.fixture(scope="module")
def server(real_cyrus: None) -> Iterator[Server]:
    """The replica, shared by the tests of this module."""
    with server_under_test("replica", {"maxliteral": "0"}) as replica:
        yield replica


def changes(proxy: Proxy) -> list[str]:
    return [line for line in proxy.commands("APPLY ") if not line.startswith("APPLY CAPABILITIES")]


def same(master: Cyrus, server: Server, user: str) -> None:
    """Both ends say the same, and a run for the user has nothing to do."""
    assert differences(state_of(master.csync, user), state_of(server.csync, user)) == []
    with Proxy(server.csync, hide=("COMPRESS",)) as proxy:
        master.sync_client("-u", user, to=proxy.address).check()
        assert changes(proxy) == []


# -- folders, with intermediate names between them

LONG = "/".join(f"this is a really long name {digit} ".ljust(148, digit) for digit in "123")


def _rename_an_intermediate(imap: Imap) -> None:
    imap.command("CREATE", "INBOX/a")  # 3.2 makes a mailbox of it, later ones say that it exists
    imap.ok("RENAME", "INBOX/a", "INBOX/new")


def _rename_above_two_intermediates(imap: Imap) -> None:
    imap.ok("CREATE", "INBOX/folderA/folderB/folderC")
    imap.append("INBOX/folderA/folderB/folderC", message("deep"))
    imap.ok("RENAME", "INBOX/folderA/folderB/folderC", "INBOX/folderZ/folderB/folderC")
    imap.command("CREATE", "INBOX/folderZ")
    imap.ok("RENAME", "INBOX/folderZ", "INBOX/folderY")


def _rename_below_another(imap: Imap) -> None:
    imap.ok("RENAME", "INBOX/a/b", "INBOX/x/y/z")
    imap.ok("CREATE", "INBOX/a/b/c/d")
    imap.ok("DELETE", "INBOX/x/y/z")


def _delete_under_long_names(imap: Imap) -> None:
    imap.ok("CREATE", quote(f"INBOX/{LONG}/foo"))
    imap.ok("DELETE", quote(f"INBOX/{LONG}/foo"))


def _delete_and_create_again(imap: Imap) -> None:
    imap.append("INBOX/a/b", message("first life"))
    imap.ok("DELETE", "INBOX/a/b")
    imap.ok("CREATE", "INBOX/a/b")
    imap.append("INBOX/a/b", message("second life"))


def _rename_and_create_again(imap: Imap) -> None:
    imap.append("INBOX/a/b", message("moves along"))
    imap.ok("RENAME", "INBOX/a/b", "INBOX/c")
    imap.ok("CREATE", "INBOX/a/b")


STEPS: list[Callable[[Imap], None]] = [
    _rename_an_intermediate,
    _rename_above_two_intermediates,
    _rename_below_another,
    _delete_under_long_names,
    _delete_and_create_again,
    _rename_and_create_again,
]


@pytest.mark.parametrize("by", ["the log", "the user"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__.strip("_"))
def test_folders_follow(
    fresh_master: Cyrus, server: Server, user: str, step: Callable[[Imap], None], by: str
) -> None:
    fresh_master.create_user(user)
    with fresh_master.imap(user) as imap:
        imap.ok("CREATE", "INBOX/a/b")
        fresh_master.follow(server.csync).check()
        step(imap)
    if by == "the log":
        fresh_master.follow(server.csync).check()
    else:
        fresh_master.sync_client("-u", user, to=server.csync).check()
        fresh_master.follow(server.csync).check()
    same(fresh_master, server, user)


@pytest.mark.every_release(without=("3.6", "3.10", "3.12"))  # they delete no parent
def test_an_intermediate_takes_the_place_of_a_mailbox_that_is_deleted(
    fresh_master: Cyrus, server: Server, user: str
) -> None:
    fresh_master.create_user(user)
    with fresh_master.imap(user) as imap:
        imap.ok("CREATE", "INBOX/a")
        imap.ok("CREATE", "INBOX/a/b")
        imap.append("INBOX/a", message("in the parent"))
        fresh_master.follow(server.csync).check()
        imap.ok("DELETE", "INBOX/a")
    fresh_master.follow(server.csync).check()
    same(fresh_master, server, user)


# -- scripts, where each end has its own


@pytest.mark.parametrize("there", ["the same", "another", "a newer one"])
def test_scripts_of_the_master_win(fresh_master: Cyrus, server: Server, user: str, there: str) -> None:
    """Whatever came to the replica before."""
    fresh_master.create_user(user)
    with fresh_master.sieve(user) as sieve:
        sieve.put("main", SCRIPT)
        sieve.activate("main")
        fresh_master.sync_client("-u", user, to=server.csync).check()
        if there == "another":
            sieve.put("main", b"discard;\r\n")
        elif there == "a newer one":
            sieve.put("newer", b"keep;\r\n")
            sieve.activate("newer")
            sieve.delete("main")
    fresh_master.sync_client("-u", user, to=server.csync).check()
    here = scripts_of(fresh_master.csync, user)
    assert scripts_of(server.csync, user) == here
    assert here[{"a newer one": "newer"}.get(there, "main")][1], "it is active"


# -- either end is ours


@pytest.fixture(scope="module", params=PAIRS)
def pair(request: pytest.FixtureRequest, real_cyrus: None) -> Iterator[tuple[Side, Side]]:
    """A master and a replica; real ones count conversations."""
    master, _, replica = request.param.partition("-")
    settings = {"conversations": "1", "sync_log": "1"}
    with ExitStack() as stack:
        yield (
            stack.enter_context(side(master, "master", settings)),
            stack.enter_context(side(replica, "replica", settings)),
        )


def sync(master: Side, to: Address, user: str) -> list[str]:
    """One run; what it changed at the replica."""
    with Proxy(to, hide=("COMPRESS",)) as proxy:
        master.sync(proxy.address, "-u", user).check()
        return changes(proxy)


def test_after_a_settled_conflict_with_conversations_all_is_quiet(pair: tuple[Side, Side], user: str) -> None:
    master, replica = pair
    master.create(user)
    master.append(user, "", message("one"), message("two"), message("three"))
    assert sync(master, replica.csync, user)
    for end, text in ((master, "here"), (replica, "there")):
        end.append(user, "", message(text))
    replica.flag(user, "", 1, "\\Flagged")
    replica.expunge(user, "", 2)
    assert sync(master, replica.csync, user)
    assert sync(master, replica.csync, user) == []
    kept = guids(master, user)
    assert kept == guids(replica, user)
    assert len(kept[f"user.{user}"]) == 4
    with side(replica.kind, "fresh", {"conversations": "1"}) as fresh:
        assert sync(master, fresh.csync, user)
        assert sync(master, fresh.csync, user) == []
        assert guids(fresh, user) == kept == guids(master, user), "no message was renumbered"


def test_a_user_is_renamed_and_only_the_new_name_is_asked_for(
    pair: tuple[Side, Side], release: Release, user: str
) -> None:
    """What the old name leaves behind is for the log; the new one has all that there is."""
    master, replica = pair
    new = f"{user}new"
    master.create(user)
    master.create(user, "foo")
    master.append(user, "", *(message(f"mail {n}") for n in range(6)))
    master.append(user, "foo", *(message(f"mail {n}") for n in range(3)))
    sync(master, replica.csync, user)
    master.rename_user(user, new)
    # Real ones do it by the log alone before 3.12, whoever the replica is.
    if master.kind == "real" and release.number < (3, 12):
        assert master.sync(replica.csync, "-u", new).status == 1
        return
    assert sync(master, replica.csync, new)
    assert sync(master, replica.csync, new) == []
    assert guids(master, new) == guids(replica, new)
    assert len(guids(replica, new)[f"user.{new}"]) == 6


def test_a_master_that_lost_everything_gets_it_back(pair: tuple[Side, Side], user: str) -> None:
    """The replica goes on as the master, and the other end takes from it what it has not."""
    master, replica = pair
    master.create(user)
    master.create(user, "folder")
    master.append(user, "folder", message("one"), message("two"), flags="\\Seen")
    master.annotate(user, "folder", 1, b"a note")
    master.subscribe(user, "folder")
    sync(master, replica.csync, user)
    replica.append(user, "folder", message("while it was the master"))
    assert sync(replica, master.csync, user)
    assert differences(state_of(master.csync, user), state_of(replica.csync, user)) == []
    assert sync(replica, master.csync, user) == []
    assert sync(master, replica.csync, user) == []


@pytest.mark.every_release(without=("3.2", "3.6"))  # they know no archive at csync
def test_a_replica_that_archives_is_asked_for_it(real_cyrus: None, user: str) -> None:
    settings = {"archive_enabled": "1", "archive_days": "1", "archivepartition-default": "{root}/archive"}
    with side("ours", "master") as master, Cyrus.running("archive", settings) as archive:
        master.create(user)
        master.append(user, "", message("one"), message("two"))
        with Proxy(archive.csync) as proxy:
            master.sync(proxy.address, "-a", "-u", user).check()
            assert "* ENABLED (SIEVE-MAILBOX REPLICATION-ARCHIVE)" in proxy.conversations[0].answers()
        assert differences(state_of(master.csync, user), state_of(archive.csync, user)) == []


def test_annotations_of_a_message_are_settled(pair: tuple[Side, Side], user: str) -> None:
    master, replica = pair
    master.create(user)
    master.append(user, "", message("one"), message("two"))
    sync(master, replica.csync, user)
    master.annotate(user, "", 1, b"from here")
    for value in (b"from there", b"from there again"):
        replica.annotate(user, "", 2, value)
    assert sync(master, replica.csync, user)
    assert sync(master, replica.csync, user) == []
    assert (
        differences(
            state_of(master.csync, user, expunged=False), state_of(replica.csync, user, expunged=False)
        )
        == []
    )


def test_a_rolling_client_ends_cleanly_when_its_server_is_gone(fresh_master: Cyrus, user: str) -> None:
    with server_under_test("leaving") as leaving:
        fresh_master.create_user(user)
        rolling = fresh_master.roll("-d", "1", "-o", to=leaving.csync)
        until(lambda: f"user.{user}" in state_of(leaving.csync, user)["mailboxes"], "the user arrives")
        leaving.stop()
        with fresh_master.imap(user) as imap:
            imap.ok("CREATE", "INBOX/a/b/c")
        until(lambda: rolling.process.poll() is not None, "the client has ended", 30)
        assert rolling.process.returncode == 0
