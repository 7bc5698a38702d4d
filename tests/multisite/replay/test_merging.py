"""An INBOX that two sites made becomes one, whoever hears of it first, and nobody has to do anything."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from cyrus_sync.common.names import owner_of
from tests.multisite.mail import BOB, append, create, expunge, flag, message, names, records, same_everywhere
from tests.multisite.world import Site, carry, exchange_until_quiet, family_of

THREE = ("boston", "sanfran", "bangalore")
ORDERS = list(itertools.permutations(range(3), 2))


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    return family_of(tmp_path, *THREE)


def provision(site: Site) -> list[bytes]:
    """What autocreate makes, and a first message. Returns it."""
    create(site, "user.bob", "user.bob.Sent")
    with site.store() as store, store.write(BOB) as writer:
        writer.annotate("user.bob.Sent", "/specialuse", "bob", b"\\Sent")
        writer.set_acl("user.bob", f"boss-{site.name}", "lr")
    return append(site, "user.bob", message(site.name)) + append(
        site, "user.bob.Sent", message(f"by {site.name}")
    )


@pytest.mark.parametrize("order", ORDERS)
def test_whoever_hears_first_all_have_one_inbox(
    sites: list[Site], tmp_path: Path, order: tuple[int, int]
) -> None:
    mail = [guid for site in sites for guid in provision(site)]
    carry(sites[order[0]], sites[order[1]], tmp_path / "t")
    mail += append(sites[order[1]], "user.bob", message("late"))
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    for site in sites:
        found = site.guids("bob")
        assert len(found["user.bob"]) == 4 and len(found["user.bob.Sent"]) == 3
        assert sorted(guid for guids in found.values() for guid in guids) == sorted(mail)


def test_mail_that_comes_to_the_other_inbox_meanwhile_is_merged_too(
    sites: list[Site], tmp_path: Path
) -> None:
    mail = provision(sites[0]) + provision(sites[1])
    for site, other in ((sites[0], sites[1]), (sites[1], sites[0])):
        carry(site, other, tmp_path / "t")
    for site in sites[:2]:
        for name in names(site):
            if name == "user.bob" or name.endswith("_INBOX"):
                mail += append(site, name, message(f"{site.name} {name}"))
    exchange_until_quiet(sites, tmp_path, most=20)
    assert same_everywhere(sites)
    assert set(mail) == sites[2].guids_of(BOB) and "user.bob" in names(sites[2])
    assert not any(name.endswith("_INBOX") for name in names(sites[2]))


def test_a_message_that_both_have_is_there_once_with_the_flags_of_both(
    sites: list[Site], tmp_path: Path
) -> None:
    both, gone = message("to both"), message("removed at one")
    for site, word in zip(sites[:2], ("\\Seen", "$Work"), strict=True):
        create(site, "user.bob")
        append(site, "user.bob", both)
        flag(site, "user.bob", 1, word)
    with sites[0].member() as member:
        member.record()
        mine = member.family.self_id
        other = member.family.find("sanfran").id
    master, second = (sites[0], sites[1]) if mine < other else (sites[1], sites[0])
    append(master, "user.bob", gone)
    append(second, "user.bob", gone)
    expunge(master, "user.bob", 2)
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    (record,) = (one for one in records(sites[2], "user.bob") if not one.expunged)
    assert set(record.flags.split()) == {"\\Seen", "$Work"}


def test_the_family_may_keep_both(tmp_path: Path) -> None:
    sites = family_of(tmp_path, *THREE, inbox="rename")
    for site in sites[:2]:
        provision(site)
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        with site.member() as member:
            assert member.family.inbox_policy == "rename"
        assert sum(owner_of(name) == BOB and name.endswith("_INBOX") for name in names(site)) == 1


def test_folders_that_somebody_named_are_not_merged(sites: list[Site], tmp_path: Path) -> None:
    for site in sites[:2]:
        create(site, "user.bob", "user.bob.Notes")
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        assert sum("Notes" in name for name in names(site)) == 2 and len(names(site)) == 3
