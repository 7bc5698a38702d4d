"""Mail out of a packet that is refused for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.multisite.cutting import ExportOptions
from cyrus_sync.multisite.errors import NotApplied
from cyrus_sync.multisite.rescuing import rescue
from tests.multisite.mail import BOB, append, create, message, rewritten, same_everywhere
from tests.multisite.world import Site, carry, exchange_until_quiet, family_of


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    sites = family_of(tmp_path, "boston", "sanfran")
    create(sites[0], "user.bob", "user.bob.Work")
    append(sites[0], "user.bob", message("known"))
    exchange_until_quiet(sites, tmp_path)
    return sites


def test_what_nobody_has_is_delivered_once_and_told(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran = sites
    lost = append(boston, "user.bob.Work", message("lost")) + append(boston, "user.bob", message("too"))
    (old,) = boston.export_to(sanfran, tmp_path / "t")
    old = rewritten(old, boston, family="another")
    with sanfran.member() as member:
        with pytest.raises(NotApplied, match="belongs to the family"):
            rescue(member, [old])
        assert rescue(member, [old], force=True, dry=True).delivered == {"user.bob.Work": 1, "user.bob": 1}
        assert not set(lost) & sanfran.guids_of(BOB)
        assert rescue(member, [old], force=True).delivered == {"user.bob.Work": 1, "user.bob": 1}
        again = rescue(member, [old], force=True)
        assert again.delivered == {} and again.known == 2
    assert lost[0] in sanfran.guids("bob")["user.bob.Work"] and old.exists()
    with boston.member() as member:
        assert member.log.epochs.recover(member.family.find("sanfran").id, 1 << 40)
    carry(sanfran, boston, tmp_path / "t")
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites) and len(boston.guids_of(BOB)) == 3


def test_what_has_no_place_here_is_named(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran = sites
    create(boston, "user.eve")
    (guid,) = append(boston, "user.eve", message("for one who is not here"))
    (path,) = boston.export_to(sanfran, tmp_path / "t")
    with sanfran.member() as member:
        done = rescue(member, [path])
    assert done.delivered == {} and "neither user.eve nor an INBOX" in done.left[guid]


def test_messages_of_a_part_without_their_operation_are_counted(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran = sites
    append(boston, "user.bob", *(message(number, 3000) for number in range(12)))
    paths = boston.export_to(sanfran, tmp_path / "t", ExportOptions(max_size=9000))
    with sanfran.member() as member:
        assert rescue(member, paths[:1]).loose > 0
        assert rescue(member, paths).delivered == {"user.bob": 12}
