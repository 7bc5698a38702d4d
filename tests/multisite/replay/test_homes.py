"""Whose word counts for a mailbox that was renamed to another user, and where two claim to be master."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.care.rename import rename_user
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.multisite.mastership import hand_over, take_over
from tests.multisite.mail import BOB, append, create, message, names, records, rename, same_everywhere
from tests.multisite.world import Site, carry, exchange_until_quiet, family_of

EVE = Owner("user", "eve")


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    """Boston is Bob's master and sanfran is Eve's; he has an INBOX with one message, and a folder."""
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    create(sites[0], "user.bob", "user.bob.Work")
    create(sites[1], "user.eve")
    append(sites[0], "user.bob", message(1))
    exchange_until_quiet(sites, tmp_path)
    return sites


def master_of(owner: Owner, site: Site) -> str:
    """By name, as a site sees it."""
    with site.member() as member:
        master = next(iter(member.log.homes(owner).values()))
        return member.family.name_of(master.replica)


def give(site: Site, owner: Owner, to: str, *, force: bool = False) -> None:
    with site.member() as member:
        if force:
            take_over(member, owner, member.family.find(to), site.heard.append)
        else:
            hand_over(member, owner, member.family.find(to))


# -- mailboxes that change their user


MOVERS = pytest.mark.parametrize(
    "mover", [0, 1, 2], ids=["the old master", "the new master", "somebody else"]
)


@MOVERS
def test_a_mailbox_that_is_renamed_to_an_owner_of_another_master_keeps_its_uids(
    sites: list[Site], tmp_path: Path, mover: int
) -> None:
    append(sites[0], "user.bob.Work", *(message(f"work {n}") for n in range(5)))
    exchange_until_quiet(sites, tmp_path)
    before = records(sites[0], "user.bob.Work")
    rename(sites[mover], "user.bob.Work", "user.eve.Work")
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        assert [(one.uid, one.guid) for one in records(site, "user.eve.Work")] == [
            (one.uid, one.guid) for one in before
        ]
        assert "user.bob.Work" not in names(site)
    assert same_everywhere(sites)


@MOVERS
def test_mail_that_came_to_it_meanwhile_goes_with_it(sites: list[Site], tmp_path: Path, mover: int) -> None:
    new = [append(site, "user.bob.Work", message(f"from {site.name}"))[0] for site in sites]
    rename(sites[mover], "user.bob.Work", "user.eve.Work")
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        assert sorted(site.guids("eve")["user.eve.Work"]) == sorted(new)
    assert same_everywhere(sites)


def test_its_messages_are_found_for_a_copy_that_stays_behind(sites: list[Site], tmp_path: Path) -> None:
    """Whoever has the message has it in Eve's mailbox, and it is not sent twice."""
    boston = sites[0]
    (guid,) = append(boston, "user.bob.Work", message("work"))
    exchange_until_quiet(sites, tmp_path)
    with boston.store() as store, store.write(BOB) as writer:
        writer.copy("user.bob.Work", [1], "user.bob", move=False)
    with boston.member() as member:
        member.record()
    rename(boston, "user.bob.Work", "user.eve.Work")
    exchange_until_quiet(sites, tmp_path)
    append(boston, "user.eve.Work", message("more"))
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        assert guid in site.guids("bob")["user.bob"] and guid in site.guids("eve")["user.eve.Work"]
    assert same_everywhere(sites)


@MOVERS
def test_a_user_who_is_renamed_takes_his_master_along(sites: list[Site], tmp_path: Path, mover: int) -> None:
    new = [append(site, "user.bob", message(f"from {site.name}"))[0] for site in sites]
    with sites[mover].store() as store:
        assert isinstance(store, NativeStore)
        rename_user(store, "bob", "robert")
    exchange_until_quiet(sites, tmp_path)
    robert = Owner("user", "robert")
    for site in sites:
        assert not names(site) and set(new) < set(site.guids("robert")["user.robert"])
        assert master_of(robert, site) == "boston"
    assert same_everywhere(sites)
    give(sites[0], robert, "bangalore")
    exchange_until_quiet(sites, tmp_path)
    append(sites[2], "user.robert", message("at the new master"))
    exchange_until_quiet(sites, tmp_path)
    assert [master_of(robert, site) for site in sites] == ["bangalore"] * 3
    with sites[2].member() as member:
        assert member.log.is_master(BOB), "his INBOX was made in Bob"
    assert same_everywhere(sites)


# -- two who think that they may say who is master


@pytest.mark.parametrize("first", [0, 1, 2])
def test_handed_over_and_taken_away_at_once_loses_no_mail(
    sites: list[Site], tmp_path: Path, first: int
) -> None:
    boston, _, bangalore = sites
    new = [append(site, "user.bob", message(f"before at {site.name}"))[0] for site in sites]
    give(boston, BOB, "sanfran")
    give(bangalore, BOB, "bangalore", force=True)
    new += [append(site, "user.bob", message(f"after at {site.name}"))[0] for site in sites]
    carry(sites[first], sites[first - 1], tmp_path / "t")
    exchange_until_quiet(sites, tmp_path)
    assert len({master_of(BOB, site) for site in sites}) == 1
    for site in sites:
        assert set(new) < set(site.guids("bob")["user.bob"])
        assert len(site.guids("bob")["user.bob"]) == 7
    assert same_everywhere(sites)


@pytest.mark.parametrize("heard_by", ["lower", "higher"])
def test_two_masters_of_a_user_born_twice_hand_him_to_each_other(tmp_path: Path, heard_by: str) -> None:
    """Both hand-overs have the same version, and neither knew of the other's mail of the same UID."""
    sites = family_of(tmp_path, "boston", "sanfran", inbox="rename")
    for site in sites:
        create(site, "user.bob")
        with site.member() as member:
            member.record()
            one_id = member.family.self_id
            lower, higher = sites if member.family.find("boston").id <= one_id else sites[::-1]
    carry(higher, lower, tmp_path / "t")
    new = append(higher, "user.bob", message("where it was born"))
    give(higher, BOB, lower.name)
    new += append(lower, f"user.bob.{higher.name}_INBOX", message("under the same UID"))
    give(lower, BOB, higher.name)
    first, second = (higher, lower) if heard_by == "lower" else (lower, higher)
    carry(first, second, tmp_path / "t")
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        found = [guid for guids in site.guids("bob").values() for guid in guids]
        assert sorted(found) == sorted(new)


def test_what_the_new_master_had_deleted_before_he_was_master_is_deleted(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, bangalore = sites
    with boston.store() as store, store.write(BOB) as writer:
        writer.subscribe("user.bob")
        writer.set_quota("user.bob", {"STORAGE": 1000})
        writer.put_script("main", b"keep;\r\n")
        writer.activate_script("main")
        writer.put_script("other", b"discard;\r\n")
    exchange_until_quiet(sites, tmp_path)
    with sanfran.store() as store, store.write(BOB) as writer:
        writer.delete("user.bob.Work", delayed=False)
        writer.subscribe("user.bob", False)
        writer.set_quota("user.bob", None)
        writer.activate_script(None)
        writer.delete_script("other")
    with sanfran.member() as member:
        member.record()
    give(boston, BOB, "sanfran")
    carry(boston, sanfran, tmp_path / "t")
    carry(sanfran, bangalore, tmp_path / "t")
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        assert "user.bob.Work" not in names(site)
        with site.store() as store, store.read(BOB) as reader:
            assert reader.meta(with_sieve=False).subscriptions == ()
            assert reader.quotas() == []
            assert [(one.filename, one.active) for one in reader.sieve_scripts()] == [("main.script", False)]
    assert same_everywhere(sites)


def test_what_was_made_again_since_is_not_deleted(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    with sanfran.store() as store, store.write(BOB) as writer:
        writer.subscribe("user.bob")
    exchange_until_quiet(sites, tmp_path)
    with sanfran.store() as store, store.write(BOB) as writer:
        writer.subscribe("user.bob", False)
    exchange_until_quiet(sites, tmp_path)
    with boston.store() as store, store.write(BOB) as writer:
        writer.subscribe("user.bob")
    exchange_until_quiet(sites, tmp_path)
    give(boston, BOB, "sanfran")
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        with site.store() as store, store.read(BOB) as reader:
            assert reader.meta(with_sieve=False).subscriptions == ("user.bob",)


def test_new_mail_in_what_the_new_master_had_deleted_before_comes_back(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    with sanfran.store() as store, store.write(BOB) as writer:
        writer.delete("user.bob.Work", delayed=False)
    with sanfran.member() as member:
        member.record()
    (new,) = append(boston, "user.bob.Work", message("unseen"))
    give(boston, BOB, "sanfran")
    carry(boston, sanfran, tmp_path / "t")
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        assert new in site.guids("bob")["user.bob.Work"]
    assert same_everywhere(sites)


@pytest.mark.parametrize("first", [0, 1])
def test_a_third_who_was_made_master_keeps_what_he_had_from_one_whose_claim_failed(
    tmp_path: Path, first: int
) -> None:
    """Two sites claim Bob; one hands him to a third, who has heard more from the other than the giver had."""
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    one, other, third = sites[first], sites[1 - first], sites[2]
    for site in (one, other):
        create(site, "user.bob")
        with site.member() as member:
            member.record()
    carry(one, other, tmp_path / "t")
    new = append(one, "user.bob", *(message(f"unheard of {n}") for n in range(3)))
    carry(one, third, tmp_path / "t")
    with other.member() as member:
        if not member.log.is_master(BOB):
            return  # the other's claim has failed at once
    give(other, BOB, third.name)
    carry(other, third, tmp_path / "t")
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        assert set(new) <= {guid for guids in site.guids("bob").values() for guid in guids}
