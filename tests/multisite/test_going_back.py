"""A server is restored from a backup, and ``restorereplica`` is forgotten: no mail is lost by that."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cyrus_sync.common.stores.native.partitions import GENERATION
from cyrus_sync.multisite.errors import Forked, WentBack
from cyrus_sync.multisite.mastership import take_over
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.restoring import begin
from tests.multisite.disasters import let_go
from tests.multisite.mail import BOB, append, create, delete, message, same_everywhere
from tests.multisite.world import Site, carry, exchange_until_quiet, family_of

LOG, STORE = "conf", "spool"


@pytest.fixture(params=[1, 0], ids=["his master", "another"])
def sites(request: pytest.FixtureRequest, tmp_path: Path) -> list[Site]:
    """Three in step. Sanfran, the second, is going to be restored; it is Bob's master, or Boston is."""
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    create(sites[request.param], "user.bob")
    append(sites[request.param], "user.bob", message("of old"))
    exchange_until_quiet(sites, tmp_path)
    return sites


def back_up(site: Site) -> Callable[..., None]:
    """A backup; what is returned puts parts of it back."""
    copy = site.directory.with_name(f"{site.name}.backup")
    shutil.copytree(site.directory, copy)

    def put_back(*parts: str) -> None:
        for part in parts:
            shutil.rmtree(site.directory / part)
            shutil.copytree(copy / part, site.directory / part)

    return put_back


def restore(site: Site, sites: list[Site], directory: Path) -> None:
    """``restorereplica``, the questions and the answers."""
    others = [one for one in sites if one is not site]
    with Member.open(site.config, warn=site.heard.append, went_back=True) as member:
        begin(member, [member.family.find(one.name) for one in others])
    for other in others:
        other.import_from(site.export_to(other, directory / "t"))
        assert site.import_from(other.export_to(site, directory / "t")).refused == {}
    exchange_until_quiet(sites, directory, most=20)


def have_all(sites: list[Site], guids: list[bytes]) -> bool:
    return all(set(guids) <= site.guids_of(BOB) for site in sites)


@pytest.mark.parametrize(
    "lives", [(1, 1), (1, 3), (3, 1)], ids=["as long", "a longer life", "a shorter life"]
)
def test_what_was_told_in_both_lives_is_everywhere_in_the_end(
    sites: list[Site], tmp_path: Path, lives: tuple[int, int]
) -> None:
    """Log and store are of one moment, so nothing here shows it; but Boston has heard of the first life, and
    Bangalore hears of the second."""
    boston, sanfran, bangalore = sites
    put_back = back_up(sanfran)
    first = append(sanfran, "user.bob", *(message(f"first {n}") for n in range(lives[0])))
    carry(sanfran, boston, tmp_path / "t")
    put_back(LOG, STORE)
    second = append(sanfran, "user.bob", *(message(f"second {n}") for n in range(lives[1])))
    carry(sanfran, bangalore, tmp_path / "t")
    for source, target in ((sanfran, boston), (bangalore, boston), (boston, bangalore)):
        paths = source.export_to(target, tmp_path / "t")
        refused = target.import_from(paths).refused
        assert all(
            isinstance(error, Forked) and "sanfran was restored" in str(error) for error in refused.values()
        )
        assert source is not sanfran or refused, "nothing is passed over in silence"
        assert all(path.exists() for path in refused)
    restore(sanfran, sites, tmp_path)
    assert same_everywhere(sites) and have_all(sites, first + second)
    with sanfran.member() as member:
        assert member.myself.forked and member.log.forks.merged() == set()


def test_a_sibling_that_knows_more_stops_whoever_went_back(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    put_back = back_up(sanfran)
    first = append(sanfran, "user.bob", message("first"))
    carry(sanfran, boston, tmp_path / "t")
    put_back(LOG, STORE)
    append(boston, "user.bob", message("at Boston"))
    paths = boston.export_to(sanfran, tmp_path / "t")
    (error,) = sanfran.import_from(paths).refused.values()
    assert "knows of operation" in str(error) and "multitool restorereplica" in str(error)
    second = append(sanfran, "user.bob", message("second"))
    with pytest.raises(WentBack, match="restored from a backup"):
        sanfran.export_to(boston, tmp_path / "t")
    restore(sanfran, sites, tmp_path)
    assert same_everywhere(sites) and have_all(sites, first + second)


@pytest.mark.parametrize(
    ("part", "text"), [(LOG, "log is older than the mail store"), (STORE, "is older than the operations log")]
)
def test_half_a_backup_is_noticed_at_once(sites: list[Site], tmp_path: Path, part: str, text: str) -> None:
    boston, sanfran, _ = sites
    put_back = back_up(sanfran)
    first = append(sanfran, "user.bob", message("first"))
    carry(sanfran, boston, tmp_path / "t")
    put_back(part)
    second = append(sanfran, "user.bob", message("second"))
    with pytest.raises(WentBack, match=text):
        sanfran.export_to(boston, tmp_path / "t")
    with pytest.raises(WentBack, match=text):
        sanfran.import_from([])
    restore(sanfran, sites, tmp_path)
    assert same_everywhere(sites) and have_all(sites, first + second)


@pytest.mark.parametrize("gone_on", [False, True], ids=["as it was", "with new mail"])
def test_a_store_of_before_the_first_stamp_is_told_by_what_it_lacks(
    sites: list[Site], tmp_path: Path, gone_on: bool
) -> None:
    boston, sanfran, _ = sites
    put_back = back_up(sanfran)
    first = append(sanfran, "user.bob", message("first"), message("first, too"))
    carry(sanfran, boston, tmp_path / "t")
    put_back(STORE)
    for stamp in (sanfran.directory / STORE).rglob(GENERATION):
        stamp.unlink()
    second = append(sanfran, "user.bob", message("second")) if gone_on else []
    restore(sanfran, sites, tmp_path)
    assert same_everywhere(sites) and have_all(sites, first + second)


def test_new_mail_in_what_was_deleted_meanwhile_is_new_whatever_was_there_before_the_restore(
    tmp_path: Path,
) -> None:
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    boston, sanfran, _ = sites
    create(boston, "user.bob", "user.bob.Work")
    exchange_until_quiet(sites, tmp_path)
    put_back = back_up(sanfran)
    append(boston, "user.bob.Work", message("first"), message("first, too"))
    exchange_until_quiet(sites, tmp_path)
    delete(boston, "user.bob.Work")
    put_back(STORE)
    for stamp in (sanfran.directory / STORE).rglob(GENERATION):
        stamp.unlink()
    new = append(sanfran, "user.bob.Work", message("under a UID that was given away before"))
    restore(sanfran, sites, tmp_path)
    assert same_everywhere(sites) and have_all(sites, new)


def test_the_registry_of_mailboxes_is_made_anew_where_the_configuration_alone_went_back(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    put_back = back_up(sanfran)
    create(boston, "user.bob.Work")
    exchange_until_quiet(sites, tmp_path)
    put_back(LOG)
    restore(sanfran, sites, tmp_path)
    with sanfran.store() as store:
        with store.read(BOB) as reader:
            held = [state.uniqueid for state in reader.mailboxes()]
        assert {store.owner_of_uniqueid(uniqueid) for uniqueid in held} == {BOB}
    assert same_everywhere(sites)


def test_a_reign_of_which_nobody_has_heard_goes_with_the_restore(tmp_path: Path) -> None:
    """The next one follows the last that the others know; they would refuse any other."""
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    boston, sanfran, _ = sites
    create(boston, "user.bob")
    exchange_until_quiet(sites, tmp_path)
    put_back = back_up(sanfran)
    with sanfran.member() as member:
        take_over(member, BOB, member.family.myself, sanfran.heard.append)
    put_back(STORE)
    new = append(sanfran, "user.bob", message("came since"))
    restore(sanfran, sites, tmp_path)
    with sanfran.member() as member:
        member.record()
        take_over(member, BOB, member.family.myself, sanfran.heard.append)
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites) and have_all(sites, new)
    for site in sites:
        assert not [line for line in site.heard if "is set aside" in line]


def test_what_a_restored_master_has_lost_whole_is_proposed_to_it(sites: list[Site], tmp_path: Path) -> None:
    """A mailbox of which it never tells again, since it is not there any more."""
    boston, sanfran, _ = sites
    put_back = back_up(sanfran)
    create(sanfran, "user.bob.Work")
    first = append(sanfran, "user.bob.Work", message("first"))
    carry(sanfran, boston, tmp_path / "t")
    put_back(STORE)
    for stamp in (sanfran.directory / STORE).rglob(GENERATION):
        stamp.unlink()
    restore(sanfran, sites, tmp_path)
    assert same_everywhere(sites) and have_all(sites, first)


def test_what_was_lost_whole_is_told_again_by_its_master(tmp_path: Path) -> None:
    """The log of who was restored tells of all of it; the store has nothing that could be told as less."""
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    boston, sanfran, _ = sites
    create(boston, "user.bob")
    exchange_until_quiet(sites, tmp_path)
    put_back = back_up(sanfran)
    create(boston, "projects", "user.bob.Work")
    mail = append(boston, "user.bob.Work", message("at work"))
    append(boston, "projects", message("shared"))
    with boston.store() as store, store.write(BOB) as writer:
        writer.subscribe("user.bob.Work", True)
        writer.set_quota("user.bob", {"STORAGE": 5000})
        writer.put_script("holiday", b"keep;\r\n")
    exchange_until_quiet(sites, tmp_path)
    put_back(STORE)
    for stamp in (sanfran.directory / STORE).rglob(GENERATION):
        stamp.unlink()
    let_go(sanfran)
    restore(sanfran, sites, tmp_path)
    assert same_everywhere(sites) and have_all(sites, mail)
    assert "holiday" in sanfran.dump() and "5000" in sanfran.dump() and "shared" in sanfran.dump()


def test_two_who_are_restored_at_once_help_each_other(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, bangalore = sites
    backups = [back_up(site) for site in (boston, sanfran)]
    told = append(sanfran, "user.bob", message("told")) + append(boston, "user.bob", message("told, too"))
    carry(sanfran, bangalore, tmp_path / "t")
    carry(boston, bangalore, tmp_path / "t")
    for put_back in backups:
        put_back(LOG, STORE)
    for site in (boston, sanfran):
        with site.member() as member:
            begin(member, [member.family.find(one.name) for one in sites if one is not site])
    exchange_until_quiet(sites, tmp_path, most=20)
    assert same_everywhere(sites) and have_all(sites, told)
    for site in (boston, sanfran):
        with site.member() as member:
            assert not member.sealed


def test_a_crash_between_log_and_stamp_is_no_restore(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    append(sanfran, "user.bob", message("one"))
    with sanfran.member() as member:
        member.record()
        assert member.generation is not None
        member.generation.end()
        (stamp,) = (tmp_path / "sanfran" / STORE).glob(".cyrus-sync-generation")
        before = stamp.read_bytes()
        append(sanfran, "user.bob", message("two"))
        member.record()
        member.generation.end()
        member.log.notes.put("generation begun", True)
    stamp.write_bytes(before)
    carry(sanfran, boston, tmp_path / "t")
    assert stamp.read_bytes() != before


def test_the_first_packet_after_the_restore_brings_what_was_said_in_the_second_life(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    put_back = back_up(sanfran)
    first = append(sanfran, "user.bob", message("first"))
    carry(sanfran, boston, tmp_path / "t")
    put_back(LOG, STORE)
    second = append(sanfran, "user.bob", message("second"))
    sanfran.import_from([])
    with sanfran.member() as member:
        begin(member, [member.family.find("boston")])
    carry(sanfran, boston, tmp_path / "t")
    carry(boston, sanfran, tmp_path / "t")
    carry(sanfran, boston, tmp_path / "t")
    for site in (boston, sanfran):
        with site.member() as member:
            assert not member.log.wanted()
    exchange_until_quiet(sites, tmp_path, most=20)
    assert have_all(sites, first + second)
