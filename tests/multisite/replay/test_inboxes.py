"""Users whose INBOX went while something else of theirs came."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.common.errors import UnknownFailure
from cyrus_sync.common.names import SERVER
from cyrus_sync.multisite.oplog.shadows import INBOXLESS
from tests.multisite.mail import (
    BOB,
    append,
    create,
    delete,
    message,
    names,
    rename,
    same_everywhere,
    state,
)
from tests.multisite.world import Site, carry, exchange_until_quiet, family_of

GIVEN = "a new one was made"


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    """Boston is Bob's master; he has an INBOX with one message, and a folder, everywhere."""
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    create(sites[0], "user.bob", "user.bob.Work")
    append(sites[0], "user.bob", message(1))
    exchange_until_quiet(sites, tmp_path)
    return sites


def test_who_has_new_mail_in_a_folder_only_is_given_an_inbox_by_his_master(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    (new,) = append(sanfran, "user.bob.Work", message("unseen"))
    delete(boston, "user.bob")
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        assert names(site) == ["user.bob", "user.bob.Work"]
        assert site.guids("bob") == {"user.bob": [], "user.bob.Work": [new]}
    assert same_everywhere(sites)
    assert any(f"bob has user/bob/Work and had no INBOX: {GIVEN}" in line for line in boston.heard)
    assert not any(GIVEN in line for site in sites[1:] for line in site.heard)


def test_a_folder_made_elsewhere_outlives_the_user_and_holds_up_nothing(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    create(sanfran, "user.bob.New")
    delete(boston, "user.bob")
    carry(sanfran, boston, tmp_path / "t")
    with boston.member() as member:
        assert not member.log.operations.has_pending(BOB)
    exchange_until_quiet(sites, tmp_path)
    assert all(names(site) == ["user.bob", "user.bob.New"] for site in sites)
    assert same_everywhere(sites)


def test_the_master_makes_a_folder_of_a_user_who_was_deleted_elsewhere(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    delete(sanfran, "user.bob")
    with sanfran.member() as member:
        member.record()
    create(boston, "user.bob.New")
    carry(boston, sanfran, tmp_path / "t")
    assert names(sanfran) == ["user.bob.New"]
    exchange_until_quiet(sites, tmp_path)
    assert all("user.bob" in names(site) for site in sites)
    assert same_everywhere(sites) and not any(GIVEN in line for site in sites for line in site.heard)


def test_his_own_inbox_with_new_mail_comes_back_whatever_came_before_it(
    sites: list[Site], tmp_path: Path
) -> None:
    """The folder is told, and applied, before INBOX: no other INBOX may have taken the name meanwhile."""
    boston, sanfran, _ = sites
    create(sanfran, "user.bob.New")
    with sanfran.member() as member:
        member.record()
    (new,) = append(sanfran, "user.bob", message("unseen"))
    uniqueid = state(sanfran, "user.bob").uniqueid
    delete(boston, "user.bob")
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        assert new in site.guids("bob")["user.bob"] and state(site, "user.bob").uniqueid == uniqueid
    assert same_everywhere(sites)


def test_where_two_sites_rename_each_others_inbox_a_third_takes_the_place(tmp_path: Path) -> None:
    sites = family_of(tmp_path, "boston", "sanfran", inbox="rename")
    for site in sites:
        create(site, "user.bob")
        append(site, "user.bob", message(f"from {site.name}"))
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        other = next(name for name in names(site) if name.endswith("_INBOX"))
        rename(site, other, f"user.bob.from_{site.name}")
    rename(sites[0], "user.bob", "user.bob.former_boston")
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        assert "user.bob" in names(site)
    found = [guid for guids in sites[0].guids("bob").values() for guid in guids]
    assert len(found) == len(set(found)) == 2
    assert same_everywhere(sites)


def test_what_was_noted_of_a_user_is_forgotten_when_he_has_an_inbox(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    create(sanfran, "user.bob.New")
    delete(boston, "user.bob")
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        with site.member() as member:
            assert not member.log.shadows.items(SERVER, INBOXLESS)


def test_nobody_at_a_keyboard_makes_a_folder_without_inbox(sites: list[Site]) -> None:
    with pytest.raises(UnknownFailure):
        create(sites[0], "user.eve.Work")
