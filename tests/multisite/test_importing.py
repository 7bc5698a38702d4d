"""Applying packets: which are, which wait and why, and what a failure in the middle leaves behind."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.errors import CyrusSyncError, StoreError
from cyrus_sync.common.stores.staging import Staging
from cyrus_sync.multisite import applying
from cyrus_sync.multisite.admission import Gap, Need
from cyrus_sync.multisite.candidates import packets_in
from cyrus_sync.multisite.creation import make_replica
from cyrus_sync.multisite.generation import Generation
from cyrus_sync.multisite.importing import Import
from cyrus_sync.multisite.membership import remove_replica
from cyrus_sync.multisite.oplog.database import Database
from cyrus_sync.multisite.oplog.operations import OperationState
from cyrus_sync.multisite.packet import PacketForged, PacketSealed, PacketTooNew, Range
from cyrus_sync.multisite.replay.batch_writer import BatchWriter
from cyrus_sync.multisite.replay.replay import Replay
from tests.multisite.dying import Killed, dying
from tests.multisite.mail import (
    BOB,
    append,
    create,
    expunge,
    flag,
    header_of,
    leaving_out,
    message,
    messages_of,
    operations,
    rewritten,
    row,
    same_everywhere,
    say,
)
from tests.multisite.world import ExportOptions, Site, carry, exchange_until_quiet, family_of


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    """Three sites in step; Bob was born in Boston and has one message."""
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    create(sites[0], "user.bob")
    append(sites[0], "user.bob", message("first"))
    exchange_until_quiet(sites, tmp_path)
    return sites


@pytest.fixture
def travel(tmp_path: Path) -> Path:
    return tmp_path / "travel"


def packet(source: Site, target: Site, travel: Path, what: str = "more") -> Path:
    """One with a new message."""
    append(source, "user.bob", message(what))
    (path,) = source.export_to(target, travel)
    return path


def refusal(site: Site, path: Path) -> CyrusSyncError:
    """Why a packet is not applied. It is kept, and nothing has changed."""
    site.import_from([])
    before = site.dump(), row(site)
    error = site.import_from([path]).refused[path]
    assert path.exists() and (site.dump(), row(site)) == before
    return error


# -- ranges


def test_an_applied_packet_is_handed_to_the_caller_and_the_rows_rise(sites: list[Site], travel: Path) -> None:
    boston, sanfran, _ = sites
    path = packet(boston, sanfran, travel)
    result = sanfran.import_from([path])
    assert result.applied == [path] and result.operations == 1 and not path.exists()
    assert row(sanfran) == row(boston) == row(sanfran, boston)


def test_a_gap_names_what_is_needed_per_origin(sites: list[Site], travel: Path) -> None:
    boston, sanfran, bangalore = sites
    first = packet(boston, sanfran, travel)
    carry_all(bangalore, boston, travel, message("from bangalore"))
    second = packet(boston, sanfran, travel, "third")
    append(bangalore, "user.bob", message("again"))
    carry(bangalore, boston, travel)
    third = packet(boston, sanfran, travel, "fourth")
    error = refusal(sanfran, third)
    assert isinstance(error, Gap)
    have, lack = row(sanfran), header_of(third).ranges
    names = {header_of(third).names[one.origin]: one for one in error.needs}
    assert set(names) == {"boston", "bangalore"}
    for name, need in names.items():
        assert need == Need(need.origin, lack[need.origin].start - 1, have[name])
    assert sanfran.import_from([third, second, first]).refused == {}
    assert same_everywhere([boston, sanfran])


def carry_all(source: Site, target: Site, travel: Path, raw: bytes) -> None:
    append(source, "user.bob", raw)
    carry(source, target, travel)


def test_a_gap_in_what_a_packet_only_builds_on_is_one_too(sites: list[Site], travel: Path) -> None:
    boston, sanfran, bangalore = sites
    carry_all(bangalore, boston, travel, message("from bangalore"))
    lost = boston.export_to(sanfran, travel)
    path = packet(boston, sanfran, travel)
    needs = {header_of(path).names[need.origin] for need in _gap(refusal(sanfran, path)).needs}
    assert "bangalore" in needs, "though it carries no operation of it"
    assert sanfran.import_from([path, *lost]).refused == {}


def _gap(error: CyrusSyncError) -> Gap:
    assert isinstance(error, Gap)
    return error


def test_diagnosis_tells_the_same_and_changes_nothing(sites: list[Site], travel: Path) -> None:
    boston, sanfran, _ = sites
    lost, path = packet(boston, sanfran, travel), packet(boston, sanfran, travel, "third")
    with sanfran.member() as member:
        importing = Import(member, print, print)
        assert importing.needs(lost) is None
        gap = importing.needs(path)
    assert gap is not None and _gap(refusal(sanfran, path)).needs == gap.needs


def test_what_is_here_already_is_skipped(sites: list[Site], travel: Path) -> None:
    boston, sanfran, _ = sites
    believed = _believed(boston, sanfran)
    first = packet(boston, sanfran, travel)
    _believe(boston, sanfran, believed)
    both = packet(boston, sanfran, travel, "third")
    assert sanfran.import_from([first]).operations == 1
    overlapping = sanfran.import_from([both])
    assert overlapping.applied == [both] and overlapping.operations == 1
    assert same_everywhere([boston, sanfran])


def _believed(site: Site, other: Site) -> dict[str, int]:
    with site.member() as member:
        return member.log.epochs.row(member.family.find(other.name).id)


def _believe(site: Site, other: Site, believed: dict[str, int]) -> None:
    with site.member() as member:
        member.log.epochs.put(member.family.find(other.name).id, believed)


def test_a_packet_that_comes_twice_changes_nothing(sites: list[Site], travel: Path) -> None:
    boston, sanfran, _ = sites
    path = packet(boston, sanfran, travel)
    copy = shutil.copy(path, travel / "copy")
    assert sanfran.import_from([path]).operations == 1
    before = sanfran.dump()
    again = sanfran.import_from([copy])
    assert again.applied == [copy] and again.operations == 0 and sanfran.dump() == before


# -- packets that are not for us


def test_a_packet_of_another_family(sites: list[Site], travel: Path) -> None:
    path = rewritten(packet(*sites[:2], travel), sites[0], family="fa" * 16, family_name="other")
    assert "it belongs to the family 'other'" in str(refusal(sites[1], path))


def test_a_packet_for_somebody_else(sites: list[Site], travel: Path) -> None:
    path = packet(*sites[:2], travel)
    assert "it is for sanfran, not for bangalore" in str(refusal(sites[2], path))


def test_a_packet_for_an_older_incarnation(sites: list[Site], travel: Path) -> None:
    _, sanfran, _ = sites
    path = packet(*sites[:2], travel)
    with sanfran.member() as member:
        family = member.family
        member.set_family(family.with_replica(replace(family.myself, incarnation=1_800_000_000)))
    assert "Replica incarnation is old" in str(refusal(sanfran, path))


def test_a_packet_of_an_older_incarnation_of_its_sender(sites: list[Site], travel: Path) -> None:
    boston, sanfran, _ = sites
    path = packet(boston, sanfran, travel)
    with sanfran.member() as member:
        family = member.family
        member.set_family(family.with_replica(replace(family.find("boston"), incarnation=1_800_000_000)))
    assert "boston was restored at 1800000000 since" in str(refusal(sanfran, path))


def test_a_packet_of_a_replica_that_was_removed(sites: list[Site], travel: Path) -> None:
    path = packet(sites[0], sites[1], travel)
    with sites[1].member() as member:
        remove_replica(member, member.family.find(sites[0].name), force=True)
    assert "removed" in str(refusal(sites[1], path))


def test_a_packet_of_a_newer_format(sites: list[Site], travel: Path) -> None:
    path = packet(*sites[:2], travel)
    octets = path.read_bytes()
    line, _, rest = octets.partition(b"\n")
    path.write_bytes(line.replace(b"1", b"3", 1) + b"\n" + rest)
    assert isinstance(refusal(sites[1], path), PacketTooNew)


def test_a_creation_packet_is_left_alone(sites: list[Site], travel: Path) -> None:
    boston, sanfran, _ = sites
    travel.mkdir(exist_ok=True)
    with boston.member() as member:
        made = make_replica(member, "paris", "", lambda n, _s: travel / f"repl_{n}", ExportOptions())
    result = sanfran.import_from(made.paths)
    assert result.creation == made.paths and all(path.exists() for path in made.paths)
    assert "creation packet" in str(result.refused[made.paths[0]])


# -- signatures


def test_a_packet_that_was_not_signed_by_its_sender_is_refused(sites: list[Site], travel: Path) -> None:
    boston, sanfran, bangalore = sites
    path = packet(boston, sanfran, travel)
    good = path.read_bytes()
    assert isinstance(refusal(sanfran, rewritten(path)), PacketForged), "by nobody"
    path.write_bytes(good)
    assert isinstance(refusal(sanfran, rewritten(path, bangalore)), PacketForged), "by somebody else"
    path.write_bytes(good)
    assert sanfran.import_from([path]).refused == {}


def test_a_packet_that_is_sealed_with_another_key(sites: list[Site], travel: Path) -> None:
    boston, sanfran, _ = sites
    say(boston, "multisite_seal: yes")
    path = packet(boston, sanfran, travel)
    keys = sanfran.directory / "conf/multisite/replica.keys"
    mine = keys.read_bytes()
    keys.unlink()
    assert isinstance(refusal(sanfran, path), PacketSealed)
    keys.write_bytes(mine)
    keys.chmod(0o600)
    assert sanfran.import_from([path]).refused == {}


@pytest.mark.parametrize("at", [0.3, 0.6, 0.98])
def test_of_a_damaged_packet_nothing_is_applied(sites: list[Site], travel: Path, at: float) -> None:
    path = packet(*sites[:2], travel)
    octets = bytearray(path.read_bytes())
    octets[int(len(octets) * at)] ^= 4
    path.write_bytes(octets)
    refusal(sites[1], path)


def test_one_bad_packet_does_not_stop_the_others(sites: list[Site], travel: Path) -> None:
    boston, sanfran, bangalore = sites
    good, bad = packet(bangalore, sanfran, travel, "b"), packet(boston, sanfran, travel)
    bad.write_bytes(bad.read_bytes()[:-30])
    result = sanfran.import_from([bad, good, travel / "none"])
    assert result.applied == [good] and set(result.refused) == {bad, travel / "none"}


def test_packets_are_found_in_directories_by_their_first_line(sites: list[Site], travel: Path) -> None:
    path = packet(*sites[:2], travel)
    renamed = path.rename(travel / "anything")
    (travel / "notes").write_text("cyrus-sync is nice")
    (travel / "deeper").mkdir()
    shutil.copy(renamed, travel / "deeper/copy")
    assert packets_in([travel, renamed]) == [renamed]


# -- messages that are missing


def test_an_operation_whose_message_is_missing_waits_and_the_message_is_asked_for(
    sites: list[Site], travel: Path
) -> None:
    boston, sanfran, _ = sites
    create(boston, "user.eve")
    append(boston, "user.eve", message("for eve"))
    path = packet(boston, sanfran, travel)
    guid = messages_of([path])[-1]
    assert sanfran.import_from([rewritten(path, boston, items=leaving_out(guid))]).refused == {}
    assert guid not in sanfran.guids("bob")["user.bob"]
    assert sanfran.guids("eve")["user.eve"], "the others flow on"
    assert any("1 message(s) are missing" in line for line in sanfran.heard)
    flag(boston, "user.bob", 1, "\\Seen")
    carry(boston, sanfran, travel)
    assert sanfran.dump() != boston.dump(), "what comes later waits behind it"
    (asking,) = sanfran.export_to(boston, travel)
    assert header_of(asking).wanted == (guid,)
    assert boston.import_from([asking]).refused == {}
    (answer,) = boston.export_to(sanfran, travel)
    assert messages_of([answer]) == [guid]
    assert sanfran.import_from([answer]).refused == {}
    assert same_everywhere([boston, sanfran])
    with sanfran.member() as member:
        assert member.log.wanted() == () and list(member.log.operations.pending()) == []
        assert member.log.db.row("SELECT count(*) FROM held") == (0,)


def test_a_message_that_is_missing_may_come_with_somebody_elses_packet(
    sites: list[Site], travel: Path
) -> None:
    boston, sanfran, bangalore = sites
    path = packet(boston, sanfran, travel)
    (guid,) = messages_of([path])
    carry(boston, bangalore, travel)
    sanfran.import_from([rewritten(path, boston, items=leaving_out(guid))])
    carry(sanfran, bangalore, travel)
    carry(bangalore, sanfran, travel)
    assert same_everywhere([boston, sanfran])


def test_one_who_is_asked_for_a_message_that_he_never_had_says_nothing(
    sites: list[Site], travel: Path
) -> None:
    boston, sanfran, bangalore = sites
    path = packet(boston, sanfran, travel)
    sanfran.import_from([rewritten(path, boston, items=leaving_out(*messages_of([path])))])
    carry(sanfran, bangalore, travel)
    assert messages_of(bangalore.export_to(sanfran, travel)) == []


def test_a_message_that_is_nowhere_any_more_is_taken_from_whoever_delivers_it_again(
    sites: list[Site], travel: Path
) -> None:
    boston, sanfran, bangalore = sites
    (guid,) = append(boston, "user.bob", message("burned with Boston"))
    for site in (sanfran, bangalore):
        path = packet(boston, site, travel)
        site.import_from([rewritten(path, boston, items=leaving_out(guid))])
    append(sanfran, "user.bob", message("burned with Boston"))
    for source, target in [(sanfran, bangalore), (bangalore, sanfran)] * 2:
        target.import_from(source.export_to(target, travel))
    for site in (sanfran, bangalore):
        assert guid in site.guids("bob")["user.bob"]
        with site.member() as member:
            assert list(member.log.operations.pending()) == [] and member.log.wanted() == ()


# -- passing on


def test_a_hub_passes_on_what_it_cannot_settle_itself(tmp_path: Path, travel: Path) -> None:
    """Boston and Bangalore never exchange a packet; Bob's master is the one at the far end."""
    boston, hub, bangalore = family_of(tmp_path, "boston", "hub", "bangalore")
    line = [(bangalore, hub), (hub, boston), (boston, hub), (hub, bangalore)]
    create(bangalore, "user.bob")
    append(bangalore, "user.bob", message("first"))
    for source, target in line:
        carry(source, target, travel)
    (guid,) = append(boston, "user.bob", message("from boston"))
    carry(boston, hub, travel)
    assert guid not in hub.guids("bob")["user.bob"], "it is not for the hub to say where it belongs"
    onward = hub.export_to(bangalore, travel)
    assert messages_of(onward) == [guid]
    assert bangalore.import_from(onward).refused == {}
    for _ in range(2):
        for source, target in line:
            carry(source, target, travel)
    assert guid in hub.guids("bob")["user.bob"]
    assert same_everywhere([boston, hub, bangalore])
    with hub.member() as member:
        assert member.log.db.row("SELECT count(*) FROM held") == (0,), "nothing is held for ever"


def test_messages_that_are_passed_on_wait_for_a_physical_packet_that_comes_later(
    tmp_path: Path, travel: Path
) -> None:
    boston, hub, bangalore = family_of(tmp_path, "boston", "hub", "bangalore")
    create(bangalore, "user.bob")
    exchange_until_quiet([boston, hub, bangalore], tmp_path)
    append(boston, "user.bob", *(message(number, 5000) for number in range(8)))
    paths = boston.export_to(hub, travel, ExportOptions(max_size=9000))
    assert len(paths) > 2
    for path in reversed(paths):
        hub.import_from([path])
    hub.import_from(path for path in paths if path.exists())
    exchange_until_quiet([boston, hub, bangalore], tmp_path)
    assert len(bangalore.guids("bob")["user.bob"]) == 8
    assert same_everywhere([boston, hub, bangalore])


# -- death and full disks


class Died(BaseException):
    pass


@contextmanager
def store_without_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The importer dies when the store has a transaction and the log does not know that yet."""

    def commit(self: BatchWriter) -> None:
        busy = bool(self._writers)
        original(self)
        if busy:
            raise Died

    original = BatchWriter.commit
    with monkeypatch.context() as patched:
        patched.setattr(BatchWriter, "commit", commit)
        with pytest.raises(Died):
            yield


def test_what_an_importer_who_died_left_in_the_store_is_not_taken_for_a_change_of_ours(
    sites: list[Site], travel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, sanfran, _ = sites
    path = packet(boston, sanfran, travel)
    mine = row(sanfran)["sanfran"]
    with store_without_log(monkeypatch):
        sanfran.import_from([path])
    assert len(sanfran.guids("bob")["user.bob"]) == 2, "the store has it"
    with sanfran.member() as member:
        assert member.log.operations.begun(BOB)
        failures = member.capture.everything()
        assert any("were begun and not ended" in str(error) for error in failures)
    assert row(sanfran)["sanfran"] == mine
    assert sanfran.import_from([path]).refused == {}
    assert row(sanfran)["sanfran"] == mine, "nothing is told as ours"
    assert same_everywhere([boston, sanfran])
    with sanfran.member() as member:
        assert not member.log.operations.begun()


def test_an_export_ends_first_what_an_importer_who_died_had_begun(
    sites: list[Site], travel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, sanfran, bangalore = sites
    path = packet(boston, sanfran, travel)
    with store_without_log(monkeypatch):
        sanfran.import_from([path])
    mine = row(sanfran)["sanfran"]
    carry(sanfran, bangalore, travel)
    assert row(sanfran)["sanfran"] == mine
    assert same_everywhere(sites)


@pytest.mark.parametrize("at", range(1, 16))
def test_an_importer_may_die_anywhere(
    sites: list[Site], travel: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    boston, sanfran, _ = sites
    create(boston, "user.bob.Work")
    expunge(boston, "user.bob", 1)
    append(sanfran, "user.bob", message("meanwhile"))
    path = packet(boston, sanfran, travel)
    try:
        with dying(at):
            sanfran.import_from([path])
    except Killed:
        assert path.exists()
        assert sanfran.import_from([path]).refused == {}
    for _ in range(2):
        carry(sanfran, boston, travel)
        carry(boston, sanfran, travel)
    assert len(sanfran.guids("bob")["user.bob"]) == 2
    assert same_everywhere([boston, sanfran])


def test_what_a_long_packet_brings_is_safe_before_its_end(
    sites: list[Site], travel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, sanfran, _ = sites
    for n in range(12):
        create(boston, f"user.bob.n{n}")
        append(boston, f"user.bob.n{n}", message(n))
    (path,) = boston.export_to(sanfran, travel)
    before, turns = row(sanfran)["boston"], []
    carried_out = Replay.carry_out_taken

    def dies_in_the_third_turn(self: Replay) -> None:
        turns.append(self)
        if len(turns) == 3:
            raise Killed()
        carried_out(self)

    with monkeypatch.context() as patched:
        patched.setattr(applying, "COMMIT_OPERATIONS", 2)
        patched.setattr(Replay, "carry_out_taken", dies_in_the_third_turn)
        with pytest.raises(Killed):
            sanfran.import_from([path])
    arrived = [name for name, guids in sanfran.guids("bob").items() if guids]
    assert 1 < len(arrived) < 13, "the store has the first of them, and not all"
    with sanfran.member() as member:
        log, origin = member.log, member.family.find("boston").id
        assert log.operations.last(origin) == before + 9, "the log has what was begun"
        (still_open,) = log.db.row("SELECT count(*) FROM operations WHERE state = ?", (OperationState.BEGUN,))
    assert still_open == 3, "and only those of the last turn are open"
    assert sanfran.import_from([path]).refused == {}
    assert same_everywhere([boston, sanfran])


@pytest.mark.parametrize("where", ["log", "store", "both"])
def test_on_a_full_disk_nothing_is_half_done_and_the_packet_is_kept(
    sites: list[Site], travel: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    boston, sanfran, _ = sites
    grow(boston)
    path = packet(boston, sanfran, travel)
    before = sanfran.dump(), operations(sanfran)
    with monkeypatch.context() as patched:
        if where == "log":
            fill_log(patched)
        else:
            patched.setattr(BatchWriter, "writer", _store_full)
        if where == "both":
            patched.setattr(Generation, "end", _log_full)
        with pytest.raises(StoreError, match="full" if where == "log" else "No space"):
            sanfran.import_from([path])
    assert path.exists()
    assert (sanfran.dump(), operations(sanfran)[: len(before[1])]) == before
    assert sanfran.import_from([path]).refused == {}
    assert same_everywhere([boston, sanfran])


def fill_log(patched: pytest.MonkeyPatch) -> None:
    """No log can grow any more."""
    original = Database.__init__

    def made(self: Database, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        (pages,) = self.row("PRAGMA page_count")
        self.execute(f"PRAGMA max_page_count = {pages}")

    patched.setattr(Database, "__init__", made)


def grow(site: Site) -> None:
    """A change that needs more room in the log than it has."""
    with site.store() as store, store.write(BOB) as writer:
        writer.annotate("user.bob", "/comment", "", random.Random(1).randbytes(60_000))


def _log_full(_: Generation) -> None:
    raise sqlite3.OperationalError("database or disk is full")


def _store_full(*_: object, **__: object) -> None:
    raise StoreError("No space left on device")


def test_without_room_for_its_messages_a_packet_waits_for_better_times(
    sites: list[Site], travel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, sanfran, _ = sites
    path = packet(boston, sanfran, travel)

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Staging, "add_made", no_space)
        assert "No space left" in str(refusal(sanfran, path))
    assert sanfran.import_from([path]).refused == {}
    assert same_everywhere([boston, sanfran])


def test_a_capture_on_a_full_disk_records_all_the_next_time(
    sites: list[Site], travel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, sanfran, _ = sites
    create(boston, "user.eve", "user.bob.Work")
    append(boston, "user.bob", message("more"))
    grow(boston)
    with monkeypatch.context() as patched:
        fill_log(patched)
        with pytest.raises(StoreError, match="full"):
            boston.export_to(sanfran, travel)
    carry(boston, sanfran, travel)
    assert same_everywhere([boston, sanfran])


def test_ranges_without_operations_say_what_is_built_on(sites: list[Site], travel: Path) -> None:
    path = packet(*sites[:2], travel)
    ranges = header_of(path).ranges
    assert any(one.end == one.start - 1 for one in ranges.values())
    assert all(isinstance(one, Range) for one in ranges.values())
