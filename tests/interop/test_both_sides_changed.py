"""Both ends took changes before they met again: they converge, and no accepted message is lost.

Every scenario runs with the real client settling on our replica, ours on a real one, and ours on ours; and
with our client beside a real master, which is changed by its own csync server.
With INTEROP_SERVER=real it runs between two real ones, as the judge of the scenario itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from .csync import Csync, differences, state_of
from .fill import message
from .releases import Release
from .sides import BESIDE, PAIRS, Side, guids, side


@pytest.fixture(scope="module", params=[*PAIRS, *BESIDE])
def pair(request: pytest.FixtureRequest, real_cyrus: None) -> Iterator[tuple[Side, Side]]:
    """A master and a replica."""
    master, _, replica = request.param.partition("-")
    with ExitStack() as stack:
        yield stack.enter_context(side(master, "master")), stack.enter_context(side(replica, "replica"))


@pytest.fixture
def met(pair: tuple[Side, Side], user: str) -> tuple[Side, Side]:
    """A pair that agrees about `user`, who has three messages and a folder."""
    master, replica = pair
    master.create(user)
    master.create(user, "folder")
    master.append(user, "", message("first"), message("second"), message("third"))
    master.sync(replica.csync, "-u", user).check()
    return pair


def settle(pair: tuple[Side, Side], user: str) -> None:
    """One run settles it; the ends are the same, and a second run changes nothing."""
    master, replica = pair
    master.sync(replica.csync, "-u", user).check()
    agree(pair, user)
    before = state_of(replica.csync, user)
    master.sync(replica.csync, "-u", user).check()
    assert differences(before, state_of(replica.csync, user)) == []


def agree(pair: tuple[Side, Side], user: str) -> None:
    here, there = (_essence(end, user) for end in pair)
    assert differences(here, there) == []


def _essence(end: Side, user: str) -> dict[str, object]:
    """All that two ends must agree in: expunged records each end keeps as it likes."""
    return state_of(end.csync, user, expunged=False)


def guid(raw: bytes) -> bytes:
    return hashlib.sha1(raw).hexdigest().encode()


def inbox(end: Side, user: str) -> list[bytes]:
    return list(guids(end, user)[f"user.{user}"].values())


def flags(end: Side, user: str, uid: int) -> frozenset[bytes]:
    found: frozenset[bytes] = state_of(end.csync, user)["mailboxes"][f"user.{user}"]["RECORD"][uid]["FLAGS"]
    return found


@pytest.mark.every_release
def test_a_message_that_came_to_the_replica_alone_comes_back(met: tuple[Side, Side], user: str) -> None:
    master, replica = met
    replica.append(user, "", message("only there"))
    settle(met, user)
    assert guid(message("only there")) in inbox(master, user)
    assert len(inbox(master, user)) == 4


@pytest.mark.every_release
def test_two_messages_under_one_uid_both_live_on(met: tuple[Side, Side], user: str) -> None:
    master, replica = met
    master.append(user, "", message("here"))
    replica.append(user, "", message("there"))
    settle(met, user)
    assert {guid(message("here")), guid(message("there"))} <= set(inbox(master, user))
    assert len(inbox(master, user)) == 5
    assert 4 not in guids(master, user)[f"user.{user}"]


def test_many_messages_on_both_sides_all_live_on(met: tuple[Side, Side], user: str) -> None:
    master, replica = met
    here = [message(f"here {n}") for n in range(7)]
    there = [message(f"there {n}") for n in range(4)]
    master.append(user, "", *here)
    replica.append(user, "", *there)
    settle(met, user)
    assert {guid(raw) for raw in here + there} <= set(inbox(replica, user))
    assert len(inbox(replica, user)) == 14


@pytest.mark.every_release
def test_an_expunge_on_either_side_wins_over_a_flag(met: tuple[Side, Side], user: str) -> None:
    master, replica = met
    master.flag(user, "", 1, "\\Flagged")
    replica.expunge(user, "", 1)
    master.expunge(user, "", 2)
    replica.flag(user, "", 2, "\\Flagged")
    settle(met, user)
    assert list(guids(master, user)[f"user.{user}"]) == [3]


def test_the_later_change_of_flags_wins(met: tuple[Side, Side], user: str) -> None:
    master, replica = met
    master.flag(user, "", 1, "Here")
    for label in ("There", "There2", "There3", "There4"):
        replica.flag(user, "", 1, label)
    settle(met, user)
    assert flags(master, user, 1) == {b"There", b"There2", b"There3", b"There4"}


@pytest.mark.every_release
def test_an_expunge_and_an_append_cross(met: tuple[Side, Side], user: str) -> None:
    master, replica = met
    master.append(user, "", message("new here"))
    replica.expunge(user, "", 2, 3)
    settle(met, user)
    assert sorted(inbox(replica, user)) == sorted([guid(message("first")), guid(message("new here"))])


@pytest.mark.every_release(without=("3.2",))  # as a master it deletes what it does not know
def test_a_mailbox_that_is_only_on_the_replica_stays(met: tuple[Side, Side], user: str) -> None:
    master, replica = met
    replica.create(user, "theirs")
    replica.append(user, "theirs", message("kept"))
    master.append(user, "", message("more"))
    done = master.sync(replica.csync, "-u", user)
    assert done.status == (0 if master.kind == "real" else 1), done.describe()
    assert list(guids(replica, user)[f"user.{user}.theirs"].values()) == [guid(message("kept"))]
    assert guid(message("more")) in inbox(replica, user)


@pytest.mark.every_release(without=("3.2",))  # as a master it deletes what it does not know
def test_a_name_that_was_made_on_both_sides_keeps_the_messages_of_both(
    met: tuple[Side, Side], user: str
) -> None:
    master, replica = met
    for end, text in ((master, "made here"), (replica, "made there")):
        end.create(user, "same")
        end.append(user, "same", message(text))
    master.sync(replica.csync, "-u", user)
    everywhere = {g for end in met for box in guids(end, user).values() for g in box.values()}
    assert {guid(message("made here")), guid(message("made there"))} <= everywhere


def test_an_unused_name_on_the_replica_gives_way(met: tuple[Side, Side], release: Release, user: str) -> None:
    master, replica = met
    master.create(user, "same")
    master.append(user, "same", message("made here"))
    replica.create(user, "same")
    if replica.kind == "real" and release.number < (3, 6):  # there no name gives way, whoever the master is
        told = master.sync(replica.csync, "-u", user)
        assert told.status == 1
        assert master.kind == "real" or f"mailbox=user.{user}.same" in told.err
        return
    settle(met, user)
    assert list(guids(replica, user)[f"user.{user}.same"].values()) == [guid(message("made here"))]


@pytest.mark.every_release
def test_a_folder_deleted_here_takes_what_was_written_there_along_to_deleted(
    met: tuple[Side, Side], user: str
) -> None:
    master, replica = met
    replica.append(user, "folder", message("written there"))
    master.delete(user, "folder")
    master.sync(replica.csync, "-u", user)
    master.sync(replica.csync, "-u", user)
    kept = {
        record["GUID"]
        for end in met
        for mailbox in state_of(end.csync, user)["mailboxes"].values()
        for record in mailbox["RECORD"].values()
    }
    assert guid(message("written there")) in kept


def test_a_folder_renamed_on_both_sides_has_the_masters_name(met: tuple[Side, Side], user: str) -> None:
    master, replica = met
    master.append(user, "folder", message("in the folder"))
    master.sync(replica.csync, "-u", user).check()
    master.rename(user, "folder", "here")
    replica.rename(user, "folder", "there")
    replica.append(user, "there", message("written there"))
    settle(met, user)
    names = set(guids(replica, user))
    assert names == {f"user.{user}", f"user.{user}.here"}
    kept = set(guids(replica, user)[f"user.{user}.here"].values())
    assert kept == {guid(message("in the folder")), guid(message("written there"))}


def test_two_folders_that_took_each_others_name_on_the_replica_change_back(
    met: tuple[Side, Side], user: str
) -> None:
    master, replica = met
    master.create(user, "other")
    for folder in ("folder", "other"):
        master.append(user, folder, message(f"in {folder}"))
    master.sync(replica.csync, "-u", user).check()
    for old, new in (("folder", "spare"), ("other", "folder"), ("spare", "other")):
        replica.rename(user, old, new)
    if master.kind == "real":  # it refuses to touch either, whoever the replica is
        before = guids(replica, user)
        assert master.sync(replica.csync, "-u", user).status != 0
        assert guids(replica, user) == before
        return
    settle(met, user)
    assert list(guids(replica, user)[f"user.{user}.folder"].values()) == [guid(message("in folder"))]


def test_a_uidvalidity_that_was_raised_on_the_replica_holds_for_both(
    met: tuple[Side, Side], user: str
) -> None:
    master, replica = met
    before = _uidvalidity(replica, user)
    _raise_uidvalidity(replica, user, before + 1000)
    assert _uidvalidity(replica, user) == before + 1000
    master.append(user, "", message("more"))
    settle(met, user)
    assert _uidvalidity(master, user) == _uidvalidity(replica, user) == before + 1000
    assert len(inbox(master, user)) == 4


def _uidvalidity(end: Side, user: str) -> int:
    return int(state_of(end.csync, user)["mailboxes"][f"user.{user}"]["UIDVALIDITY"])


def _raise_uidvalidity(end: Side, user: str, value: int) -> None:
    """Only replication can do that to a mailbox: send it its own header with another value."""
    with Csync(end.csync) as csync:
        (header,) = csync.ok(f"GET MAILBOXES (user.{user})".encode())
        words = header.removeprefix(b"* MAILBOX ").strip()
        words = re.sub(rb"UIDVALIDITY \d+", b"UIDVALIDITY %d" % value, words)
        words = re.sub(rb" (SYNC_CRC|SYNC_CRC_ANNOT|XCONVMODSEQ|QUOTAROOT) \S+(?=[ )])", b"", words)
        csync.ok(b"APPLY MAILBOX " + words[:-1] + b" RECORD ())")


def test_a_mailbox_by_name_that_only_the_replica_has_is_left_alone(met: tuple[Side, Side], user: str) -> None:
    master, replica = met
    replica.create(user, "theirs")
    replica.append(user, "theirs", message("kept"))
    before = state_of(replica.csync, user)
    master.sync(replica.csync, "-m", f"user/{user}/theirs", f"user/{user}/folder")
    assert differences(before, state_of(replica.csync, user)) == []
