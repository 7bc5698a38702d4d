"""A real Cyrus as the master, whose own csync server makes the changes that a conflict asks for.

The scenarios of test_both_sides_changed run with it too. Here is what is its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from cyrus_sync.common.names import Owner
from tests.ports import free_port

from .beside import BesideCyrus
from .csync import differences, scripts_of, state_of
from .cyrus import Cyrus
from .fill import message
from .ours import Ours
from .proxy import Proxy
from .sides import OurSide, RealSide, Side, guids, side

SHARED = Owner("shared", "shared")
SETTINGS = {"conversations": "yes", "maxliteral": "0"}


@pytest.fixture(params=["real", "ours"])
def other_end(request: pytest.FixtureRequest, real_cyrus: None) -> Iterator[Side]:
    with side(request.param, "replica", {"sync_log": "0", **SETTINGS}) as end:
        yield end


@pytest.fixture
def ours(real_cyrus: None) -> Iterator[OurSide]:
    with Ours.installed("replica", {"maxliteral": "0"}) as installed:
        yield OurSide(installed)
        installed.verify()


@pytest.fixture
def master(real_cyrus: None) -> Iterator[BesideCyrus]:
    with BesideCyrus.running("master", SETTINGS) as cyrus:
        assert isinstance(cyrus, BesideCyrus)
        cyrus.settles = True
        yield cyrus


def conflict(master: BesideCyrus, replica: Side, user: str) -> None:
    """Both sides agreed about `user`, and then both changed his INBOX."""
    end = RealSide(master)
    end.create(user)
    end.append(user, "", message("one"), message("two"), message("three"))
    master.sync_client("-u", user, to=replica.csync).check()
    end.append(user, "", message("here"))
    end.flag(user, "", 1, "Here")
    replica.append(user, "", message("there"), message("there, too"))
    replica.flag(user, "", 2, "There")
    replica.expunge(user, "", 3)


def agree(master: BesideCyrus, replica: Side, user: str) -> None:
    """Both ends are the same, and another run changes neither."""
    here = _state(master, user)
    assert differences(here, _state(replica, user)) == []
    with Proxy(replica.csync, hide=("COMPRESS",)) as proxy:
        master.sync_client("-u", user, to=proxy.address).check()
        assert [line for line in proxy.commands("APPLY ") if "CAPABILITIES" not in line] == []
    assert differences(here, _state(master, user)) == []


def _state(end: Cyrus | Side, user: str) -> dict[str, Any]:
    return state_of(end.csync, user, expunged=False)


# -- what is settled


def _both_annotate(master: Side, replica: Side, user: str, folder: str) -> None:
    master.annotate(user, folder, 1, b"here")
    for text in (b"there", b"there again", b"and again"):
        replica.annotate(user, folder, 1, text)
    replica.annotate(user, folder, 2, b"there alone")
    master.append(user, folder, message("more"))


def _same_uids(master: Side, replica: Side, user: str, folder: str) -> None:
    for number in range(4):
        master.append(user, folder, message(f"here {number}"), flags="\\Seen Here")
        replica.append(user, folder, message(f"there {number}"), flags="\\Flagged There")


def _the_same_message_twice(master: Side, replica: Side, user: str, folder: str) -> None:
    master.append(user, folder, message("twin"), message("twin"), message("other"))
    replica.append(user, folder, message("twin"))


def _expunges_cross(master: Side, replica: Side, user: str, folder: str) -> None:
    master.expunge(user, folder, 1, 2)
    replica.expunge(user, folder, 2, 3)
    master.flag(user, folder, 3, "\\Flagged")
    replica.flag(user, folder, 1, "\\Flagged")
    replica.flag(user, folder, 4, "$Label1")
    replica.append(user, folder, message("there"))


def _large_and_many(master: Side, replica: Side, user: str, folder: str) -> None:
    replica.append(user, folder, message("large", 3_000_000), *(message(f"t{n}") for n in range(60)))
    master.append(user, folder, *(message(f"h{n}") for n in range(50)))


STORIES: dict[str, Callable[[Side, Side, str, str], None]] = {
    "annotated": _both_annotate,
    "sameuids": _same_uids,
    "twins": _the_same_message_twice,
    "expunged": _expunges_cross,
    "many": _large_and_many,
}
"""By the folder in which it happens."""


def tell_stories(master: Side, replica: Side, user: str) -> None:
    """Each in a folder of its own, which has some mail on both sides already."""
    master.create(user)
    for folder in STORIES:
        master.create(user, folder)
        master.append(user, folder, *(message(f"{folder} {number}") for number in range(5)))
    master.sync(replica.csync, "-u", user).check()
    for folder, story in STORIES.items():
        story(master, replica, user, folder)


@pytest.mark.every_release
def test_both_ends_come_to_one_state_and_have_every_message(
    master: BesideCyrus, other_end: Side, user: str
) -> None:
    end, replica = RealSide(master), other_end
    tell_stories(end, replica, user)
    before = [guids(one, user) for one in (end, replica)]
    master.sync_client("-u", user, to=replica.csync).check()
    agree(master, replica, user)
    after = guids(end, user)
    for folder in STORIES.keys() - {"expunged"}:
        name = f"user.{user}.{folder}"
        wanted = {guid for side in before for guid in side[name].values()}
        assert set(after[name].values()) == wanted
        if folder != "twins":
            assert len(after[name]) == len(wanted)


def test_a_user_sees_what_he_would_see_with_the_real_client(real_cyrus: None, user: str) -> None:
    found = []
    for kind in ("real", "beside"):
        with side(kind, "master", SETTINGS) as master, side("real", "replica", SETTINGS) as replica:
            tell_stories(master, replica, user)
            for _ in range(2):
                master.sync(replica.csync, "-u", user).check()
            seen = [_seen(end, user) for end in (master, replica)]
            assert differences(*seen) == []
            found.append(seen[0])
    assert differences(*found) == []


def _seen(end: Side, user: str) -> dict[str, Any]:
    """UIDs, messages, flags and annotations."""
    return {
        name: {
            uid: (
                record["GUID"],
                record["FLAGS"],
                [note[:3] for note in record["ANNOTATIONS"] if b"/cyrus-imapd/" not in note[0]],
            )
            for uid, record in mailbox["RECORD"].items()
        }
        for name, mailbox in state_of(end.csync, user, expunged=False)["mailboxes"].items()
    }


def test_a_session_that_is_open_at_the_master_is_told(master: BesideCyrus, ours: OurSide, user: str) -> None:
    conflict(master, ours, user)
    with master.imap(user) as imap:
        imap.select("INBOX")
        master.sync_client("-u", user, to=ours.csync).check()
        told = b"".join(imap.ok("NOOP"))
        assert b"EXPUNGE" in told
        assert b"6 EXISTS" in told or b"There" in told


def test_scripts_of_both_ends_live_on(master: BesideCyrus, user: str) -> None:
    with Cyrus.running("replica", {"sync_log": "0", **SETTINGS}) as replica:
        RealSide(master).create(user)
        with master.sieve(user) as sieve:
            sieve.put("main", b"keep;\r\n")
            sieve.activate("main")
        master.sync_client("-u", user, to=replica.csync).check()
        for end, name in ((master, "here"), (replica, "there")):
            with end.sieve(user) as sieve:
                sieve.put(name, b"discard;\r\n")
        master.sync_client("-u", user, to=replica.csync).check()
        agree(master, RealSide(replica), user)
        assert {"main", "here", "there"} == scripts_of(master.csync, user).keys()


def test_shared_mailboxes_are_settled_too(master: BesideCyrus, ours: OurSide, user: str) -> None:
    master.create_user(user)
    with master.imap() as admin:
        admin.ok("CREATE", "shared")
        admin.ok("SETACL", "shared", "anyone", "lrsipte")
    with master.imap(user) as imap:
        imap.append("shared", message("one"))
    master.sync_client("-m", "shared", to=ours.csync).check()
    with ours.ours.store.write(SHARED) as box:
        box.append("shared", [(message("there"), 1_700_000_000, "")])
    with master.imap(user) as imap:
        imap.append("shared", message("here"))
    master.sync_client("-m", "shared", to=ours.csync).check()
    with ours.ours.store.read(SHARED) as reader, master.imap(user) as imap:
        state = reader.mailbox("shared")
        assert state is not None
        there = [r.uid for batch in reader.records(state.uniqueid) for r in batch if not r.expunged]
        assert there == [1, 3, 4]
        imap.select("shared")
        assert b"".join(imap.ok("UID", "SEARCH", "ALL")).split()[2:] == [b"1", b"3", b"4"]


# -- who hears of it


@pytest.mark.covers("imapd.conf", "cyrus_csync")
@pytest.mark.parametrize("chain", ["no", "yes"])
def test_other_replicas_hear_of_what_was_changed_and_nothing_goes_round(
    ours: OurSide, user: str, chain: str
) -> None:
    settings = {"sync_log_channels": '"" north', "sync_log_chain": chain, **SETTINGS}
    with BesideCyrus.running("master", settings) as master:
        assert isinstance(master, BesideCyrus)
        master.settles = True
        conflict(master, ours, user)
        logs = [master.sync_log, master.root / "conf/sync/north/log"]
        for log in logs:
            log.unlink()
        master.sync_client("-u", user, to=ours.csync).check()
        for log in logs:
            assert f"MAILBOX user.{user}\n" in log.read_text()
        master.follow(ours.csync).check()
        assert not master.sync_log.exists(), "nothing was changed, so nothing was logged"


# -- without it, or when it is not to be had


@pytest.mark.covers("imapd.conf", "cyrus_csync_authname")
def test_what_cannot_be_settled_is_named_and_others_go_on(
    master: BesideCyrus, replica: Cyrus, user: str
) -> None:
    there = RealSide(replica)  # ours answers the later, the more often the same is refused
    conflict(master, there, user)
    RealSide(master).create(f"{user}x")
    master.set_password(user)
    own, away = master.own_csync(), f"127.0.0.1:{free_port()}"
    before = state_of(master.csync, user)
    for extra, reason in (
        (dict.fromkeys(own, ""), "name its own csync server in cyrus_csync"),
        ({"cyrus_csync_password": "another"}, "authentication failed"),
        ({"cyrus_csync_authname": ""}, "cyrus_csync_authname and cyrus_csync_password are not set"),
        ({"cyrus_csync_authname": user}, "is cyrus_csync_authname among its admins?"),
        ({"cyrus_csync": away}, f"cyrus_csync ({away}): not to be reached: "),
    ):
        RealSide(master).append(f"{user}x", "", message(reason))
        ran = master.sync_client("-u", user, f"{user}x", to=there.csync, extra=extra)
        assert ran.status == 1, ran.describe()
        assert f"mailbox=user.{user} " in ran.err
        assert "both sides have changed it (" in ran.err
        assert reason in ran.err
        assert guids(there, f"{user}x") == guids(RealSide(master), f"{user}x")
    assert differences(before, state_of(master.csync, user)) == []


# -- while mail arrives


@pytest.mark.every_release(without=("3.10",))
def test_a_mailbox_that_changes_all_the_time_is_settled_and_nothing_is_lost(
    master: BesideCyrus, ours: OurSide, user: str
) -> None:
    conflict(master, ours, user)
    delivered: list[bytes] = []
    stop = threading.Event()

    def hammer() -> None:
        with master.imap(user) as imap:
            imap.select("INBOX")
            while not stop.is_set():
                text = message(f"late {len(delivered)}")
                master.deliver(text, user)
                delivered.append(text)
                imap.store("2", f"{'+' if len(delivered) % 2 else '-'}FLAGS", "Busy")

    thread = threading.Thread(target=hammer)
    with ExitStack() as stack:
        thread.start()
        stack.callback(thread.join)
        stack.callback(stop.set)
        for _ in range(3):
            if master.sync_client("-u", user, to=ours.csync).status == 0:
                break
    master.sync_client("-u", user, to=ours.csync).check()
    agree(master, ours, user)
    assert len(guids(ours, user)[f"user.{user}"]) == 2 + 1 + 2 + len(delivered)
