"""What a real server refuses or drops a line over holds back nothing else of its owner."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cyrus_sync.common.errors import UnknownFailure
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailWriter
from tests.deadlines import until

from .csync import differences, state_of
from .cyrus import Cyrus
from .fill import message
from .ours import Ours

JANUARY = 1704103200

REFUSED: dict[str, Callable[[MailWriter, str], None]] = {
    "more keywords than it has room for": lambda box, name: box.append(
        name, [(message("many"), JANUARY, " ".join(f"ours{n}" for n in range(90)))]
    ),
}
TAKEN: dict[str, Callable[[MailWriter, str], None]] = {
    "odd rights in an ACL": lambda box, name: box.set_acl(name, "anyone", "lrs0123"),
    "a long name in an ACL": lambda box, name: box.set_acl(name, "x" * 1023, "lrs"),
    "a name with blanks in an ACL": lambda box, name: box.set_acl(name, "a b", "lrs"),
    "an owner of an annotation called NIL": lambda box, name: box.annotate(name, "/comment", "NIL", b"x"),
    "a value NIL": lambda box, name: box.annotate(name, "/comment", "", b"NIL"),
    "an entry with a star": lambda box, name: box.annotate(name, "/com*ment%", "", b"x"),
    "a megabyte of a value": lambda box, name: box.annotate(name, "/comment", "", b"x" * (1 << 20)),
    "8-bit octets in a value": lambda box, name: box.annotate(name, "/comment", "", b"\xff\xfe\x00\r\n"),
    "an unknown special use": lambda box, name: box.annotate(name, "/specialuse", "joe", b"\\Frob"),
    "a period that is no number": lambda box, name: box.annotate(
        name, "/vendor/cmu/cyrus-imapd/expire", "", b"abc"
    ),
    "an annotation of a message": lambda box, name: box.annotate(name, "/comment", "", b"\xff", 1),
    "a subscription to nothing": lambda box, name: box.subscribe(f"{name}.a*b%"),
    "a subscription to another's": lambda box, _name: box.subscribe("user.nosuch.x"),
    "an endless quota": lambda box, name: box.set_quota(name, {"STORAGE": 2**31}),
    "a quota of nothing": lambda box, name: box.set_quota(name, {"STORAGE": 0}),
    "all resources": lambda box, name: box.set_quota(name, {"MESSAGE": 1, "X-NUM-FOLDERS": 2**31}),
}


def fill(ours: Ours, user: str) -> str:
    name = f"user.{user}.Work"
    with ours.store.write(Owner("user", user)) as box:
        for folder in (f"user.{user}", name, f"user.{user}.Zoo"):
            box.create(folder)
            box.append(folder, [(message("one"), JANUARY, "Job")])
    return name


def fill_and_refuse(ours: Ours, replica: Cyrus, user: str, why: str) -> str:
    name = fill(ours, user)
    ours.sync_client("-u", user, to=replica.csync).check()
    with replica.imap(user) as imap:  # keywords that nothing has any more keep their places
        imap.select("INBOX/Work")
        for first in range(0, 80, 20):
            words = " ".join(f"theirs{n}" for n in range(first, first + 20))
            imap.store("1", "+FLAGS", words)
            imap.store("1", "-FLAGS", words)
    ours.sync_client("-u", user, to=replica.csync).check()
    with ours.store.write(Owner("user", user)) as box:
        REFUSED[why](box, name)
        box.append(f"user.{user}.Zoo", [(message("two"), JANUARY, "")])
        box.subscribe(f"user.{user}.Zoo")
    return name


def but(name: str, side: Cyrus | Ours, user: str) -> dict[str, object]:
    state = state_of(side.csync, user)
    state["mailboxes"].pop(name, None)
    return state


@pytest.mark.parametrize("why", REFUSED)
def test_a_refused_mailbox_is_named_and_the_rest_is_done(replica: Cyrus, user: str, why: str) -> None:
    with Ours.installed("refused") as ours:
        name = fill_and_refuse(ours, replica, user, why)
        for _ in range(2):
            run = ours.sync_client("-u", user, to=replica.csync)
            assert run.status == 1 and name in run.err and "NO " in run.err, run.describe()
            assert differences(but(name, ours, user), but(name, replica, user)) == []


@pytest.mark.parametrize("why", REFUSED)
def test_a_rolling_client_goes_on_with_all_else_of_the_user(replica: Cyrus, user: str, why: str) -> None:
    with Ours.installed("refused") as ours:
        name = fill_and_refuse(ours, replica, user, why)
        rolling = ours.roll(to=replica.csync)
        listing = ours.root / "conf" / "sync" / "quarantine.yaml"
        until(lambda: listing.exists() and name in listing.read_text(), "the mailbox waits", 60)
        for number in range(3):
            with ours.store.write(Owner("user", user)) as box:
                box.append(f"user.{user}.Zoo", [(message(f"later {number}"), JANUARY, "")])
                box.append(name, [(message(f"not yet {number}"), JANUARY, "")])
            until(
                lambda: differences(but(name, ours, user), but(name, replica, user)) == [],
                "everything else is there",
                seconds=40,
            )
        assert f"only:\n    - {name}" in listing.read_text()
        rolling.stop()


@pytest.mark.parametrize("what", TAKEN)
def test_what_looks_odd_but_is_taken_goes_over(replica: Cyrus, user: str, what: str) -> None:
    with Ours.installed("odd") as ours:
        name = fill(ours, user)
        with ours.store.write(Owner("user", user)) as box:
            TAKEN[what](box, name)
        for _ in range(2):
            ours.sync_client("-u", user, to=replica.csync).check()
        assert differences(state_of(ours.csync, user), state_of(replica.csync, user)) == []


@pytest.mark.parametrize("identifier", ["%x*", "a%", 'a"b', "a\\b", "\u00fc", "x" * 1024, "a\nb", ""])
def test_nobody_gets_rights_whom_a_real_server_would_not_list_again(user: str, identifier: str) -> None:
    """Tried: it answers NO to the mailbox, and from then on to GET USER."""
    with Ours.installed("acl", serving=False) as ours:
        name = fill(ours, user)
        with pytest.raises(UnknownFailure), ours.store.write(Owner("user", user)) as box:
            box.set_acl(name, identifier, "lrs")


@pytest.mark.parametrize("entry", ["NIL", "comment", ""])
def test_an_entry_without_its_slash_is_not_set(user: str, entry: str) -> None:
    """A real server takes NIL and sends nil, which nobody can read as the name of an entry."""
    with Ours.installed("entry", serving=False) as ours:
        name = fill(ours, user)
        for mailbox, uid in ((name, 0), (name, 1), ("", 0)):
            with pytest.raises(UnknownFailure), ours.store.write(Owner("user", user)) as box:
                box.annotate(mailbox, entry, "", b"x", uid)
