"""Two sites make a mailbox of one name, and whoever imports that knows it, before the master has answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.multisite.oplog.clashes import foreseen
from tests.multisite.mail import create, same_everywhere
from tests.multisite.world import Site, carry, exchange_until_quiet, family_of

FOUR = ("boston", "sanfran", "bangalore", "paris")


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    """Boston is Bob's master; Sanfran and Bangalore have made a mailbox of one name each."""
    sites = family_of(tmp_path, *FOUR)
    create(sites[0], "user.bob")
    exchange_until_quiet(sites, tmp_path)
    create(sites[1], "user.bob.Projects")
    create(sites[2], "user.bob.Projects")
    return sites


def warnings(site: Site) -> list[str]:
    return [line for line in site.heard if "To avoid name conflict" in line]


@pytest.mark.covers("Replication by packets: the acceptance list", "45", "47")
def test_a_third_site_notices_it_at_its_own_import(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, bangalore, paris = sites
    carry(sanfran, paris, tmp_path / "t")
    assert not warnings(paris)
    carry(bangalore, paris, tmp_path / "t")
    assert warnings(paris) == [
        'multitool: Warning: To avoid name conflict,\ngenerated name "user/bob/bangalore_Projects" ...'
    ]
    with paris.member() as member:
        (clash,) = foreseen(member.log)
        assert member.family.name_of(clash.creator) == "bangalore" and clash.wanted == "user.bob.Projects"
    carry(bangalore, sanfran, tmp_path / "t")
    assert len(warnings(sanfran)) == 1, "and so does one that has made one of them"
    for site in (sanfran, bangalore):
        carry(site, boston, tmp_path / "t")
    exchange_until_quiet(sites, tmp_path)
    with paris.member() as member:
        assert not foreseen(member.log) and len(member.log.objects.in_conflict()) == 1


def test_what_the_master_has_settled_in_the_same_packet_is_not_foreseen(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, bangalore, paris = sites
    carry(sanfran, boston, tmp_path / "t")
    carry(bangalore, boston, tmp_path / "t")
    carry(boston, paris, tmp_path / "t")
    assert len(warnings(paris)) == 1, "of the name that it got"


def test_what_is_merged_anyway_is_no_clash(tmp_path: Path) -> None:
    sites = family_of(tmp_path, *FOUR)
    create(sites[1], "user.eve")
    create(sites[2], "user.eve")
    carry(sites[1], sites[3], tmp_path / "t")
    carry(sites[2], sites[3], tmp_path / "t")
    with sites[3].member() as member:
        assert not foreseen(member.log)
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
