"""Packets go from Boston to Sanfran, from there to Bangalore, from there to Boston, and never back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from cyrus_sync.multisite.giving_up import Lost, lost
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.packet.restores import Restore
from cyrus_sync.multisite.restoring import begin
from cyrus_sync.multisite.signing import sign_restore
from tests.multisite.mail import (
    BOB,
    Item,
    append,
    create,
    header_of,
    keys_of,
    leaving_out,
    message,
    rewritten,
    same_everywhere,
)
from tests.multisite.test_export import damage
from tests.multisite.test_going_back import LOG, STORE, back_up
from tests.multisite.world import Site, carry, exchange_until_quiet, family_of, imported

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


# -- one of them is restored


@pytest.fixture
def four(tmp_path: Path) -> list[Site]:
    """A ring of four in step; Bob's master is Boston."""
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore", "tokyo")
    create(sites[0], "user.bob")
    exchange_until_quiet(sites, tmp_path)
    return sites


def until_quiet(sites: list[Site], directory: Path, most: int = 8) -> None:
    """Packets go round until nobody has anything to tell. What builds on what has not come back is kept."""
    kept: dict[str, list[Path]] = {}
    for _ in range(most):
        sent = 0
        for source, target in zip(sites, [*sites[1:], sites[0]], strict=True):
            paths = source.export_to(target, directory / "t")
            sent += len(paths)
            kept[target.name] = imported(target, kept.get(target.name, []), paths)
        if not sent:
            assert not any(kept.values()), kept
            return
    raise AssertionError(f"there is still something to tell after {most} rounds")


def restore(site: Site, sites: list[Site]) -> None:
    with Member.open(site.config, warn=site.heard.append, went_back=True) as member:
        begin(member, [member.family.find(one.name) for one in sites if one is not site])


def leaving_out_operations(_items: Iterator[Item]) -> Iterable[Item]:
    return ()


def is_sealed(site: Site) -> bool:
    with site.member() as member:
        return member.sealed


@pytest.mark.parametrize("who", [0, 2], ids=["his master", "another"])
def test_who_is_restored_gets_everything_back_and_opens_again(
    four: list[Site], tmp_path: Path, who: int
) -> None:
    restored, following = four[who], four[who + 1]
    put_back = back_up(restored)
    told = {append(site, "user.bob", message(f"told by {site.name}"))[0] for site in four}
    until_quiet(four, tmp_path)
    told.update(append(restored, "user.bob", message("only the next one has it")))
    carry(restored, following, tmp_path / "t")
    put_back(LOG, STORE)
    restore(restored, four)
    told.update(append(restored, "user.bob", message("meanwhile")))
    until_quiet(four, tmp_path)
    assert not is_sealed(restored)
    assert same_everywhere(four)
    assert all(site.guids_of(BOB) == told for site in four)


def test_it_does_not_open_before_it_has_what_each_of_them_had(four: list[Site], tmp_path: Path) -> None:
    boston, sanfran, bangalore, tokyo = four
    put_back = back_up(boston)
    append(boston, "user.bob", message("only Sanfran has it"))
    carry(boston, sanfran, tmp_path / "t")
    put_back(LOG, STORE)
    restore(boston, four)
    carry(boston, sanfran, tmp_path / "t")
    (path,) = sanfran.export_to(bangalore, tmp_path / "t")
    without = rewritten(path, sanfran, ranges={}, items=leaving_out_operations)
    assert bangalore.import_from([without]).refused == {}
    carry(bangalore, tokyo, tmp_path / "t")
    carry(tokyo, boston, tmp_path / "t")
    with boston.member() as member:
        assert [member.family.name_of(one) for one in member.family.restoring] == ["sanfran"]


def test_who_goes_on_before_the_restore_merges_both_lives(four: list[Site], tmp_path: Path) -> None:
    boston = four[0]
    put_back = back_up(boston)
    told = set(append(boston, "user.bob", message("first life")))
    until_quiet(four, tmp_path)
    put_back(LOG, STORE)
    told.update(append(boston, "user.bob", message("second life")))
    with boston.member() as member:
        member.record()
    restore(boston, four)
    until_quiet(four, tmp_path)
    assert not is_sealed(boston) and same_everywhere(four)
    assert all(site.guids_of(BOB) == told for site in four)


def test_nobody_makes_up_that_another_was_restored(four: list[Site], tmp_path: Path) -> None:
    boston, sanfran, bangalore, _ = four
    with boston.member() as member:
        family, name = member.family, member.family.self_id
        row, secret = member.log.epochs.row(name), keys_of(sanfran)
    invented = Restore(1_900_000_000, row, {}, {}, {})
    restore(boston, four)
    carry(boston, sanfran, tmp_path / "t")
    append(sanfran, "user.bob", message("news"))
    (path,) = sanfran.export_to(bangalore, tmp_path / "t")
    true = header_of(path).restores[name]
    for false in (
        invented,
        sign_restore(family.id, name, invented, secret),
        true._replace(incarnation=true.incarnation + 9),
        true._replace(row={**true.row, name: 1}),
    ):
        copy = tmp_path / "copy"
        copy.write_bytes(path.read_bytes())
        bangalore.import_from([rewritten(copy, sanfran, restores={name: false})])
        with bangalore.member() as member:
            assert member.family.replicas[name].incarnation == 0
    bangalore.import_from([path])
    with bangalore.member() as member:
        assert member.family.replicas[name].incarnation == true.incarnation
