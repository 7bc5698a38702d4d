"""Old operations are trimmed; whoever lacks some of them is told, and made anew from a snapshot."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite import forgetting
from cyrus_sync.multisite.creation import import_replica, make_replica, replace_replica, snapshot_for
from cyrus_sync.multisite.cutting import ExportOptions
from cyrus_sync.multisite.errors import NotApplied, TooLate
from cyrus_sync.multisite.founding import Founding
from cyrus_sync.multisite.mastership import take_over
from cyrus_sync.multisite.oplog.given import Given
from cyrus_sync.multisite.scrubbing import Ages, Scrubbed, scrub
from tests.multisite.mail import (
    BOB,
    append,
    create,
    delete,
    expunge,
    flag,
    guid_of,
    message,
    records,
    rename,
    same_everywhere,
)
from tests.multisite.world import TRUSTING, Site, carry, exchange, exchange_until_quiet, family_of

DAY = 86400
AGES = Ages(30 * DAY, 365 * DAY)


@dataclass
class Clock:
    now: float = field(default_factory=time.time)

    def __call__(self) -> float:
        self.now += 1
        return self.now

    def days(self, number: float) -> None:
        self.now += number * DAY


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sites(tmp_path: Path, clock: Clock) -> list[Site]:
    """Three in step, with a message of Bob's; Boston is his master."""
    sites = family_of(tmp_path, "boston", "sanfran", "sydney", clock=clock)
    create(sites[0], "user.bob")
    append(sites[0], "user.bob", message("of old"))
    exchange_until_quiet(sites, tmp_path)
    exchange(sites, tmp_path, rounds=1)
    return sites


def scrubbed(site: Site, ages: Ages = AGES) -> Scrubbed:
    with site.member() as member:
        return scrub(member, ages)


def operations(site: Site) -> int:
    with site.member() as member:
        return member.log.operations.count()


def heard_by_all(sites: list[Site], directory: Path) -> None:
    """Everybody shows everybody what he has: packets go even where there is nothing else to tell."""
    for site in sites:
        append(site, "user.bob", message(f"hello from {site.name} at {time.monotonic()}"))
    exchange(sites, directory, rounds=3)


def test_what_all_have_shown_to_have_goes_and_nothing_younger(
    sites: list[Site], tmp_path: Path, clock: Clock
) -> None:
    heard_by_all(sites, tmp_path)
    clock.days(29)
    assert not scrubbed(sites[0]).operations
    clock.days(2)
    append(sites[0], "user.bob", message("young"))
    before = operations(sites[0])
    done = scrubbed(sites[0])
    assert sum(done.operations.values()) > 3 and not done.unheard
    assert operations(sites[0]) == before - sum(done.operations.values())
    for site in sites:
        scrubbed(site)
    append(sites[2], "user.bob", message("later"))
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)


def test_what_somebody_has_not_shown_stays_for_a_year(
    sites: list[Site], tmp_path: Path, clock: Clock
) -> None:
    """Exports to Sydney arrive, as everybody believes; but nothing comes from there."""
    with sites[0].member() as member, member.log.db.transaction():
        member.log.db.execute("DELETE FROM heard WHERE replica = ?", (member.family.find("sydney").id,))
    clock.days(300)
    assert not scrubbed(sites[0]).operations
    clock.days(66)
    done = scrubbed(sites[0])
    with sites[0].member() as member:
        assert done.operations and member.family.find("sydney").id in done.unheard


def test_who_hears_of_it_from_others_only_may_trim_too(tmp_path: Path, clock: Clock) -> None:
    """Two leaves that meet at a hub."""
    hub, one, other = sites = family_of(tmp_path, "hub", "one", "other", clock=clock)
    create(hub, "user.bob")
    for number in range(4):
        for leaf in (one, other):
            if number:
                append(leaf, "user.bob", message(f"{leaf.name} {number}"))
            carry(leaf, hub, tmp_path / "t")
            carry(hub, leaf, tmp_path / "t")
    clock.days(31)
    assert scrubbed(one).operations and scrubbed(other).operations
    assert not scrubbed(one).unheard
    append(one, "user.bob", message("later"))
    for _ in range(3):
        for leaf in (one, other):
            carry(leaf, hub, tmp_path / "t")
            carry(hub, leaf, tmp_path / "t")
    assert same_everywhere(sites)


def test_a_packet_without_operations_shows_once_a_week_what_has_come(
    sites: list[Site], tmp_path: Path, clock: Clock
) -> None:
    boston, sanfran, _ = sites
    for day in range(60):
        clock.days(1)
        append(boston, "user.bob", message(f"day {day}"))
        carry(boston, sanfran, tmp_path / "t")
        carry(sanfran, boston, tmp_path / "t")
    with boston.member() as member:
        told = member.log.epochs.exports(member.family.find("sanfran").id)
        shown = member.log.heard.of(member.family.find("sanfran").id)
        last = member.log.operations.last(member.log.self_id)
    assert shown is not None and last - 8 <= shown.row[boston_id(boston)] < last and len(told) > 20
    with sanfran.member() as member:
        ours = member.log.epochs.exports(boston_id(boston))
        assert 3 <= len(ours) <= 10, "and not every day"


def boston_id(site: Site) -> str:
    with site.member() as member:
        return member.log.self_id


def test_flags_are_still_merged_with_what_a_trimmed_operation_had_told(
    sites: list[Site], tmp_path: Path, clock: Clock
) -> None:
    flag(sites[0], "user.bob", 1, "\\Seen", "Work")
    exchange_until_quiet(sites, tmp_path)
    heard_by_all(sites, tmp_path)
    clock.days(40)
    for site in sites:
        assert scrubbed(site).operations
    with sites[1].store() as store, store.write(BOB) as writer:
        writer.set_flags("user.bob", [1], remove=["Work"])
    flag(sites[2], "user.bob", 1, "\\Flagged")
    flag(sites[0], "user.bob", 1, "\\Answered")
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    with sites[0].store() as store, store.read(BOB) as reader:
        state = reader.mailbox("user.bob")
        assert state is not None
        first = next(record for batch in reader.records(state.uniqueid) for record in batch)
    assert set(first.flags.split()) == {"\\Seen", "\\Answered", "\\Flagged"}


def test_a_deletion_that_did_not_count_takes_no_base_of_merging_along(
    sites: list[Site], tmp_path: Path, clock: Clock
) -> None:
    """Operations are trimmed by origin: those of the master first, the deletion behind them."""
    master, other, third = sorted(sites, key=boston_id)
    create(master, "user.carol", "user.carol.Work")
    append(master, "user.carol.Work", message("at work"))
    flag(master, "user.carol.Work", 1, "Work")
    exchange_until_quiet(sites, tmp_path)
    delete(other, "user.carol.Work")
    append(master, "user.carol.Work", message("news"))
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites) and len(third.guids("carol")["user.carol.Work"]) == 2
    heard_by_all(sites, tmp_path)
    clock.days(40)
    for site in sites:
        assert scrubbed(site).operations
    with other.store() as store, store.write(Owner("user", "carol")) as writer:
        writer.set_flags("user.carol.Work", [1], remove=["Work"])
    flag(third, "user.carol.Work", 1, "\\Flagged")
    flag(master, "user.carol.Work", 1, "\\Answered")
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert set(records(master, "user.carol.Work")[0].flags.split()) == {"\\Flagged", "\\Answered"}


def test_a_message_whose_operation_is_trimmed_does_not_travel_again(
    sites: list[Site], tmp_path: Path, clock: Clock
) -> None:
    append(sites[0], "user.bob", message("large", 200_000))
    exchange_until_quiet(sites, tmp_path)
    heard_by_all(sites, tmp_path)
    clock.days(40)
    for site in sites:
        scrubbed(site)
    create(sites[0], "user.bob.Archive")
    with sites[0].store() as store, store.write(BOB) as writer:
        writer.copy("user.bob", [2], "user.bob.Archive", move=True)
    (path,) = sites[0].export_to(sites[1], tmp_path / "t")
    assert path.stat().st_size < 20_000
    sites[1].import_from([path])
    (path,) = sites[1].export_to(sites[2], tmp_path / "t")
    assert path.stat().st_size < 20_000, "nor when it is passed on"
    sites[2].import_from([path])
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)


def test_of_messages_that_are_gone_nothing_is_remembered_for_ever(
    sites: list[Site], tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, counts = sites[0], list[int]()
    create(boston, "user.ann")
    create(boston, "user.bob.Old", "user.bob.Moved")
    append(boston, "user.bob.Old", *map(message, range(20)))
    append(boston, "user.bob.Moved", message("moved"))
    for _ in range(3):
        heard_by_all(sites, tmp_path)
        clock.days(31)
        append(boston, "user.bob", message(f"young {len(counts)}"))
        scrubbed(boston)
        with boston.member() as member:
            counts.append(Given(member.log.db).count())
        if len(counts) == 1:
            delete(boston, "user.bob.Old")
            rename(boston, "user.bob.Moved", "user.ann.Moved")
            monkeypatch.setattr(forgetting, "FREE", 4)
    assert counts[0] > 20 and counts[-1] < 20, counts
    left = [guid_of(message(text)) for text in ("of old", "moved")]
    with boston.member() as member:
        assert Given(member.log.db).among("user:bob", left) == set(left), "wherever it is now"


def test_what_a_master_has_not_answered_stays_however_old(
    sites: list[Site], tmp_path: Path, clock: Clock
) -> None:
    """Boston burns down and is not missed for two years; then Sanfran becomes the master."""
    (guid,) = append(sites[2], "user.bob", message("unanswered"))
    carry(sites[2], sites[1], tmp_path / "t")
    clock.days(800)
    append(sites[2], "user.bob", message("much later"))
    carry(sites[2], sites[1], tmp_path / "t")
    scrubbed(sites[1])
    with sites[1].member() as member:
        take_over(member, BOB, member.family.find("sanfran"), sites[1].heard.append)
    carry(sites[1], sites[2], tmp_path / "t")
    assert guid in sites[1].guids_of(BOB)


def late(sites: list[Site], directory: Path, clock: Clock) -> None:
    """Sydney is away for more than a year; the others go on."""
    for month in range(14):
        clock.days(31)
        append(sites[0], "user.bob", message(f"month {month}"))
        if month == 3:
            expunge(sites[0], "user.bob", 1)
            create(sites[0], "user.bob.Work")
            rename(sites[0], "user.bob.Work", "user.bob.Play")
        exchange(sites[:2], directory, rounds=2)


def snapshot(maker: Site, target: Site, where: Path) -> list[Path]:
    where.mkdir(parents=True, exist_ok=True)
    maker.packets += 1
    with maker.member() as member:
        return snapshot_for(
            member,
            member.family.find(target.name),
            lambda n, _s: where / f"snap{maker.packets}_{n}",
            ExportOptions(max_size=6000),
        ).paths


def test_who_comes_back_too_late_is_told_and_made_anew(
    sites: list[Site], tmp_path: Path, clock: Clock
) -> None:
    boston, _, sydney = sites
    (own,) = append(sydney, "user.bob", message("told nobody"))
    late(sites, tmp_path, clock)
    with pytest.raises(TooLate, match="mkreplica -export -replace"):
        boston.export_to(sydney, tmp_path / "t")
    paths = snapshot(boston, sydney, tmp_path / "t")

    def remade(paths: list[Path], *, force: bool = False) -> None:
        replace_replica(
            sydney.config, paths, force=force, warn=sydney.heard.append, notice=sydney.heard.append
        )

    with pytest.raises(NotApplied, match=r"1 operations of this replica are not known.*syncreplica -export"):
        remade(paths)
    carry(sydney, boston, tmp_path / "t")
    with sydney.member() as member:
        before = member.family.myself
    remade(snapshot(boston, sydney, tmp_path / "t"))
    with sydney.member() as member:
        assert member.family.myself == before and not member.sealed, "it is who it was"
        assert not list(member.record())
    for other in sites[:2]:
        carry(sydney, other, tmp_path / "t")
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites) and own in sydney.guids_of(BOB)
    flag(sydney, "user.bob", 3, "\\Seen")
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)


def test_who_has_lost_its_log_meanwhile_is_sealed_until_the_others_have_answered(
    sites: list[Site], tmp_path: Path, clock: Clock
) -> None:
    boston, sanfran, sydney = sites
    append(sydney, "user.bob", message("only sanfran has it"))
    carry(sydney, sanfran, tmp_path / "t")
    paths = snapshot(boston, sydney, tmp_path / "t")
    replace_replica(sydney.config, paths, force=True, warn=sydney.heard.append, notice=sydney.heard.append)
    with sydney.member() as member:
        assert member.sealed
    exchange_until_quiet(sites, tmp_path, most=20)
    with sydney.member() as member:
        assert not member.sealed
    assert same_everywhere(sites)


def test_a_new_replica_is_made_from_a_log_that_was_trimmed(
    sites: list[Site], tmp_path: Path, clock: Clock
) -> None:
    """By somebody who is not the master, and has changes that were not answered."""
    late([*sites[:2]], tmp_path, clock)
    heard_by_all(sites[:2], tmp_path)
    append(sites[1], "user.bob", message("not answered"))
    flag(sites[1], "user.bob", 3, "\\Flagged")
    with sites[1].member() as member:
        made = make_replica(member, "paris", "", lambda n, _s: tmp_path / f"repl_{n}", ExportOptions())
    paris = Site("paris", tmp_path / "paris", clock=clock)
    import_replica(paris.config, made.paths, TRUSTING, warn=paris.heard.append, notice=paris.heard.append)
    four = [*sites[:2], paris]
    carry(paris, sites[1], tmp_path / "t")
    carry(sites[1], sites[0], tmp_path / "t")
    exchange_until_quiet(four, tmp_path)
    assert same_everywhere(four)
    append(paris, "user.bob", message("from paris"))
    exchange_until_quiet(four, tmp_path)
    assert same_everywhere(four)


def test_an_interrupted_snapshot_is_taken_over_once_more(
    sites: list[Site], tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = snapshot(sites[0], sites[2], tmp_path / "t")
    assert len(paths) > 1
    part, count = Founding.part, iter(range(9))

    def dies(self: Founding, packet: object) -> None:
        if next(count) == 1:
            raise OSError("the disk is full")
        part(self, packet)  # type: ignore[arg-type]

    monkeypatch.setattr(Founding, "part", dies)
    with pytest.raises(OSError, match="full"):
        replace_replica(sites[2].config, paths, warn=print, notice=print)
    monkeypatch.setattr(Founding, "part", part)
    replace_replica(sites[2].config, paths, warn=print, notice=print)
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)


def test_logs_lose_their_old_lines_and_no_others(sites: list[Site], clock: Clock) -> None:
    directory = sites[0].directory / "conf" / "log"
    directory.mkdir(exist_ok=True)
    log, now = directory / "multisite_log", clock.now

    def line(age: int) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now - age * DAY))
        return f"{stamp} multitool[1] something {age} days ago\n"

    log.write_text(line(800) + "  and more of it\n" + line(364) + line(1))
    log.chmod(0o640)
    assert scrubbed(sites[0]).lines == 2
    assert log.read_text() == line(364) + line(1) and log.stat().st_mode & 0o777 == 0o640
