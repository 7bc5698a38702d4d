"""Names that two mailboxes, replicas or scripts want, and giving them back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cyrus_sync.multisite.family import Replica, new_id
from cyrus_sync.multisite.membership import change_replica, rename_replica
from cyrus_sync.multisite.replay.family_operations import announce, tell_replica
from tests.multisite.mail import append, create, delete, message, names, rename, same_everywhere
from tests.multisite.world import Site, carry, exchange_until_quiet, family_of

WARNING = 'multitool: Warning: To avoid name conflict,\ngenerated name "{}" ...'


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    """Bob has an INBOX at Boston, his master, and at Sanfran."""
    sites = family_of(tmp_path, "boston", "sanfran")
    create(sites[0], "user.bob")
    exchange_until_quiet(sites, tmp_path)
    return sites


def clash(sites: list[Site], directory: Path, name: str = "user.bob.Work") -> None:
    for site in sites:
        create(site, name)
        append(site, name, message(f"{name} at {site.name}"))
    exchange_until_quiet(sites, directory)


def test_the_incoming_one_gets_the_name_of_its_creator_and_both_are_kept(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran = sites
    clash(sites, tmp_path)
    assert names(boston) == ["user.bob", "user.bob.Work", "user.bob.sanfran_Work"]
    assert names(sanfran) == ["user.bob", "user.bob.Work", "user.bob.boston_Work"]
    assert WARNING.format("user/bob/sanfran_Work") in boston.heard
    assert WARNING.format("user/bob/boston_Work") in sanfran.heard
    assert any("settle it with: multitool rename user/bob/sanfran_Work" in line for line in boston.heard)
    assert len(boston.guids("bob")["user.bob.Work"]) == 1


def test_a_warning_is_given_once_and_not_with_every_packet(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran = sites
    clash(sites, tmp_path)
    for number in range(3):
        append(sanfran, "user.bob.Work", message(number))
        carry(sanfran, boston, tmp_path / "t")
    assert boston.heard.count(WARNING.format("user/bob/sanfran_Work")) == 1
    assert len(boston.guids("bob")["user.bob.sanfran_Work"]) == 4


def test_where_the_generated_name_is_taken_too_it_gets_a_number(sites: list[Site], tmp_path: Path) -> None:
    boston, _ = sites
    create(boston, "user.bob.sanfran_Work", "user.bob.sanfran_Work_1")
    clash(sites, tmp_path)
    assert "user.bob.sanfran_Work_2" in names(boston)


def test_children_stay_where_they_are(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran = sites
    create(sanfran, "user.bob.Work", "user.bob.Work.Sub")
    (guid,) = append(sanfran, "user.bob.Work.Sub", message("below"))
    create(boston, "user.bob.Work")
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        assert site.guids("bob")["user.bob.Work.Sub"] == [guid]


@pytest.mark.parametrize("how", ["rename", "delete"])
def test_the_name_is_given_back_when_it_is_free(sites: list[Site], tmp_path: Path, how: str) -> None:
    boston, sanfran = sites
    clash(sites, tmp_path)
    if how == "rename":
        rename(boston, "user.bob.Work", "user.bob.Office")
    else:
        delete(boston, "user.bob.Work")
    exchange_until_quiet(sites, tmp_path)
    expected = ["user.bob", *(["user.bob.Office"] if how == "rename" else []), "user.bob.Work"]
    assert sorted(names(boston)) == sorted(names(sanfran)) == expected
    assert len(boston.guids("bob")["user.bob.Work"]) == 1 and same_everywhere(sites)
    for site in sites:
        with site.member() as member:
            assert member.log.objects.in_conflict() == []


def test_a_generated_name_that_somebody_changes_is_its_name_from_then_on(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran = sites
    clash(sites, tmp_path)
    rename(boston, "user.bob.sanfran_Work", "user.bob.Theirs")
    exchange_until_quiet(sites, tmp_path)
    assert sorted(names(boston)) == sorted(names(sanfran)) == ["user.bob", "user.bob.Theirs", "user.bob.Work"]
    assert same_everywhere(sites)


def test_the_name_is_free_and_taken_again_by_a_third(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran = sites
    clash(sites, tmp_path)
    rename(boston, "user.bob.Work", "user.bob.Office")
    create(boston, "user.bob.Work")
    exchange_until_quiet(sites, tmp_path)
    held = {guid for guids in boston.guids("bob").values() for guid in guids}
    assert held == {guid for guids in sanfran.guids("bob").values() for guid in guids} and len(held) == 2


def test_top_level_shared_mailboxes_clash_within_their_owner(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran = sites
    clash(sites, tmp_path, "projects")
    with boston.store() as store:
        assert [str(owner) for owner in store.owners()] == ["bob", "shared:projects"]
    rename(sanfran, "projects", "projects.old")
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)


def test_mailboxes_that_were_set_aside_in_one_second_clash_and_stay_set_aside(
    sites: list[Site], tmp_path: Path
) -> None:
    aside = "DELETED.user.bob.Work.6B013001"
    for site in sites:
        create(site, "user.bob.Work")
        append(site, "user.bob.Work", message(site.name))
        rename(site, "user.bob.Work", aside)
    exchange_until_quiet(sites, tmp_path)
    assert sorted(names(sites[0])) == [aside, "DELETED.user.bob.sanfran_Work.6B013001", "user.bob"]


# -- replicas


def known(site: Site) -> list[str]:
    with site.member() as member:
        return [one.name for one in member.family.living()]


def test_two_replicas_of_one_name_are_both_known(tmp_path: Path) -> None:
    sites = family_of(tmp_path, "boston", "sanfran")
    for site in sites:
        with site.member() as member:
            made = Replica(new_id(), "paris", creator=member.family.self_id, version=1)
            member.set_family(member.family.with_replica(made))
            with member.log.db.transaction():
                tell_replica(member.log, made)
    exchange_until_quiet(sites, tmp_path)
    assert known(sites[0]) == ["boston", "paris", "sanfran", "sanfran_paris"]
    assert known(sites[1]) == ["boston", "boston_paris", "paris", "sanfran"]
    assert WARNING.format("sanfran_paris") in sites[0].heard
    with sites[1].member() as member:
        rename_replica(member, member.family.find("paris"), "lyon")
    exchange_until_quiet(sites, tmp_path)
    assert known(sites[0]) == known(sites[1]) == ["boston", "lyon", "paris", "sanfran"]


def test_the_newer_word_of_a_replica_counts_in_whatever_order(tmp_path: Path) -> None:
    boston, sanfran, bangalore = family_of(tmp_path, "boston", "sanfran", "bangalore")
    for host in ("first.example.org", "second.example.org"):
        with sanfran.member() as member:
            change_replica(member, replace(member.family.find("sanfran"), host=host))
    exchange_until_quiet([boston, sanfran, bangalore], tmp_path)
    for site in (boston, bangalore):
        with site.member() as member:
            assert member.family.find("sanfran").host == "second.example.org"


def test_announcing_oneself_changes_nothing_for_others(tmp_path: Path) -> None:
    boston, sanfran = family_of(tmp_path, "boston", "sanfran")
    with sanfran.member() as member:
        before = member.family.find("boston")
    with boston.member() as member:
        announce(member, member.family)
    carry(boston, sanfran, tmp_path / "t")
    with sanfran.member() as member:
        assert member.family.find("boston") == before
