"""What nobody has any more is given up by one command, when all replicas have said that they lack it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cyrus_sync.multisite.giving_up import lost
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.membership import remove_replica
from cyrus_sync.multisite.relaying import note_questions
from cyrus_sync.multisite.working import Work
from tests.multisite.mail import append, create, header_of, leaving_out, message, rewritten, same_everywhere
from tests.multisite.test_export import damage
from tests.multisite.world import Site, carry, exchange_until_quiet, family_of


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    """Boston is Bob's master. A message of Sanfran's has come to nobody, but what it tells of it has; and
    Sanfran has burnt down."""
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    create(sites[0], "user.bob")
    append(sites[0], "user.bob", message("of old"))
    exchange_until_quiet(sites, tmp_path)
    (guid,) = append(sites[1], "user.bob", message("lost for good"))
    for site in (sites[0], sites[2]):
        (path,) = sites[1].export_to(site, tmp_path / "t")
        site.import_from([rewritten(path, sites[1], items=leaving_out(guid))])
    with sites[0].member() as member:
        remove_replica(member, member.family.find("sanfran"), force=True)
    return [sites[0], sites[2]]


def give_up(site: Site, *, force: bool = False) -> int:
    """``multitool giveup``; how many messages."""
    with site.member() as member:
        gone = [one.guid for one in lost(member) if force or not one.silent]
        Work(member, site.heard.append).give_up(gone)
    return len(gone)


def waits(member: Member) -> bool:
    return bool(list(member.log.operations.pending()) or member.log.wanted())


def test_all_have_to_say_first_that_they_lack_it(sites: list[Site], tmp_path: Path) -> None:
    boston, bangalore = sites
    with boston.member() as member:
        (one,) = lost(member)
        assert [member.family.name_of(replica) for replica in one.silent] == ["bangalore"]
    assert give_up(boston) == 0
    carry(bangalore, boston, tmp_path / "t")
    assert give_up(boston) == 1
    append(boston, "user.bob", message("life goes on"))
    (path,) = boston.export_to(bangalore, tmp_path / "t")
    assert header_of(path).given_up == (one.guid,)
    bangalore.import_from([path])
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        with site.member() as member:
            assert not waits(member)
    assert same_everywhere(sites)


def test_others_hear_of_it_even_if_there_is_nothing_else_to_tell(sites: list[Site], tmp_path: Path) -> None:
    boston, bangalore = sites
    carry(bangalore, boston, tmp_path / "t")
    carry(boston, bangalore, tmp_path / "t")
    assert give_up(bangalore) == 1, "at a site that is not the user's master"
    exchange_until_quiet(sites, tmp_path)
    with boston.member() as member:
        assert not waits(member)
    assert same_everywhere(sites)


def test_whoever_is_sure_does_not_wait_for_answers(sites: list[Site], tmp_path: Path) -> None:
    assert give_up(sites[0], force=True) == 1
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    with sites[1].member() as member:
        assert not waits(member)


def test_a_message_whose_only_copy_is_damaged_is_expunged_where_it_is(tmp_path: Path) -> None:
    boston, sanfran = sites = family_of(tmp_path, "boston", "sanfran")
    create(boston, "user.bob")
    raw = message("damaged at its only place")
    append(boston, "user.bob", message("of old"), raw)
    damage(boston, raw)
    sanfran.import_from(boston.export_to(sanfran, tmp_path / "t"))
    carry(sanfran, boston, tmp_path / "t")
    carry(boston, sanfran, tmp_path / "t")
    assert give_up(sanfran) == 1, "Boston was asked for it, and asks, too"
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert [len(found) for found in sanfran.guids("bob").values()] == [1]


def test_a_question_of_before_takes_nothing_back(tmp_path: Path) -> None:
    (site,) = family_of(tmp_path, "boston")
    with site.member() as member:
        packet: Any = SimpleNamespace(sender="b" * 32, asking={})

        def lacks_after(created: int, *wanted: bytes) -> set[bytes]:
            packet.created, packet.wanted = created, wanted
            note_questions(member.log, member.family, packet)
            return member.log.given_up.lacked_by(packet.sender)

        assert lacks_after(90, b"1") == {b"1"}
        assert lacks_after(100) == set() == lacks_after(90, b"1")
        assert lacks_after(1 << 40) == set()
        assert lacks_after(110, b"2") == {b"2"}, "a clock that was wrong for once is not believed for ever"
