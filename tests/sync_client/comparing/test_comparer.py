"""What differs is named, whatever it is; what does not is not; and nothing is changed."""

from __future__ import annotations

import pytest

from cyrus_sync.common.errors import InvalidUser
from cyrus_sync.common.model import Seen
from cyrus_sync.common.names import Owner
from cyrus_sync.common.protocol.commands import HEAL, USERS, VERIFY
from cyrus_sync.sync_client.comparing.advice import advise
from cyrus_sync.sync_client.comparing.comparer import NO_SHARED, NO_USERS, Depth
from cyrus_sync.sync_client.comparing.findings import (
    CHANGED,
    DAMAGED_HERE,
    DAMAGED_THERE,
    HERE,
    ONLY_HERE,
    ONLY_THERE,
    OTHER,
    THERE,
)
from cyrus_sync.sync_client.engine.withheld import Withheld
from tests.common.stores.test_healing import spoil
from tests.sync_client.comparing.looking import Looking
from tests.sync_client.engine.world import INBOX, World, content, deliver, finish, guid_of, write

A, B = "user.alice.a", "user.alice.b"
SHARED = Owner("shared", "news")


@pytest.mark.parametrize("depth", Depth)
@pytest.mark.parametrize("capabilities", [frozenset(), frozenset({VERIFY})])
def test_equal_ends_have_no_difference_at_any_depth(
    alice: World, depth: Depth, capabilities: frozenset[str]
) -> None:
    looking = Looking(alice, depth, capabilities)
    found = looking.user()
    assert found.equal and not looking.waited
    assert found.counts.mailboxes == 1 and found.counts.owners == 1
    assert bool(found.counts.records) == (depth is not Depth.CRCS)
    assert bool(found.counts.messages) == (depth is Depth.MESSAGES)
    assert {event[0] for event in alice.line.events} <= {
        "GET USER",
        "GET FULLMAILBOX",
        "GET FETCH",
        "GET XVERIFY",
    }


def test_every_kind_of_difference_is_named(alice: World) -> None:
    with write(alice.master) as writer:
        writer.create(A)
        writer.subscribe(A)
        writer.set_quota(INBOX, {"STORAGE": 1})
        writer.set_seen(Seen("id", 1, 1, 1, "1"))
        writer.set_flags(INBOX, [1], add=["\\Seen"])
        writer.set_acl(INBOX, "bob", "lr")
    with write(alice.replica) as writer:
        writer.create(B)
        writer.subscribe(B)
    found = Looking(alice).user()
    boxes = {box.name: box for box in found.mailboxes if not box.equal}
    assert {name: box.where for name, box in boxes.items()} == {
        "user/alice": "both",
        "user/alice/a": HERE,
        "user/alice/b": THERE,
    }
    inbox = boxes["user/alice"]
    assert {"highestmodseq", "sync_crc", "acl"} <= set(inbox.fields)
    (changed,) = inbox.shown(CHANGED)
    assert changed.uid == 1 and changed.detail["flags"] == ("\\Seen", "")
    assert {(one.what, one.name) for one in found.others} == {
        ("subscription", "user/alice/a"),
        ("subscription", "user/alice/b"),
        ("quota", INBOX),
        ("seen state of the mailbox", "id"),
    }


def test_what_each_side_has_alone_is_told_by_uid_and_guid(alice: World) -> None:
    here = deliver(alice.master, INBOX, "only here", "and this")
    deliver(alice.replica, INBOX, "only there")
    box = Looking(alice).user().mailboxes[0]
    (other,) = box.shown(OTHER)
    assert (other.uid, other.guid) == (here[0], guid_of("only here"))
    assert other.detail["guid_of_both"] == (guid_of("only here").hex(), guid_of("only there").hex())
    assert [(one.uid, one.guid) for one in box.shown(ONLY_HERE)] == [(here[1], guid_of("and this"))]
    deliver(alice.replica, INBOX, "2", "3")
    box = Looking(alice).user().mailboxes[0]
    assert [one.guid for one in box.shown(ONLY_THERE)] == [guid_of("3")]


@pytest.mark.parametrize(
    ("settles", "typed"), [(False, "sync_client -S master.example -u alice"), (True, "-u alice")]
)
def test_who_brings_both_together_depends_on_who_may_change_the_master(
    alice: World, settles: bool, typed: str
) -> None:
    deliver(alice.replica, INBOX, "only there")
    looking = Looking(alice, of_cyrus=True, settles=settles)
    advice = advise(looking.user(), looking.terms(True))
    assert [line.where for line in advice] == [HERE if settles else THERE]
    assert advice[0].command.endswith(typed)


def test_expunged_messages_need_not_be_on_both_sides(alice: World) -> None:
    deliver(alice.master, INBOX, "short-lived")
    with write(alice.master) as writer:
        writer.expunge(INBOX, [writer.mailbox(INBOX).last_uid])  # type: ignore[union-attr]
    box = Looking(alice).user().mailboxes[0]
    assert box.fields and not box.messages


def test_what_only_the_replica_has_is_told_with_its_reason(alice: World) -> None:
    with write(alice.master) as writer:
        writer.create(A)
        writer.create(B)
    alice.sync()
    with write(alice.master) as writer:
        writer.delete(A, delayed=False)
    alice.master.rename(B, "user.alice.c", log=True)
    with write(alice.replica) as writer:
        writer.create("user.alice.d")
    notes = {box.name: (box.where, box.note) for box in Looking(alice).user().mailboxes if not box.equal}
    assert notes == {
        "user/alice/a": (THERE, "deleted here, and not yet there"),
        "user/alice/d": (THERE, "never deleted here"),
        "user/alice/c": ("both", ""),
    }


def test_scripts_and_names_and_partitions_are_compared(alice: World) -> None:
    alice.sieve_mailbox = False
    with write(alice.master) as writer:
        writer.put_script("main", b"keep;\r\n")
        writer.activate_script("main")
        writer.create(A)
    assert {one.name for one in Looking(alice).user().others} == {"main.script", "main.bc"}
    alice.sync()
    assert Looking(alice).user().equal
    alice.replica.rename(A, B, partition="ssd", log=False)
    box = next(box for box in Looking(alice).user().mailboxes if not box.equal)
    assert box.fields["name"] == ("user/alice/a", "user/alice/b")
    assert box.fields["partition"] == ("default", "ssd")
    assert Looking(alice, options={"partition": "ssd"}).user().mailboxes[1].fields.keys() == {"name"}


def test_mail_that_is_on_its_way_is_no_difference(alice: World) -> None:
    deliver(alice.master, INBOX, "just now")
    looking = Looking(alice, meanwhile=alice.sync)
    assert looking.user().equal
    assert looking.waited == [1.0]


def test_what_stays_different_is_looked_at_three_times(alice: World) -> None:
    deliver(alice.master, INBOX, "never sent")
    looking = Looking(alice)
    assert not looking.user().equal
    assert looking.waited == [1.0, 3.0]


def test_a_user_who_is_on_neither_side_is_an_error_only_if_somebody_typed_the_name(alice: World) -> None:
    with pytest.raises(InvalidUser):
        Looking(alice, options={"strict": True}).user("zoe")
    assert Looking(alice).user("zoe").equal


@pytest.mark.parametrize("capabilities", [frozenset(), frozenset({VERIFY})], ids=["fetched", "read there"])
def test_messages_that_are_damaged_on_the_disk_are_found_at_either_end(
    alice: World, capabilities: frozenset[str]
) -> None:
    uids = deliver(alice.master, INBOX, "bad here", "bad there", "good")
    alice.sync()
    spoil(alice.master, "bad here")
    spoil(alice.replica, "bad there")
    assert Looking(alice, Depth.RECORDS, capabilities).user().equal, "the records do not show it"
    looking = Looking(alice, Depth.MESSAGES, capabilities)
    found = looking.user()
    box = found.mailboxes[0]
    assert [(one.uid, one.guid) for one in box.shown(DAMAGED_HERE)] == [(uids[0], guid_of("bad here"))]
    assert [(one.uid, one.guid) for one in box.shown(DAMAGED_THERE)] == [(uids[1], guid_of("bad there"))]
    assert found.counts.messages == 5 and not looking.waited
    assert not box.fields and not box.count(ONLY_HERE)


def test_a_run_for_the_user_mends_damage_at_both_ends(alice: World) -> None:
    deliver(alice.master, INBOX, "bad here", "bad there")
    alice.sync()
    spoil(alice.master, "bad here")
    spoil(alice.replica, "bad there")
    ours = frozenset({VERIFY, HEAL})
    advice = Looking(alice, Depth.MESSAGES, ours).user().advice
    assert [one.command for one in advice] == ["sync_client -u alice"]
    line = alice.connect()
    line.replica.capabilities |= ours
    finish(alice.engine(withheld=Withheld(None)).user("alice"))
    assert Looking(alice, Depth.MESSAGES, ours).user().equal


def test_shared_mailboxes_are_compared_with_their_quota(world: World) -> None:
    for store in (world.master, world.replica):
        with store.write(SHARED) as writer:
            writer.create("news")
    with world.master.write(SHARED) as writer:
        writer.create("news.here")
        writer.set_quota("news", {"STORAGE": 5})
    with world.replica.write(SHARED) as writer:
        writer.create("news.there")
    looking = Looking(world, capabilities=frozenset({VERIFY}))
    finish(looking.comparer().mailboxes(["news"]))
    (found,) = looking.found
    assert {box.name: box.where for box in found.mailboxes if box.where != "both"} == {
        "news": HERE,  # two that were made apart
        "news/here": HERE,
    } | {"news": THERE, "news/there": THERE}
    assert [one.what for one in found.others] == ["quota"]


def test_users_and_shared_mailboxes_that_only_the_replica_has_are_found(alice: World) -> None:
    with write(alice.replica, "zoe") as writer:
        writer.create("user.zoe")
    with alice.replica.write(SHARED) as writer:
        writer.create("news")
    looking = Looking(alice, capabilities=frozenset({USERS, VERIFY}))
    finish(looking.comparer().alone("", ["alice"]))
    assert [found.name for found in looking.found] == ["zoe", "shared:news"]
    assert [box.where for found in looking.found for box in found.mailboxes] == [THERE, THERE]
    assert not looking.limits.said
    finish(Looking(alice, capabilities=frozenset({USERS, VERIFY})).comparer().alone("user.b", ["alice"]))


def test_a_replica_that_lists_nobody_is_spoken_of_in_the_report(alice: World) -> None:
    looking = Looking(alice)
    finish(looking.comparer().alone("", ["alice"]))
    assert list(looking.limits.said) == [NO_USERS, NO_SHARED]


def test_nothing_is_changed_at_either_end(alice: World) -> None:
    deliver(alice.master, INBOX, "only here")
    deliver(alice.replica, INBOX, "only there", "twice")
    before = content(alice.master), content(alice.replica)
    Looking(alice, Depth.MESSAGES, frozenset({VERIFY})).user()
    assert (content(alice.master), content(alice.replica)) == before
    assert all(event[0].startswith("GET ") for event in alice.line.events)
