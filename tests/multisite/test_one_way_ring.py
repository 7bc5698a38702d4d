"""Packets go from Boston to Sanfran, from there to Bangalore, from there to Boston, and never back."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.multisite.giving_up import Lost, lost
from tests.multisite.mail import (
    BOB,
    append,
    create,
    header_of,
    leaving_out,
    message,
    rewritten,
    same_everywhere,
)
from tests.multisite.test_export import damage
from tests.multisite.world import Site, carry, exchange_until_quiet, family_of

LOST = message("lost on the way", 4000)


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    create(sites[0], "user.bob")
    exchange_until_quiet(sites, tmp_path)
    return sites


def go_round(sites: list[Site], directory: Path, rounds: int = 3) -> None:
    for _ in range(rounds):
        for source, target in zip(sites, [*sites[1:], sites[0]], strict=True):
            carry(source, target, directory / "t")


def loses_on_the_way(sites: list[Site], directory: Path) -> bytes:
    """A message of Boston's does not come to Sanfran, who hears of it; its GUID."""
    (guid,) = append(sites[0], "user.bob", LOST)
    (path,) = sites[0].export_to(sites[1], directory / "t")
    sites[1].import_from([rewritten(path, sites[0], items=leaving_out(guid))])
    return guid


def test_who_lacks_a_message_is_sent_it_although_its_packets_do_not_go_to_the_one_who_has_it(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, bangalore = sites
    guid = loses_on_the_way(sites, tmp_path)
    (path,) = sanfran.export_to(bangalore, tmp_path / "t")
    bangalore.import_from([path])
    (path,) = bangalore.export_to(boston, tmp_path / "t")
    assert {guids for _, guids in header_of(path).asking.values()} == {(guid,)}, "Sanfran's question"
    boston.import_from([path])
    go_round(sites, tmp_path)
    assert same_everywhere(sites) and guid in sanfran.guids_of(BOB)
    go_round(sites, tmp_path)
    for source, target in zip(sites, [*sites[1:], boston], strict=True):
        assert source.export_to(target, tmp_path / "t") == [], "and nobody asks any more"


def test_everybody_hears_that_nobody_has_it(sites: list[Site], tmp_path: Path) -> None:
    guid = loses_on_the_way(sites, tmp_path)
    damage(sites[0], LOST)
    go_round(sites, tmp_path)
    for site in sites:
        with site.member() as member:
            assert lost(member) == [Lost(guid, BOB, silent=())]
