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
    both = message("to both")
    for site, word in zip(sites[:2], ("\\Seen", "$Work"), strict=True):
        create(site, "user.bob")
        append(site, "user.bob", both)
        flag(site, "user.bob", 1, word)
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    (record,) = (one for one in records(sites[2], "user.bob") if not one.expunged)
    assert set(record.flags.split()) == {"\\Seen", "$Work"}


@pytest.mark.parametrize("to_other", [True, False], ids=["to his own", "to the master's"])
def test_a_message_that_was_moved_between_the_two_stays(
    sites: list[Site], tmp_path: Path, to_other: bool
) -> None:
    mail, (_, second), own, masters = two_inboxes(sites, tmp_path)
    source, target = (masters, own) if to_other else (own, masters)
    with second.store() as store, store.write(BOB) as writer:
        writer.copy(source, [1], target, move=True)
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert set(mail) == sites[2].guids_of(BOB)


@pytest.mark.parametrize("to_other", [True, False], ids=["to his own", "to the master's"])
def test_a_message_that_was_copied_and_expunged_after_the_merge_stays(
    sites: list[Site], tmp_path: Path, to_other: bool
) -> None:
    mail, (master, second), own, masters = two_inboxes(sites, tmp_path)
    source, target = (masters, own) if to_other else (own, masters)
    with second.store() as store, store.write(BOB) as writer:
        writer.copy(source, [1], target, move=False)
    carry(second, master, tmp_path / "t")  # the master merges
    expunge(second, source, 1)
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert set(mail) == sites[2].guids_of(BOB)


def test_what_was_expunged_after_the_merge_does_not_come_back(sites: list[Site], tmp_path: Path) -> None:
    mail, (master, second), own, _ = two_inboxes(sites, tmp_path)
    carry(second, master, tmp_path / "t")  # the master merges
    (merged,) = (one.uid for one in records(master, "user.bob") if one.guid == mail[0])
    expunge(master, "user.bob", merged)
    late = append(second, own, message("late"))
    flag(second, own, 1, "\\Seen")
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert {*mail[1:], *late} == sites[2].guids_of(BOB)


def two_inboxes(sites: list[Site], directory: Path) -> tuple[list[bytes], tuple[Site, Site], str, str]:
    """Bob is born at two sites with a message each. One is his master, and the second has heard it. Returns
    the messages, the second's first; the two; the second's own INBOX, and what it calls the master's."""
    with sites[0].member() as member:
        mine, other = member.family.self_id, member.family.find(sites[1].name).id
    master, second = (sites[0], sites[1]) if mine < other else (sites[1], sites[0])
    mail = []
    for site in (second, master):
        create(site, "user.bob")
        mail += append(site, "user.bob", message(site.name))
    carry(master, second, directory / "t")
    (masters,) = (name for name in names(second) if name.endswith("_INBOX"))
    return mail, (master, second), "user.bob", masters


def test_the_master_does_not_warn_of_a_name_that_the_same_import_makes_needless(
    sites: list[Site], tmp_path: Path
) -> None:
    mail, (master, second), _, _ = two_inboxes(sites, tmp_path)
    carry(second, master, tmp_path / "t")
    assert set(mail) == master.guids_of(BOB) and names(master) == ["user.bob"]
    assert not any("generated name" in line for line in master.heard)
    assert any("was made at two sites: 1 messages" in line for line in master.heard)
    assert sum("generated name" in line for line in second.heard) == 1, "there are two as long as it waits"


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
