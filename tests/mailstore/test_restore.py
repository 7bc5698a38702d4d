"""Restoring from one store into another: what is planned, what comes of it, and that it is never too much."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.errors import MailboxLocked
from cyrus_sync.common.model import Seen
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.common.stores.native.care.verify import verify
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.mailstore.restoring.carry import Carrier
from cyrus_sync.mailstore.restoring.plan import Addition, steps
from cyrus_sync.mailstore.restoring.show import described, summary
from cyrus_sync.mailstore.restoring.survey import RestorePlan, TargetSurvey
from cyrus_sync.mailstore.restoring.wishes import Names, Revive, Wish, wish_for_mailbox, wish_for_user
from tests.sync_client.engine.lines import InlineThreads, Line
from tests.sync_client.engine.world import (
    ALICE,
    INBOX,
    World,
    content,
    deliver,
    finish,
    guid_of,
    live,
    names,
    records,
    state,
    write,
)

DELETING = {
    "RENAME",
    "UNMAILBOX",
    "UNUSER",
    "EXPUNGE",
    "UNQUOTA",
    "UNSUB",
    "UNANNOTATION",
    "UNSIEVE",
    "FORCE",
}


class Restoring(World):
    """`master` is the store that is restored from, `replica` the target."""

    def restore(self, *mailboxes: str, to: str = "", revive: Revive | None = None) -> RestorePlan:
        """Plan and carry out: these mailboxes, or all of alice. What was sent is in `line.events`."""
        self.connect()
        survey = TargetSurvey(self.master, self.line, InlineThreads(), revive=revive, clock=self.clock)
        plan = self.plan(survey, *mailboxes, to=to)
        self.line.events.clear()
        carrier = Carrier(self.master, survey, InlineThreads(), self.clock)
        for box in plan.boxes:
            finish(carrier.mailbox(box))
        if plan.meta is not None:
            finish(carrier.meta(plan.meta, plan.source))
        assert not {str(event[0]) for event in self.line.events} & DELETING
        return plan

    def plan(self, survey: TargetSurvey, *mailboxes: str, to: str = "") -> RestorePlan:
        if not mailboxes:
            wish = wish_for_user(self.master, "alice", to or "alice")
            assert wish is not None
            return finish(survey.plan_user(wish, "alice"))
        return RestorePlan([finish(survey.plan_mailbox(self.wish(name, to or name))) for name in mailboxes])

    def wish(self, name: str, target: str) -> Wish:
        with self.master.read(owner_of(name)) as reader:
            found = reader.mailbox(name)
            assert found is not None
            return wish_for_mailbox(reader, found, target)

    def verify(self) -> None:
        for owner in self.replica.owners():
            assert list(verify(self.replica, owner)) == []


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Restoring]:
    found = Restoring(tmp_path)
    with write(found.master) as box:
        box.create(INBOX)
        box.create("user.alice.Work")
    deliver(found.master, INBOX, "one", "two", "three", flags="\\Seen")
    deliver(found.master, "user.alice.Work", "work")
    yield found
    found.verify()
    found.close()


def fill_the_rest(store: NativeStore) -> None:
    with write(store) as box:
        box.expunge(INBOX, [2])
        box.annotate(INBOX, "/comment", "", b"mine")
        box.annotate(INBOX, "/comment", "alice", b"a note", uid=1)
        box.set_acl("user.alice.Work", "bob", "lrs")
        box.set_quota(INBOX, {"STORAGE": 5000, "MESSAGE": 100})
        box.subscribe("user.alice.Work")
        box.subscribe("user.bob.Shared")
        box.set_seen(Seen("abcdefabcdefabcdefabcdef", 1_600_000_000, 3, 1_600_000_000, "1:3"))
        box.put_script("main", b"keep;\r\n")
        box.activate_script("main")
        box.create("user.alice.Old")
        box.delete("user.alice.Old")


def count(world: Restoring) -> dict[str, int]:
    kinds = [str(event[0]) for event in world.line.events]
    return {kind: kinds.count(kind) for kind in kinds}


# -- a user


@pytest.mark.covers("mailstore: commands and options", "restore")
def test_a_user_comes_out_complete_and_equal_into_an_empty_server(world: Restoring) -> None:
    fill_the_rest(world.master)
    world.restore()
    assert content(world.replica) == content(world.master)
    assert records(world.replica, INBOX) == records(world.master, INBOX), "expunged ones too"


def test_afterwards_sync_client_finds_nothing_to_do(world: Restoring) -> None:
    fill_the_rest(world.master)
    world.restore()
    events = world.sync()
    assert [event for event in events if not event[0].startswith("GET")] == []


@pytest.mark.parametrize("sieve_mailbox", [True, False])
def test_a_second_run_finds_nothing_to_do(world: Restoring, sieve_mailbox: bool) -> None:
    world.sieve_mailbox = sieve_mailbox
    fill_the_rest(world.master)
    assert not world.restore().idle
    plan = world.restore()
    assert plan.idle
    assert [event for event in world.line.events if not event[0].startswith("GET")] == []
    assert list(described(plan, str)) == []


def test_scripts_travel_by_commands_where_the_server_has_no_sieve_mailbox(world: Restoring) -> None:
    world.sieve_mailbox = False
    fill_the_rest(world.master)
    world.restore()
    assert ("SIEVE", "alice", "main.script") in world.line.events
    assert content(world.replica)["scripts"] == content(world.master)["scripts"]


@pytest.mark.covers("mailstore: commands and options", "restore")
def test_only_what_is_lacking_is_given_to_a_user_who_is_there(world: Restoring) -> None:
    fill_the_rest(world.master)
    world.restore()
    with write(world.replica) as box:
        box.expunge(INBOX, [1])
        box.set_flags(INBOX, [3], add=["\\Answered"], remove=["\\Seen"])
        box.set_quota(INBOX, {"STORAGE": 9})
        box.subscribe("user.alice.Work", False)
        box.set_acl("user.alice.Work", "bob", "")
        box.annotate(INBOX, "/comment", "", b"theirs")
    deliver(world.replica, INBOX, "only there")
    world.restore()
    assert live(world.replica, INBOX) == {3: guid_of("three"), 4: guid_of("only there"), 5: guid_of("one")}
    assert records(world.replica, INBOX)[2].flags == "\\Answered", "what is there stays as it is"
    back = records(world.replica, INBOX)[-1]
    assert (back.flags, [a.value for a in back.annotations]) == ("\\Seen", [b"a note"])
    there = content(world.replica)
    assert there["quotas"] == {INBOX: {"STORAGE": 9}}
    assert set(there["subscriptions"]) == {"user.alice.Work", "user.bob.Shared"}
    assert [a.value for a in state(world.replica, INBOX).annotations] == [b"theirs"]
    assert "bob" not in state(world.replica, "user.alice.Work").acl
    assert world.restore().idle


@pytest.mark.covers("mailstore: commands and options", "restore --as")
def test_another_user_gets_a_copy_that_is_his_own(world: Restoring) -> None:
    fill_the_rest(world.master)
    world.restore()
    world.restore(to="carol")
    assert names(world.replica, "carol") == ["user.carol", "user.carol.#sieve", "user.carol.Work"]
    copy, original = state(world.replica, "user.carol", "carol"), state(world.replica, INBOX)
    assert copy.uniqueid != original.uniqueid
    assert copy.acl.startswith("carol\t"), "and no entry for alice"
    assert "alice" not in copy.acl
    assert live(world.replica, "user.carol", "carol") == live(world.replica, INBOX)
    with world.replica.read(Owner("user", "carol")) as reader:
        assert reader.quotas()[0].root == "user.carol"
        assert set(reader.meta(with_sieve=False).subscriptions) == {"user.carol.Work", "user.bob.Shared"}
    assert world.restore(to="carol").idle


def test_a_script_of_the_same_name_there_is_left_alone(world: Restoring) -> None:
    with write(world.replica) as box:
        box.create(INBOX)
        box.put_script("main", b"discard;\r\n")
        box.activate_script("main")
    with write(world.master) as box:
        box.put_script("main", b"keep;\r\n")
        box.put_script("spare", b"stop;\r\n")
        box.activate_script("spare")
    world.restore()
    with world.replica.read(ALICE) as reader:
        assert reader.sieve_content("main.script") == b"discard;\r\n"
        assert reader.sieve_content("spare.script") == b"stop;\r\n"
        assert [s.filename for s in reader.sieve_scripts() if s.active] in (
            ["main.bc"],
            ["main.script", "main.bc"],
        )
    assert world.restore().idle


# -- a mailbox


def test_a_mailbox_alone_comes_back_as_it_was(world: Restoring) -> None:
    world.restore()
    with write(world.replica) as box:
        box.delete("user.alice.Work", delayed=False)
    world.restore("user.alice.Work")
    assert count(world)["MAILBOX"] == 1
    assert records(world.replica, "user.alice.Work") == records(world.master, "user.alice.Work")
    assert state(world.replica, "user.alice.Work").uniqueid == state(world.master, "user.alice.Work").uniqueid


def test_where_its_uniqueid_lives_on_below_deleted_it_becomes_a_copy(world: Restoring) -> None:
    world.restore()
    with write(world.replica) as box:
        box.delete("user.alice.Work")
    plan = world.restore("user.alice.Work")
    assert plan.boxes[0].new_identity
    back, original = state(world.replica, "user.alice.Work"), state(world.master, "user.alice.Work")
    assert back.uniqueid != original.uniqueid
    assert back.uidvalidity > original.uidvalidity
    assert list(live(world.replica, "user.alice.Work").values()) == [guid_of("work")]
    assert "MESSAGE" not in count(world), "RESERVE finds it in the deleted mailbox"
    assert world.restore("user.alice.Work").idle


def test_a_mailbox_may_come_back_under_another_name(world: Restoring) -> None:
    world.restore()
    world.restore(INBOX, to="user.alice.Found")
    found = state(world.replica, "user.alice.Found")
    assert found.uniqueid != state(world.replica, INBOX).uniqueid
    assert live(world.replica, "user.alice.Found") == live(world.master, INBOX)
    assert world.restore(INBOX, to="user.alice.Found").idle


def test_a_folder_for_a_user_whom_the_target_does_not_know_is_trouble(world: Restoring) -> None:
    plan = world.restore("user.alice.Work")
    assert "no user alice" in plan.boxes[0].trouble
    assert plan.idle
    assert world.line.events == []


def test_a_mailbox_of_another_type_is_not_mixed_in(world: Restoring) -> None:
    with write(world.replica) as box:
        box.create(INBOX)
        box.create("user.alice.Work", mbtype="c")
    plan = world.restore("user.alice.Work")
    assert plan.boxes[0].trouble
    assert live(world.replica, "user.alice.Work") == {}


def test_new_messages_keep_their_uids_where_the_target_has_not_come_that_far(world: Restoring) -> None:
    world.restore()
    deliver(world.master, INBOX, "four", "five")
    world.restore(INBOX)
    assert live(world.replica, INBOX) == live(world.master, INBOX)


def test_a_message_that_was_expunged_there_comes_back_under_a_new_uid(world: Restoring) -> None:
    world.restore()
    with write(world.replica) as box:
        box.expunge(INBOX, [2])
    before = state(world.replica, INBOX).highestmodseq
    world.restore(INBOX)
    assert live(world.replica, INBOX) == {1: guid_of("one"), 3: guid_of("three"), 4: guid_of("two")}
    assert records(world.replica, INBOX)[-1].modseq > before


def test_a_shared_mailbox_is_restored_like_any_other(world: Restoring) -> None:
    board = Owner("shared", "board")
    with world.master.write(board) as box:
        box.create("board")
        box.append("board", [(b"Subject: x\r\n\r\nx\r\n", 1_600_000_000, "")])
    world.restore("board")
    with world.master.read(board) as ours, world.replica.read(board) as theirs:
        mine, copy = ours.mailbox("board"), theirs.mailbox("board")
        assert mine is not None
        assert copy is not None
        assert (mine.uniqueid, mine.sync_crc) == (copy.uniqueid, copy.sync_crc)
    assert world.restore("board").idle


# -- expunged messages


def expunge_at(world: Restoring, uid: int, seconds: int) -> int:
    """Expunge in the INBOX `seconds` later; when that was."""
    world.clock.now += seconds
    with write(world.master) as box:
        box.expunge(INBOX, [uid])
    return int(world.clock.now)


def test_expunged_messages_come_back_under_new_uids_in_a_new_mailbox_too(world: Restoring) -> None:
    expunge_at(world, 2, 10)
    plan = world.restore(revive=Revive())
    assert live(world.replica, INBOX) == {1: guid_of("one"), 3: guid_of("three"), 4: guid_of("two")}
    assert [r.uid for r in records(world.replica, INBOX) if r.expunged] == [2]
    assert "bring back 1 expunged message" in " ".join(described(plan, str))
    assert world.restore(revive=Revive()).idle


@pytest.mark.covers("mailstore: commands and options", "restore --expunged")
def test_only_what_was_expunged_in_the_given_time_comes_back(world: Restoring) -> None:
    world.restore()
    first, second, third = (expunge_at(world, uid, 1000) for uid in (1, 2, 3))
    world.sync()
    world.restore(INBOX, revive=Revive(since=first + 1, until=third - 1))
    assert list(live(world.replica, INBOX).values()) == [guid_of("two")]
    assert first < second < third


@pytest.mark.covers("mailstore: commands and options", "restore --expunged")
def test_without_being_asked_for_nothing_expunged_comes_back(world: Restoring) -> None:
    expunge_at(world, 2, 10)
    world.restore()
    assert guid_of("two") not in live(world.replica, INBOX).values()


# -- trouble


def test_a_mailbox_that_changes_meanwhile_is_planned_anew(world: Restoring) -> None:
    world.restore()
    with write(world.replica) as box:
        box.expunge(INBOX, [2])
    world.connect()
    survey = TargetSurvey(world.master, world.line, InlineThreads(), clock=world.clock)
    plan = world.plan(survey, INBOX)
    deliver(world.replica, INBOX, "came in between")
    finish(Carrier(world.master, survey, InlineThreads(), world.clock).mailbox(plan.boxes[0]))
    assert live(world.replica, INBOX) == {
        1: guid_of("one"),
        3: guid_of("three"),
        4: guid_of("came in between"),
        5: guid_of("two"),
    }


def test_a_refusal_says_which_mailbox(world: Restoring) -> None:
    class Locked(Line):
        def __getattribute__(self, name: str) -> Any:
            if name == "mailbox":
                raise MailboxLocked
            return super().__getattribute__(name)

    line = Locked(world.store_replica())
    survey = TargetSurvey(world.master, line, InlineThreads(), clock=world.clock)
    plan = world.plan(survey)
    with pytest.raises(MailboxLocked, match=r"mailbox=user\.alice"):
        finish(Carrier(world.master, survey, InlineThreads(), world.clock).mailbox(plan.boxes[0]))


def test_a_large_addition_goes_in_steps_of_bounded_size() -> None:
    small = [Addition(uid, uid, 10, False) for uid in range(1, 12_001)]
    assert [len(part) for part in steps(small)] == [5000, 5000, 2000]
    large = [Addition(uid, uid, 40 << 20, False) for uid in range(1, 4)]
    assert [len(part) for part in steps(large)] == [1, 1, 1]
    assert [one for part in steps(small) for one in part] == small


def test_the_plan_says_how_much_it_is(world: Restoring) -> None:
    world.connect()
    survey = TargetSurvey(world.master, world.line, InlineThreads(), clock=world.clock)
    plan = world.plan(survey)
    assert list(described(plan, str)) == [
        "user.alice: create with 3 messages",
        "user.alice.Work: create with 1 message",
    ]
    size = sum(r.size for name in (INBOX, "user.alice.Work") for r in records(world.master, name))
    assert summary(plan) == f"2 mailboxes, 4 messages, {size} octets"


def test_names_of_a_user_become_another_users() -> None:
    map_ = Names("zoe.b", "ann")
    assert map_.mailbox("user.zoe^b.Work") == "user.ann.Work"
    assert map_.mailbox("user.zoe^bc") == "user.zoe^bc"
    assert map_.acl("zoe.b\tlrs\tbob\tlr\t") == "ann\tlrs\tbob\tlr\t"
