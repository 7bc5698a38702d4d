"""A server comes back from a backup: it gets back what it had told, and loses nothing it got meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.cutting import ExportOptions
from cyrus_sync.multisite.errors import MultisiteError, SiteSealed
from cyrus_sync.multisite.mastership import hand_over
from cyrus_sync.multisite.replay.replay import Replay
from cyrus_sync.multisite.restoring import begin, open_again
from cyrus_sync.multisite.working import Work
from tests.multisite.mail import (
    BOB,
    append,
    create,
    expunge,
    flag,
    guid_of,
    header_of,
    message,
    rename,
    row,
    same_everywhere,
)
from tests.multisite.world import Site, carry, exchange_until_quiet, family_of


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    """Three in step; Bob's master is Boston, Eve's is Sanfran."""
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    create(sites[0], "user.bob", "user.bob.Work")
    create(sites[1], "user.eve")
    append(sites[0], "user.bob", message("of old"))
    exchange_until_quiet(sites, tmp_path)
    return sites


def back_up(site: Site) -> Callable[[], None]:
    """A backup of all that a server has; what is returned puts it back."""
    copy = site.directory.with_name(f"{site.name}.backup")
    shutil.copytree(site.directory, copy)

    def put_back() -> None:
        shutil.rmtree(site.directory)
        shutil.copytree(copy, site.directory)

    return put_back


def restore(site: Site, *asked: str) -> None:
    with site.member() as member:
        begin(member, [member.family.find(name) for name in asked])


def sealed(site: Site) -> bool:
    with site.member() as member:
        return member.sealed


def all_mail(site: Site) -> set[bytes]:
    return {guid for user in ("bob", "eve", "zoe") for guids in site.guids(user).values() for guid in guids}


@pytest.mark.parametrize("who", [0, 1], ids=["his master", "another"])
def test_nothing_is_lost_whatever_was_done_after_the_backup(
    sites: list[Site], tmp_path: Path, who: int
) -> None:
    boston, _, bangalore = sites
    lost = sites[who]
    put_back = back_up(lost)
    expected = {guid_of(message("of old"))}
    for site in sites:
        for user in ("bob", "eve"):
            expected.update(append(site, f"user.{user}", message(f"{user} at {site.name} before")))
    flag(boston, "user.bob", 1, "\\Seen")
    rename(boston, "user.bob.Work", "user.bob.Office")
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        expected.update(append(site, "user.bob", message(f"bob at {site.name} after")))
    carry(lost, bangalore, tmp_path / "t")
    put_back()
    restore(lost, *(site.name for site in sites if site is not lost))
    expected.update(append(lost, "user.bob", message("new mail meanwhile")))
    assert sealed(lost)
    for _ in range(2):
        for site in sites:
            if site is not lost:
                carry(lost, site, tmp_path / "t")
                carry(site, lost, tmp_path / "t")
    assert not sealed(lost)
    exchange_until_quiet(sites, tmp_path, most=20)
    assert same_everywhere(sites)
    assert all_mail(lost) == expected
    assert "user.bob.Office" in lost.guids("bob") and "user.bob.Work" not in lost.guids("bob")


def test_while_it_is_sealed_it_tells_nothing_and_takes_in(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    put_back = back_up(boston)
    append(boston, "user.bob", message("after the backup"))
    exchange_until_quiet(sites, tmp_path)
    there = row(sanfran)["boston"]
    put_back()
    restore(boston, "sanfran", "bangalore")
    mine = row(boston)["boston"]
    append(boston, "user.bob", message("meanwhile"))
    (asking,) = boston.export_to(sanfran, tmp_path / "t")
    header = header_of(asking)
    with boston.member() as member:
        assert header.sender_incarnation == member.myself.incarnation > 0
        with pytest.raises(SiteSealed):
            member.check_unsealed()
    assert row(boston)["boston"] == mine < there
    assert all(one.end < one.start for one in header.ranges.values())
    assert sanfran.import_from([asking]).refused == {}
    assert any("was restored from a backup" in line for line in sanfran.heard)
    assert row(sanfran, boston)["boston"] == mine, "its word is taken for what it has"
    carry(sanfran, boston, tmp_path / "t")
    assert row(boston)["boston"] == there, "its own operations came back"
    assert sealed(boston), "Bangalore has not answered"


def test_numbers_are_never_given_twice(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, bangalore = sites
    put_back = back_up(boston)
    for number in range(3):
        append(boston, "user.bob", message(number))
        carry(boston, sanfran, tmp_path / "t")
    put_back()
    restore(boston, "sanfran", "bangalore")
    append(boston, "user.bob", message("other"))
    for site in (sanfran, bangalore):
        carry(boston, site, tmp_path / "t")
        carry(site, boston, tmp_path / "t")
    exchange_until_quiet(sites, tmp_path)
    told = []
    for site in sites:
        with site.member() as member:
            ours = member.family.find("boston").id
            told.append([(e.id, e.line) for e in member.log.operations.lacking({}) if e.origin == ours])
    assert told[0] == told[1] == told[2]


def test_where_nobody_else_answers_the_administrator_opens_it(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, bangalore = sites
    put_back = back_up(boston)
    (after,) = append(boston, "user.bob", message("after the backup"))
    exchange_until_quiet(sites, tmp_path)
    put_back()
    restore(boston, "sanfran", "bangalore")
    (new,) = append(boston, "user.bob", message("meanwhile"))
    carry(boston, sanfran, tmp_path / "t")
    carry(sanfran, boston, tmp_path / "t")
    assert sealed(boston)
    with boston.member() as member:
        open_again(member, Work(member, print).after_restore)
    assert not sealed(boston)
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert {after, new} <= all_mail(bangalore)


def test_what_came_back_is_kept_where_it_becomes_the_master_before_there_is_an_answer(
    sites: list[Site], tmp_path: Path
) -> None:
    """Sanfran gets it back from Bangalore, and Boston hands Bob over before it hears of it."""
    boston, sanfran, bangalore = sites
    put_back = back_up(sanfran)
    new = append(sanfran, "user.bob", message("told to bangalore alone"))
    carry(sanfran, bangalore, tmp_path / "t")
    put_back()
    restore(sanfran, "boston", "bangalore")
    for sibling in (boston, bangalore):
        carry(sanfran, sibling, tmp_path / "t")
        carry(sibling, sanfran, tmp_path / "t")
    assert not sealed(sanfran)
    with boston.member() as member:
        hand_over(member, BOB, member.family.find("sanfran"))
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert set(new) <= all_mail(sanfran)


def test_what_came_back_is_kept_also_where_it_was_said_as_the_master_that_it_never_was(
    sites: list[Site], tmp_path: Path
) -> None:
    """Zoe is born at Boston, too: Boston is her master, and hands her over before it hears of Sanfran's."""
    boston, sanfran, bangalore = sites
    put_back = back_up(sanfran)
    create(sanfran, "user.zoe", "user.zoe.Sent")
    new = append(sanfran, "user.zoe.Sent", message("told to bangalore alone"))
    carry(sanfran, bangalore, tmp_path / "t")
    put_back()
    restore(sanfran, "boston", "bangalore")
    create(boston, "user.zoe")
    for sibling in (boston, bangalore):
        carry(sanfran, sibling, tmp_path / "t")
        carry(sibling, sanfran, tmp_path / "t")
    assert not sealed(sanfran)
    with boston.member() as member:
        hand_over(member, Owner("user", "zoe"), member.family.find("sanfran"))
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert set(new) <= all_mail(sanfran)


def test_what_was_expunged_after_the_backup_stays_expunged(sites: list[Site], tmp_path: Path) -> None:
    boston, *others = sites
    put_back = back_up(boston)
    expunge(boston, "user.bob", 1)
    exchange_until_quiet(sites, tmp_path)
    put_back()
    restore(boston, *(site.name for site in others))
    for site in others:
        carry(boston, site, tmp_path / "t")
        carry(site, boston, tmp_path / "t")
    exchange_until_quiet(sites, tmp_path)
    assert all(site.guids("bob")["user.bob"] == [] for site in sites) and same_everywhere(sites)


def test_somebody_has_to_be_asked(sites: list[Site]) -> None:
    with pytest.raises(MultisiteError, match="no other replica"):
        restore(sites[0], "boston")
    assert not sealed(sites[0])


def test_a_second_restore_is_a_later_incarnation(sites: list[Site]) -> None:
    found = []
    for _ in range(2):
        restore(sites[0], "sanfran")
        with sites[0].member() as member:
            found.append(member.myself.incarnation)
    assert found[0] < found[1]


def test_a_replica_that_knows_what_it_has_lost_is_sent_all_of_it(sites: list[Site], tmp_path: Path) -> None:
    """Of an answer only the first packet arrives, which says how far the others are; then it asks again."""
    boston, sanfran, _ = sites
    put_back = back_up(boston)
    expected = {append(boston, "user.bob", message(f"told {n}", 4000))[0] for n in range(9)}
    exchange_until_quiet(sites, tmp_path)
    put_back()
    restore(boston, "sanfran", "bangalore")
    carry(boston, sanfran, tmp_path / "t")
    first, *lost = sanfran.export_to(boston, tmp_path / "t", ExportOptions(max_size=3000))
    assert lost and boston.import_from([first]).refused == {}
    assert row(boston)["boston"] < row(boston, sanfran)["boston"]
    with sanfran.member() as member, member.log.db.transaction():
        (export,) = member.log.epochs.exports(member.family.find("boston").id)[-1:]
        member.log.epochs.put(member.family.find("boston").id, export.row)
    carry(boston, sanfran, tmp_path / "t")
    carry(sanfran, boston, tmp_path / "t")
    exchange_until_quiet(sites, tmp_path)
    assert not sealed(boston) and same_everywhere(sites)
    assert expected < all_mail(boston)


def test_a_packet_that_is_too_old_still_gives_the_messages_that_are_nowhere_else(
    sites: list[Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its import had died when the log knew of them and the store did not; then its sender burned down."""
    boston, sanfran, _ = sites
    put_back = back_up(boston)
    (new,) = append(boston, "user.bob", message("half taken in"))
    (packet,) = boston.export_to(sanfran, tmp_path / "t")

    def die(self: Replay) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Replay, "carry_out_taken", die)
        sanfran.import_from([packet])
    put_back()
    restore(boston, "sanfran", "bangalore")
    carry(boston, sanfran, tmp_path / "t")
    assert new not in all_mail(sanfran)
    (error,) = sanfran.import_from([packet]).refused.values()
    assert "incarnation is old" in str(error) and new in all_mail(sanfran)
    exchange_until_quiet(sites, tmp_path)
    assert new in all_mail(boston) and same_everywhere(sites)
