"""How a master settles what others did to his owners: records by the rules; mailboxes and scripts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.model import Record
from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.oplog.masters import Base
from cyrus_sync.multisite.replay.arbitrate_records import Ours, plan_arbitration
from cyrus_sync.sync_client.engine.conflict import Action, Adopt, Renumber, Rewrite
from tests.multisite.world import Site, carry, exchange_until_quiet, family_of

BASE = Base(modseq=100, last_uid=10)
BOB = Owner("user", "bob")


def record(uid: int, message: str = "", **more: object) -> Record:
    guid = hashlib.sha1((message or str(uid)).encode()).digest()
    made = Record(
        uid=uid, modseq=50, last_updated=1000, flags="", expunged=False, internaldate=900, size=9,
        guid=guid, savedate=950, createdmodseq=uid,
    )  # fmt: skip
    return made._replace(**more)  # type: ignore[arg-type]


class Mailbox:
    """A reader that has nothing but records."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    def records(self, uniqueid: str, *, above_uid: int = 0) -> Iterable[list[Record]]:
        yield [one for one in self._records if one.uid > above_uid]


def settled(mine: Sequence[Record], theirs: Sequence[Record], last_uid: int = 10) -> list[Action]:
    ours = Ours(Mailbox(mine), "id", BASE, theirs)  # type: ignore[arg-type]
    return plan_arbitration(ours, theirs, BASE, last_uid)


# -- records of the base


@pytest.mark.parametrize("who", ["master", "other"])
def test_an_expunge_wins(who: str) -> None:
    mine = record(3, modseq=150, flags="\\Seen", expunged=who == "master", last_updated=9000)
    theirs = record(3, modseq=120, flags="\\Flagged", expunged=who == "other")
    (act,) = settled([mine], [theirs])
    assert act == Rewrite(mine._replace(expunged=True))


def test_what_both_have_expunged_needs_nothing() -> None:
    assert settled([record(3, expunged=True)], [record(3, modseq=120, expunged=True)]) == []


def test_a_record_that_the_master_left_alone_since_the_base_is_what_the_other_made_of_it() -> None:
    mine = record(3, flags="\\Seen", modseq=100, last_updated=9000)
    (act,) = settled([mine], [record(3, flags="\\Flagged", modseq=120, last_updated=1)])
    assert isinstance(act, Rewrite) and act.record.flags == "\\Flagged"


@pytest.mark.parametrize(("his", "flags"), [(1999, "\\Seen"), (2000, "\\Flagged"), (2001, "\\Flagged")])
def test_of_two_changes_the_later_one_counts(his: int, flags: str) -> None:
    mine = record(3, flags="\\Seen", modseq=101, last_updated=2000)
    (act,) = settled([mine], [record(3, flags="\\Flagged", modseq=120, last_updated=his)])
    assert isinstance(act, Rewrite) and act.record.flags == flags


def test_a_record_of_the_base_that_is_not_here_any_more_was_cleaned_up() -> None:
    assert settled([], [record(3, modseq=120, flags="\\Seen")]) == []


def test_a_record_of_the_base_with_another_message_is_not_touched() -> None:
    assert settled([record(3, "mine")], [record(3, "his", modseq=120, flags="\\Seen")]) == []


def test_what_is_equal_is_told_again_all_the_same() -> None:
    mine = record(3, flags="\\Seen", modseq=150)
    assert settled([mine], [record(3, flags="\\Seen", modseq=120)]) == [Rewrite(mine)]


# -- born there


def test_a_message_that_was_born_there_keeps_its_uid_where_that_is_free() -> None:
    theirs = record(11, modseq=120)
    assert settled([], [theirs], last_uid=10) == [Adopt(theirs, keep_uid=True)]


def test_a_message_that_was_born_there_is_never_taken_for_one_that_was_cleaned_up() -> None:
    theirs = record(11, modseq=1)
    (act,) = settled([], [theirs], last_uid=40)
    assert isinstance(act, Adopt) and not act.keep_uid


def test_one_that_was_expunged_before_it_was_heard_of_does_not_come() -> None:
    assert settled([], [record(11, modseq=120, expunged=True)], last_uid=40) == []


def test_two_messages_of_one_uid_both_get_new_ones() -> None:
    mine, theirs = record(11, "mine", modseq=150), record(11, "his", modseq=120)
    acts = settled([mine], [theirs], last_uid=11)
    assert {type(act) for act in acts} == {Renumber, Adopt, Rewrite}
    assert [act.record.expunged for act in acts if isinstance(act, Rewrite)] == [True]


def test_a_message_and_a_copy_of_it_born_apart_under_one_uid_are_two() -> None:
    mine = record(11, "same", modseq=150, createdmodseq=150)
    theirs = record(11, "same", modseq=120, createdmodseq=120, savedate=951)
    acts = settled([mine], [theirs], last_uid=11)
    assert {type(act) for act in acts} == {Renumber, Adopt, Rewrite}


def test_a_message_that_was_settled_before_is_known_again_under_its_new_uid() -> None:
    mine = record(15, "11", modseq=150, createdmodseq=11)
    theirs = record(11, modseq=130, flags="\\Seen", last_updated=3000)
    (act,) = settled([mine], [theirs], last_uid=15)
    assert isinstance(act, Rewrite) and (act.record.uid, act.record.flags) == (15, "\\Seen")


def test_one_that_was_settled_before_and_expunged_there_is_expunged() -> None:
    mine = record(15, "11", modseq=150, createdmodseq=11)
    (act,) = settled([mine], [record(11, modseq=130, expunged=True)], last_uid=15)
    assert act == Rewrite(mine._replace(expunged=True))


def some(least: int, most: int) -> st.SearchStrategy[list[Record]]:
    one = st.builds(
        lambda uid, message, modseq, expunged, created: record(
            uid, message, modseq=modseq, expunged=expunged, createdmodseq=created
        ),
        st.integers(least, most),
        st.sampled_from("abcdef"),
        st.integers(90, 140),
        st.booleans(),
        st.sampled_from([7, 8]),
    )
    return st.lists(one, max_size=7).map(
        lambda records: sorted({r.uid: r for r in records}.values(), key=lambda r: r.uid)
    )


@given(some(1, 16), some(1, 16))
def test_no_message_that_nobody_expunged_is_lost(mine: list[Record], theirs: list[Record]) -> None:
    last_uid = max([10, *(one.uid for one in mine)])
    held: dict[int, Record] = {one.uid: one for one in mine}
    free = max([last_uid, *(one.uid for one in theirs)])
    for act in settled(mine, theirs, last_uid):
        if isinstance(act, Adopt) and act.keep_uid:
            assert act.record.uid > last_uid
            held[act.record.uid] = act.record
        elif isinstance(act, Adopt | Renumber):
            free += 1
            held[free] = act.record._replace(uid=free)
        elif isinstance(act, Rewrite):
            assert held[act.record.uid].guid == act.record.guid
            held[act.record.uid] = act.record
    left = {one.guid for one in held.values() if not one.expunged}
    expunged = {one.guid for one in [*mine, *theirs] if one.expunged}
    for one in mine:
        assert one.expunged or one.guid in left | expunged
    for one in theirs:
        assert one.expunged or one.uid <= BASE.last_uid or one.guid in left | expunged


# -- mailboxes and scripts, between sites


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    """Boston is the master of Bob, who has an INBOX and a folder with two messages."""
    sites = family_of(tmp_path, "boston", "sanfran")
    with sites[0].store() as store, store.write(BOB) as writer:
        writer.create("user.bob")
        writer.create("user.bob.Work")
        writer.append("user.bob.Work", [(b"Subject: 1\r\n\r\n", 1, ""), (b"Subject: 2\r\n\r\n", 2, "")])
    exchange_until_quiet(sites, tmp_path)
    return sites


def equal(sites: list[Site], directory: Path) -> None:
    exchange_until_quiet(sites, directory)
    assert len({site.dump() for site in sites}) == 1


def append(site: Site, mailbox: str, raw: bytes) -> bytes:
    with site.store() as store, store.write(BOB) as writer:
        writer.append(mailbox, [(raw, 5, "")])
    return hashlib.sha1(raw).digest()


def test_a_deletion_is_carried_out_where_only_the_deleter_has_changed_the_mailbox(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran = sites
    append(sanfran, "user.bob.Work", b"Subject: 3\r\n\r\n")
    carry(sanfran, boston, tmp_path / "travel")
    with sanfran.store() as store, store.write(BOB) as writer:
        writer.delete("user.bob.Work", delayed=False)
    equal(sites, tmp_path)
    assert "user.bob.Work" not in boston.guids("bob")


def test_a_deletion_is_refused_where_somebody_else_has_changed_the_mailbox_since(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran = sites
    new = append(boston, "user.bob.Work", b"Subject: from boston\r\n\r\n")
    with sanfran.store() as store, store.write(BOB) as writer:
        writer.delete("user.bob.Work", delayed=False)
    carry(sanfran, boston, tmp_path / "travel")
    assert any("it stays" in line for line in boston.heard)
    equal(sites, tmp_path)
    for site in sites:
        assert new in site.guids("bob")["user.bob.Work"] and len(site.guids("bob")["user.bob.Work"]) == 3


def test_a_deletion_is_refused_where_a_third_has_changed_the_mailbox_since(tmp_path: Path) -> None:
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    boston, sanfran, bangalore = sites
    with boston.store() as store, store.write(BOB) as writer:
        writer.create("user.bob")
        writer.create("user.bob.Work")
    exchange_until_quiet(sites, tmp_path)
    append(sanfran, "user.bob.Work", b"Subject: from sanfran\r\n\r\n")
    carry(sanfran, boston, tmp_path / "travel")
    new = append(bangalore, "user.bob.Work", b"Subject: from bangalore\r\n\r\n")
    carry(bangalore, boston, tmp_path / "travel")
    with sanfran.store() as store, store.write(BOB) as writer:
        writer.delete("user.bob.Work", delayed=False)
    equal(sites, tmp_path)
    assert new in sanfran.guids("bob")["user.bob.Work"]


def test_changes_of_a_mailbox_that_was_deleted_here_do_not_bring_it_back_but_new_mail_does(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran = sites
    with sanfran.store() as store, store.write(BOB) as writer:
        writer.set_flags("user.bob.Work", [1], add=["\\Seen"])
    with boston.store() as store, store.write(BOB) as writer:
        writer.delete("user.bob.Work", delayed=False)
    equal(sites, tmp_path)
    assert list(boston.guids("bob")) == ["user.bob"]


def test_new_mail_brings_back_a_mailbox_that_was_deleted_here(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran = sites
    new = append(sanfran, "user.bob.Work", b"Subject: new\r\n\r\n")
    with boston.store() as store, store.write(BOB) as writer:
        writer.delete("user.bob.Work", delayed=False)
    equal(sites, tmp_path)
    assert new in boston.guids("bob")["user.bob.Work"]


def test_the_deletion_of_a_user_elsewhere_leaves_who_has_new_mail_here(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran = sites
    new = append(boston, "user.bob", b"Subject: new\r\n\r\n")
    with sanfran.store() as store, store.write(BOB) as writer:
        writer.delete("user.bob", delayed=False)
    equal(sites, tmp_path)
    assert sanfran.guids("bob")["user.bob"] == [new]


def test_the_deletion_of_a_user_elsewhere_is_carried_out(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran = sites
    with sanfran.store() as store, store.write(BOB) as writer:
        writer.delete("user.bob", delayed=False)
    equal(sites, tmp_path)
    assert boston.guids("bob") == {}


def test_header_fields_that_were_changed_elsewhere_are_taken_over_field_by_field(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran = sites
    with boston.store() as store, store.write(BOB) as writer:
        writer.annotate("user.bob.Work", "/comment", "", b"from boston")
    with sanfran.store() as store, store.write(BOB) as writer:
        writer.set_acl("user.bob.Work", "zoe", "lr")
    equal(sites, tmp_path)
    with boston.store() as store, store.read(BOB) as reader:
        state = reader.mailbox("user.bob.Work")
    assert state is not None and "zoe\tlr" in state.acl
    assert [note.value for note in state.annotations] == [b"from boston"]


def test_a_rename_elsewhere_is_the_masters_rename(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran = sites
    with sanfran.store() as store:
        store.rename("user.bob.Work", "user.bob.Play", log=True)
    carry(sanfran, boston, tmp_path / "travel")
    assert "user.bob.Play" in boston.guids("bob")
    equal(sites, tmp_path)


def scripts(site: Site) -> dict[str, bytes | None]:
    with site.store() as store, store.read(BOB) as reader:
        names = [one.filename for one in reader.sieve_scripts() if one.filename.endswith(".script")]
        return {name: reader.sieve_content(name) for name in names}


def put_script(site: Site, name: str, content: bytes) -> None:
    with site.store() as store, store.write(BOB) as writer:
        writer.put_script(name, content)


def test_a_script_that_was_born_twice_is_there_twice(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran = sites
    put_script(boston, "main", b"# boston\r\nkeep;\r\n")
    put_script(sanfran, "main", b"# sanfran\r\nkeep;\r\n")
    equal(sites, tmp_path)
    assert scripts(boston) == {
        "main.script": b"# boston\r\nkeep;\r\n",
        "sanfran_main.script": b"# sanfran\r\nkeep;\r\n",
    }
    warning = 'multitool: Warning: To avoid name conflict,\ngenerated name "sanfran_main" ...'
    assert warning in boston.heard


def test_a_script_that_was_born_twice_with_the_same_content_is_one(sites: list[Site], tmp_path: Path) -> None:
    for site in sites:
        put_script(site, "main", b"keep;\r\n")
    equal(sites, tmp_path)
    assert scripts(sites[1]) == {"main.script": b"keep;\r\n"}


def test_a_script_that_was_changed_elsewhere_is_replaced(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran = sites
    put_script(boston, "main", b"keep;\r\n")
    exchange_until_quiet(sites, tmp_path)
    put_script(sanfran, "main", b"discard;\r\n")
    equal(sites, tmp_path)
    assert scripts(boston) == {"main.script": b"discard;\r\n"}


@pytest.mark.parametrize("with_mail", [False, True], ids=["goes with him", "comes back with new mail"])
def test_what_else_was_changed_elsewhere_of_a_user_who_is_deleted_here(
    sites: list[Site], tmp_path: Path, with_mail: bool
) -> None:
    boston, sanfran = sites
    with sanfran.store() as store, store.write(BOB) as writer:
        writer.set_quota("user.bob", {"STORAGE": 5000})
        writer.subscribe("user.bob.Work")
        writer.put_script("main", b"keep;\r\n")
    with sanfran.member() as member:
        member.record()
    if with_mail:
        append(sanfran, "user.bob", b"Subject: new\r\n\r\n")
    with boston.store() as store, store.write(BOB) as writer:
        writer.delete("user.bob", delayed=False)
    equal(sites, tmp_path)
    for site in sites:
        with site.store() as store, store.read(BOB) as reader:
            assert len(reader.quotas()) == len(reader.sieve_scripts()) == with_mail
            assert len(reader.meta(with_sieve=False).subscriptions) == with_mail
