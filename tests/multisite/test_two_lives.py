"""Who was restored and went on has two lives, in which operations have the same numbers. The answers of
siblings count when those of the first life have come back, whatever befalls the packets."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.multisite.admission import Gap
from cyrus_sync.multisite.cutting import ExportOptions
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.restoring import begin
from tests.multisite.mail import BOB, append, create, message, same_everywhere
from tests.multisite.test_going_back import LOG, STORE, back_up
from tests.multisite.world import Site, carry, exchange_until_quiet, family_of

LIVES = 3
"""Operations in each of the two."""


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    """Boston has heard of Sanfran's first life; Sanfran was restored then and has gone on, and Bangalore, who
    is Bob's master, has answered. Sanfran now waits for Boston."""
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    boston, sanfran, bangalore = sites
    create(bangalore, "user.bob")
    exchange_until_quiet(sites, tmp_path)
    put_back = back_up(sanfran)
    _live(sanfran, "first")
    carry(sanfran, boston, tmp_path / "t")
    put_back(LOG, STORE)
    _live(sanfran, "second")
    with Member.open(sanfran.config, warn=sanfran.heard.append, went_back=True) as member:
        begin(member, [member.family.find(one.name) for one in (boston, bangalore)])
    carry(sanfran, bangalore, tmp_path / "t")
    carry(bangalore, sanfran, tmp_path / "t")
    return sites


def _live(site: Site, life: str) -> None:
    for number in range(LIVES):
        append(site, "user.bob", message(f"{life} {number}", 900))
        with site.member() as member:
            member.record()


def is_sealed(site: Site) -> bool:
    with site.member() as member:
        return member.sealed


def ends_well(sites: list[Site], directory: Path) -> bool:
    """All mail of both lives is everywhere, and nobody is stopped."""
    exchange_until_quiet(sites, directory, most=20)
    all_agree = same_everywhere(sites) and not is_sealed(sites[1])
    return all_agree and all(len(site.guids_of(BOB)) == 2 * LIVES for site in sites)


def test_who_asks_twice_before_there_is_an_answer_gets_all_of_it(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    carry(sanfran, boston, tmp_path / "t")
    carry(sanfran, boston, tmp_path / "t")
    carry(boston, sanfran, tmp_path / "t")
    assert not is_sealed(sanfran)
    assert ends_well(sites, tmp_path)


def test_an_answer_that_got_lost_is_asked_for_again(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    carry(sanfran, boston, tmp_path / "t")
    for lost in boston.export_to(sanfran, tmp_path / "t"):
        lost.unlink()
    append(boston, "user.bob", message("later"))
    carry(boston, sanfran, tmp_path / "t")
    assert is_sealed(sanfran), "it must not go on without what it has said before"
    carry(sanfran, boston, tmp_path / "t")
    carry(boston, sanfran, tmp_path / "t")
    assert not is_sealed(sanfran)
    exchange_until_quiet(sites, tmp_path, most=20)
    assert same_everywhere(sites)
    assert all(len(site.guids_of(BOB)) == 2 * LIVES + 1 for site in sites)


def test_the_end_of_an_answer_waits_for_its_beginning(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    carry(sanfran, boston, tmp_path / "t")
    paths = boston.export_to(sanfran, tmp_path / "t", ExportOptions(max_size=3000))
    refused = {error for path in reversed(paths) for error in sanfran.import_from([path]).refused.values()}
    assert refused and all(isinstance(error, Gap) for error in refused)
    assert not sanfran.import_from([path for path in paths if path.exists()]).refused
    assert not is_sealed(sanfran)
    assert ends_well(sites, tmp_path)


def test_what_has_come_back_is_not_sent_again(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, bangalore = sites
    with Member.open(sanfran.config, warn=sanfran.heard.append) as member:
        begin(member, [member.family.find(one.name) for one in (boston, bangalore)])
    carry(sanfran, boston, tmp_path / "t")
    carry(boston, sanfran, tmp_path / "t")
    carry(sanfran, boston, tmp_path / "t")
    assert is_sealed(sanfran), "Bangalore is to answer this time, too"
    assert boston.export_to(sanfran, tmp_path / "t") == []
