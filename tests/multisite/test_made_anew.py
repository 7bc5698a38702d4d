"""Snapshots that are not whole, and replicas that are made anew at a bad moment."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.creation import import_replica, make_replica, replace_replica, snapshot_for
from cyrus_sync.multisite.cutting import ExportOptions
from cyrus_sync.multisite.errors import NotApplied
from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.founding import Founding
from cyrus_sync.multisite.mastership import hand_over
from cyrus_sync.multisite.oplog.database import Database
from cyrus_sync.multisite.replay.batch_writer import BatchWriter
from cyrus_sync.multisite.restoring import begin
from cyrus_sync.multisite.working import Work
from tests.multisite.mail import append, create, message, same_everywhere
from tests.multisite.test_export import BOB, damage
from tests.multisite.world import TRUSTING, Site, carry, exchange_until_quiet, family_of

EVE = Owner("user", "eve")
KILLS = int(os.environ.get("MULTISITE_KILLS", "8"))


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    """Boston is Bob's master. All have a message of his."""
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    create(sites[0], "user.bob")
    append(sites[0], "user.bob", message("of old"))
    exchange_until_quiet(sites, tmp_path)
    return sites


def snapshot(maker: Site, target: Site, where: Path) -> list[Path]:
    """``mkreplica -export -replace``."""
    where.mkdir(exist_ok=True)
    maker.packets += 1
    with maker.member() as member:
        replica = member.family.find(target.name)
        name = f"snap{maker.packets}"
        return snapshot_for(member, replica, lambda n, _s: where / f"{name}_{n}", ExportOptions()).paths


def remade(site: Site, paths: list[Path], *, force: bool = False) -> None:
    """``mkreplica -import -replace``."""
    replace_replica(site.config, paths, force=force, warn=site.heard.append, notice=site.heard.append)


@pytest.fixture
def rotten(sites: list[Site], tmp_path: Path) -> bytes:
    """GUID of a message that all have, and Boston cannot read any more."""
    raw = message("rots at boston", 4000)
    (guid,) = append(sites[0], "user.bob", raw)
    exchange_until_quiet(sites, tmp_path)
    damage(sites[0], raw)
    return guid


def test_a_new_replica_gets_from_others_what_the_maker_of_its_snapshot_cannot_read(
    sites: list[Site], rotten: bytes, tmp_path: Path
) -> None:
    boston, sanfran, bangalore = sites
    with boston.member() as member:
        made = make_replica(member, "paris", "", lambda n, _s: tmp_path / f"repl_{n}", ExportOptions())
    paris = Site("paris", tmp_path / "paris")
    import_replica(paris.config, made.paths, TRUSTING, warn=paris.heard.append, notice=paris.heard.append)
    carry(paris, boston, tmp_path / "t")
    carry(boston, sanfran, tmp_path / "t")
    four = [boston, sanfran, bangalore, paris]
    exchange_until_quiet(four, tmp_path)
    assert same_everywhere(four)
    assert rotten in paris.guids_of(BOB)


@pytest.mark.parametrize("target", [0, 2], ids=["the master", "another"])
def test_who_is_made_anew_from_a_snapshot_that_is_not_whole_deletes_nothing_elsewhere(
    sites: list[Site], tmp_path: Path, target: int
) -> None:
    raw = message("rots at sanfran", 4000)
    (guid,) = append(sites[0], "user.bob", raw)
    exchange_until_quiet(sites, tmp_path)
    damage(sites[1], raw)
    remade(sites[target], snapshot(sites[1], sites[target], tmp_path / "t"))
    exchange_until_quiet(sites, tmp_path, most=20)
    assert same_everywhere(sites)
    assert guid in sites[target].guids_of(BOB)


def test_mail_that_a_restored_replica_cannot_tell_of_yet_is_not_thrown_away(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, bangalore = sites
    with bangalore.member() as member:
        begin(member, [member.family.find("boston"), member.family.find("sanfran")])
    (own,) = append(bangalore, "user.bob", message("came since the restore"))
    paths = snapshot(boston, bangalore, tmp_path / "t")
    with pytest.raises(NotApplied, match=r"cannot tell yet what mail.*lsrestore.*-force"):
        remade(bangalore, paths)
    assert own in bangalore.guids_of(BOB)
    exchange_until_quiet(sites, tmp_path)
    remade(bangalore, snapshot(boston, bangalore, tmp_path / "t"))
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert own in sanfran.guids_of(BOB)


# -- killed in the middle


def acts(count: Callable[[], object]) -> AbstractContextManager[object]:
    """Whatever makes something last, to the log, the store or the family file: `count` is called before and
    after each of these."""

    def counted(act: Callable[..., object]) -> Callable[..., object]:
        def counting(*args: object, **kwargs: object) -> object:
            count()
            done = act(*args, **kwargs)
            count()
            return done

        return counting

    patches = ExitStack()
    for kind, name in (
        (Database, "execute"),
        (Database, "executemany"),
        (Database, "commit"),
        (BatchWriter, "commit"),
        (Family, "save"),
    ):
        patches.enter_context(patch.object(kind, name, counted(getattr(kind, name))))
    return patches


def how_many(work: Callable[[], object]) -> int:
    """The acts of some work."""
    number = 0

    def count() -> None:
        nonlocal number
        number += 1

    with acts(count):
        work()
    return number


def killed(work: Callable[[], object], at: int) -> bool:
    """Do some work in a process that SIGKILL ends at one of its acts; False if it came to its end."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.WIFSIGNALED(status)
    left = at

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        with acts(count):
            work()
    finally:
        os._exit(0)


def test_who_is_killed_at_any_act_is_made_anew_the_next_time(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, bangalore = sites
    for number in range(3):
        create(boston, f"user.bob.f{number}")
        append(boston, f"user.bob.f{number}", message(f"in {number}"), message(f"more in {number}"))
    exchange_until_quiet(sites, tmp_path)
    (own,) = append(bangalore, "user.bob", message("told to boston alone"))
    carry(bangalore, boston, tmp_path / "t")
    append(boston, "user.bob.f1", message("of the last minute"))
    paths = snapshot(boston, bangalore, tmp_path / "t")
    then = [(site, site.directory.with_suffix(".then")) for site in sites]
    for site, copy in then:
        shutil.copytree(site.directory, copy)
    whole = how_many(lambda: remade(bangalore, paths))
    for at in range(1, whole + 1, max(1, whole // KILLS)):
        for site, copy in then:
            shutil.rmtree(site.directory)
            shutil.copytree(copy, site.directory)
        assert killed(lambda: remade(bangalore, paths), at)
        if at % 2:
            killed(lambda: remade(bangalore, paths), whole // 2)
        remade(bangalore, paths)
        with bangalore.member() as member:
            assert not member.sealed, at
        exchange_until_quiet(sites, tmp_path)
        assert same_everywhere(sites), at
        assert own in sanfran.guids_of(BOB), at


def test_what_a_master_has_not_answered_is_told_to_all_although_the_snapshot_has_it(
    sites: list[Site], tmp_path: Path
) -> None:
    """Boston's mailbox stands in the log of the snapshot, but Bangalore takes it from Bob's master only."""
    boston, sanfran, bangalore = sites
    with boston.member() as member:
        hand_over(member, BOB, member.family.find("sanfran"))
    exchange_until_quiet(sites, tmp_path)
    create(boston, "user.bob.Work")
    new = append(boston, "user.bob.Work", message("not answered yet"))
    carry(sanfran, boston, tmp_path / "t")
    remade(sanfran, snapshot(boston, sanfran, tmp_path / "t"))
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert set(new) <= bangalore.guids_of(BOB)


def test_what_it_has_said_itself_is_kept_where_nobody_else_is_to_answer_it(
    sites: list[Site], tmp_path: Path
) -> None:
    """Boston hands Bob over to Sanfran before it hears what Sanfran has said of him."""
    boston, sanfran, _ = sites
    new = append(sanfran, "user.bob", message("said before"))
    (path,) = sanfran.export_to(boston, tmp_path / "t")
    with boston.member() as member:
        hand_over(member, BOB, member.family.find("sanfran"))
    assert not boston.import_from([path]).refused
    remade(sanfran, snapshot(boston, sanfran, tmp_path / "t"))
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert set(new) <= sanfran.guids_of(BOB)


def test_what_it_has_said_itself_is_kept_where_it_becomes_the_master_later(
    sites: list[Site], tmp_path: Path
) -> None:
    """Sanfran gets it back from Bangalore, and Boston hands Bob over before it hears of it."""
    boston, sanfran, bangalore = sites
    new = append(sanfran, "user.bob", message("told to bangalore alone"))
    carry(sanfran, bangalore, tmp_path / "t")
    remade(sanfran, snapshot(bangalore, sanfran, tmp_path / "t"))
    with boston.member() as member:
        hand_over(member, BOB, member.family.find("sanfran"))
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert set(new) <= sanfran.guids_of(BOB)


@pytest.mark.parametrize("when", ["its maker knows", "and the end is interrupted", "it hears later"])
def test_what_it_has_said_as_the_master_that_it_never_was_is_kept_where_it_becomes_the_master(
    sites: list[Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Eve is born at two sites. Sanfran takes itself for her master; Boston is, and hands her over to Sanfran
    before it hears of Sanfran's mail. Bangalore has heard both."""
    boston, sanfran, bangalore = sites
    create(boston, "user.eve")
    carry(boston, bangalore, tmp_path / "t")
    create(sanfran, "user.eve", "user.eve.Sent")
    new = append(sanfran, "user.eve.Sent", message("told to bangalore alone"))
    carry(sanfran, bangalore, tmp_path / "t")
    with boston.member() as member:
        hand_over(member, EVE, member.family.find("sanfran"))
    if when != "it hears later":
        carry(boston, bangalore, tmp_path / "t")
    with monkeypatch.context() as dying, contextlib.suppress(KeyboardInterrupt):
        if when == "and the end is interrupted":
            dying.setattr(Work, "after_restore", interrupted)
        remade(sanfran, snapshot(bangalore, sanfran, tmp_path / "t"))
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert set(new) <= sanfran.guids_of(EVE)


def test_that_is_told_by_the_next_exchange_where_the_end_of_it_was_interrupted(
    sites: list[Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, sanfran, bangalore = sites
    with boston.member() as member:
        hand_over(member, BOB, member.family.find("sanfran"))
    exchange_until_quiet(sites, tmp_path)
    create(boston, "user.bob.Work")
    new = append(boston, "user.bob.Work", message("not answered yet"))
    carry(sanfran, boston, tmp_path / "t")
    with monkeypatch.context() as dying:
        dying.setattr(Work, "after_restore", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remade(sanfran, snapshot(boston, sanfran, tmp_path / "t"))
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert set(new) <= bangalore.guids_of(BOB)


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_sealed_replica_that_is_made_anew_once_more_tells_nothing(
    sites: list[Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, sanfran, _ = sites
    with boston.member() as member:
        hand_over(member, BOB, member.family.find("sanfran"))
    exchange_until_quiet(sites, tmp_path)
    create(boston, "user.bob.Work")
    carry(sanfran, boston, tmp_path / "t")
    append(sanfran, "user.bob", message("told to nobody"))
    paths = snapshot(boston, sanfran, tmp_path / "t")
    with monkeypatch.context() as dying:
        dying.setattr(Founding, "end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remade(sanfran, paths, force=True)
    remade(sanfran, paths, force=True)
    with sanfran.member() as member, boston.member() as other:
        assert member.sealed
        mine = member.log.self_id
        assert member.log.operations.last(mine) <= other.log.operations.last(mine)


def test_what_the_maker_of_a_snapshot_has_said_as_master_counts_as_settled(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, _, bangalore = sites
    append(boston, "user.bob", message("told to nobody yet"))
    remade(bangalore, snapshot(boston, bangalore, tmp_path / "t"))
    with bangalore.member() as member:
        maker = member.family.find("boston").id
        last = max(one.id for one in member.log.operations.of_owner(BOB) if one.origin == maker)
        assert member.log.masters.settled(BOB)[maker] >= last
