"""Writing packets: what goes in, what is believed afterwards, and what is left when it fails."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from cyrus_sync.common.errors import CyrusSyncError, StoreError
from cyrus_sync.common.stores.native.care.expire import expire
from cyrus_sync.multisite.cutting import ExportOptions
from cyrus_sync.multisite.export import export
from cyrus_sync.multisite.packet import PacketWriter
from tests.multisite.mail import (
    BOB,
    append,
    create,
    delete,
    expunge,
    header_of,
    message,
    messages_of,
    records,
    row,
    same_everywhere,
    say,
)
from tests.multisite.world import Site, carry, exchange_until_quiet, family_of


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    """Three sites of one family; Bob was born in Boston, and nobody has been told."""
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    create(sites[0], "user.bob")
    return sites


def sizes(paths: list[Path]) -> list[int]:
    return [path.stat().st_size for path in paths]


# -- what goes in


def test_nothing_is_written_where_nothing_is_lacking(sites: list[Site], tmp_path: Path) -> None:
    exchange_until_quiet(sites, tmp_path)
    before = row(sites[0], sites[1])
    assert sites[0].export_to(sites[1], tmp_path) == []
    assert row(sites[0], sites[1]) == before


def test_each_message_goes_once_whatever_is_done_with_it(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    create(boston, "user.bob.Work")
    (guid,) = append(boston, "user.bob", message(1))
    paths = boston.export_to(sanfran, tmp_path / "t")
    with boston.store() as store, store.write(BOB) as writer:
        writer.copy("user.bob", [1], "user.bob.Work")
        writer.set_flags("user.bob", [1], add=["\\Seen"])
    again = boston.export_to(sanfran, tmp_path / "t")
    assert messages_of(paths) == [guid] and messages_of(again) == []
    assert sanfran.import_from([*paths, *again]).refused == {}
    assert sanfran.guids("bob") == {"user.bob": [guid], "user.bob.Work": [guid]}


def test_the_same_message_of_two_users_goes_for_each(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    create(boston, "user.eve")
    append(boston, "user.bob", message(1))
    append(boston, "user.eve", message(1))
    carry(boston, sanfran, tmp_path / "t")
    assert len(sanfran.guids("eve")["user.eve"]) == len(sanfran.guids("bob")["user.bob"]) == 1


def test_no_message_goes_to_the_one_it_came_from(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, bangalore = sites
    exchange_until_quiet(sites, tmp_path)
    (guid,) = append(sanfran, "user.bob", message("from sanfran"))
    carry(sanfran, boston, tmp_path / "t")
    assert messages_of(boston.export_to(sanfran, tmp_path / "t")) == []
    assert messages_of(boston.export_to(bangalore, tmp_path / "t")) == [guid]


def test_one_that_was_expunged_before_the_capture_travels_without_its_message(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    guids = append(boston, "user.bob", message(1), message(2))
    expunge(boston, "user.bob", 1)
    paths = boston.export_to(sanfran, tmp_path / "t")
    assert messages_of(paths) == [guids[1]]
    assert sanfran.import_from(paths).refused == {}
    assert [one.expunged for one in records(sanfran, "user.bob")] == [True, False]


def test_one_that_was_cleaned_up_after_the_capture_travels_as_expunged(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    append(boston, "user.bob", message(1), message(2))
    with boston.member() as member:
        member.record()
    expunge(boston, "user.bob", 1)
    clean_up(boston)
    paths = boston.export_to(sanfran, tmp_path / "t")
    assert len(messages_of(paths)) == 1
    assert sanfran.import_from(paths).refused == {}
    assert sanfran.guids("bob")["user.bob"] == boston.guids("bob")["user.bob"]
    assert not any("cannot be read" in line for line in boston.heard)


def clean_up(site: Site) -> None:
    """What the store's own upkeep does when expunged messages have been kept long enough."""
    with site.store() as store:
        expire(store, BOB, -5)  # type: ignore[arg-type]


def damage(site: Site, raw: bytes) -> None:
    """Change an octet of a message where it is stored, which nobody notices before it is read."""
    size = len(raw)
    with site.store() as store:
        directory = store.directory_of(BOB)  # type: ignore[attr-defined]
    (pack,) = Path(directory).glob("pack-*")
    octets = bytearray(pack.read_bytes())
    octets[len(octets) - size // 8] ^= 0xFF
    pack.write_bytes(octets)


@pytest.mark.parametrize("size", [4000, 3 << 20], ids=["small", "large"])
def test_a_damaged_message_is_left_out_named_and_asked_for(
    sites: list[Site], tmp_path: Path, size: int
) -> None:
    boston, sanfran, bangalore = sites
    append(boston, "user.bob", message("good", 4000))
    raw = message("bad", size)
    (bad,) = append(boston, "user.bob", raw)
    carry(boston, bangalore, tmp_path / "t")
    damage(boston, raw)
    paths = boston.export_to(sanfran, tmp_path / "t")
    assert bad not in messages_of(paths) and len(messages_of(paths)) == 1
    assert f"message {bad.hex()} of bob cannot be read and is left out" in boston.heard
    assert sanfran.import_from(paths).refused == {}
    assert sanfran.guids("bob") == {}, "it waits"
    carry(sanfran, bangalore, tmp_path / "t")
    carry(bangalore, sanfran, tmp_path / "t")
    assert bad in sanfran.guids("bob")["user.bob"], "a sibling had it"
    assert sanfran.dump() == bangalore.dump()


def test_who_has_only_a_damaged_copy_asks_for_another_before_it_takes_a_word_that_needs_it(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    raw = message("bad at sanfran", 4000)
    (bad,) = append(boston, "user.bob", raw)
    create(boston, "user.bob.Work")
    exchange_until_quiet(sites, tmp_path)
    damage(sanfran, raw)
    with sanfran.store() as store, store.write(BOB) as writer:
        assert writer.unsound([bad]) == {bad}
    with boston.store() as store, store.write(BOB) as writer:
        writer.copy("user.bob", [1], "user.bob.Work")
    carry(boston, sanfran, tmp_path / "t")
    assert not [line for line in sanfran.heard if "is set aside" in line]
    with sanfran.member() as member:
        assert member.log.wanted() == (bad,)
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    with sanfran.store() as store, store.write(BOB) as writer:
        assert writer.unsound([bad]) == set()


def test_a_word_of_the_master_counts_although_a_message_that_gets_another_place_is_damaged(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    append(boston, "user.bob", message("first", 4000))
    exchange_until_quiet(sites, tmp_path)
    raw = message("bad at sanfran, and nowhere else", 4000)
    (bad,) = append(sanfran, "user.bob", raw)
    damage(sanfran, raw)
    with sanfran.store() as store, store.write(BOB) as writer:
        assert writer.unsound([bad]) == {bad}
    (told,) = append(boston, "user.bob", message("of the master, with the same UID", 4000))
    carry(boston, sanfran, tmp_path / "t")
    assert not [line for line in sanfran.heard if "is set aside" in line]
    assert {told, bad} <= set(sanfran.guids("bob")["user.bob"])
    with sanfran.store() as store, store.write(BOB) as writer:
        assert writer.unsound([bad]) == {bad}


def test_nobody_waits_for_a_damaged_message_that_was_expunged_since(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    append(boston, "user.bob", message("good", 4000))
    raw = message("bad", 4000)
    append(boston, "user.bob", raw)
    damage(boston, raw)
    carry(boston, sanfran, tmp_path / "t")
    assert sanfran.guids("bob") == {}
    expunge(boston, "user.bob", 2)
    carry(boston, sanfran, tmp_path / "t")
    assert len(sanfran.guids("bob")["user.bob"]) == 1
    with sanfran.member() as member:
        assert member.log.wanted() == () and list(member.log.operations.pending()) == []
    exchange_until_quiet([boston, sanfran], tmp_path)
    assert same_everywhere([boston, sanfran])


# -- sizes


def test_physical_packets_are_no_larger_than_max_size_and_hold_everything(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    for number in range(12):
        append(boston, "user.bob", message(number, 6000))
    paths = boston.export_to(sanfran, tmp_path / "t", ExportOptions(max_size=20_000))
    assert len(paths) >= 3 and max(sizes(paths)) <= 20_000
    headers = [header_of(path) for path in paths]
    assert [one.number for one in headers] == list(range(1, len(paths) + 1))
    assert [one.last for one in headers] == [False] * (len(paths) - 1) + [True]
    assert len({one.logical for one in headers}) == 1
    assert sanfran.import_from(paths).refused == {}
    assert same_everywhere([boston, sanfran])


@pytest.mark.parametrize("order", ["backwards", "one by one"])
def test_physical_packets_may_come_in_any_order(sites: list[Site], tmp_path: Path, order: str) -> None:
    boston, sanfran, _ = sites
    for number in range(8):
        append(boston, "user.bob", message(number, 6000))
    paths = boston.export_to(sanfran, tmp_path / "t", ExportOptions(max_size=20_000))
    if order == "backwards":
        sanfran.import_from(reversed(paths))
    else:
        for path in reversed(paths):
            sanfran.import_from([path])
        for path in paths:
            if path.exists():
                sanfran.import_from([path])
    assert not any(path.exists() for path in paths)
    assert same_everywhere([boston, sanfran])


def test_a_message_that_is_larger_goes_alone_with_a_warning(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    append(boston, "user.bob", message("small", 2000))
    (guid,) = append(boston, "user.bob", message("large", 90_000))
    append(boston, "user.bob", message("small too", 2000))
    paths = boston.export_to(sanfran, tmp_path / "t", ExportOptions(max_size=30_000))
    (large,) = [path for path in paths if guid in messages_of([path])]
    assert messages_of([large]) == [guid]
    warning = f"message {guid.hex()} of bob is larger than -maxsize and goes in a packet of its own"
    assert boston.heard.count(warning) == 1
    assert sorted(sizes(paths))[-2] <= 30_000
    assert sanfran.import_from(reversed(paths)).refused == {}
    assert same_everywhere([boston, sanfran])


def test_a_message_that_is_small_in_the_packet_is_not_warned_of(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    append(boston, "user.bob", b"Subject: much of one thing\r\n\r\n" + b"again and again\r\n" * 20_000)
    paths = boston.export_to(sanfran, tmp_path / "t", ExportOptions(max_size=30_000))
    assert max(sizes(paths)) <= 30_000
    assert not [text for text in boston.heard if "-maxsize" in text]
    assert sanfran.import_from(paths).refused == {}
    assert same_everywhere([boston, sanfran])


def test_limit_counts_with_messages_that_do_not_fill_a_packet(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites

    def incompressible(subject: str) -> bytes:
        return message(subject) + hashlib.shake_256(subject.encode()).digest(23_000)

    for subjects in (["small"], ["one", "two", "three"]):  # an operation each
        append(boston, "user.bob", *map(incompressible if len(subjects) > 1 else message, subjects))
        with boston.member() as member:
            member.record()
    limited = ExportOptions(max_size=40_000, limit=2)
    first = boston.export_to(sanfran, tmp_path / "t", limited)
    assert len(first) == 1, "the three do not fit into what is left"
    second = boston.export_to(sanfran, tmp_path / "t", limited)
    assert len(second) == 3, "one operation always goes"
    assert max(sizes(first + second)) <= 40_000
    assert sanfran.import_from(first + second).refused == {}
    assert same_everywhere([boston, sanfran])


def test_with_limit_the_rest_goes_with_the_next_export(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    for number in range(8):
        append(boston, "user.bob", message(number, 6000))
        with boston.member() as member:
            member.record()
    first = boston.export_to(sanfran, tmp_path / "t", ExportOptions(max_size=20_000, limit=1))
    assert len(first) == 1
    believed = row(boston, sanfran)["boston"]
    assert believed < row(boston)["boston"], "what was not written is not believed"
    sanfran.import_from(first)
    assert row(sanfran)["boston"] == believed
    rounds = 0
    while paths := boston.export_to(sanfran, tmp_path / "t", ExportOptions(max_size=20_000, limit=1)):
        sanfran.import_from(paths)
        rounds += 1
        assert rounds < 20
    assert same_everywhere([boston, sanfran])


# -- what is believed


def test_the_row_is_raised_when_the_packet_is_on_disk_and_not_before(
    sites: list[Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston = sites[0]
    append(boston, "user.bob", message(1))
    believed: list[dict[str, int]] = []
    close = PacketWriter.close

    with boston.member() as member:
        target = member.family.find("sanfran")

        def watched(self: PacketWriter, header: object) -> Path:
            believed.append(member.log.epochs.row(target.id))
            return close(self, header)  # type: ignore[arg-type]

        monkeypatch.setattr(PacketWriter, "close", watched)
        before = member.log.epochs.row(target.id)
        done = export(member, target, lambda n, _size: tmp_path / f"p{n}", ExportOptions())
        assert believed == [before]
        assert member.log.epochs.row(target.id) == done.row != before
        (told,) = [one for one in member.log.epochs.exports(target.id) if one.packet == str(done.paths[0])]
        assert told.row == before


def failing_export(site: Site, target: str, directory: Path, options: ExportOptions) -> list[str]:
    """The files that it leaves."""
    with site.member() as member:
        before = member.log.epochs.row(member.family.find(target).id)
        with pytest.raises((OSError, StoreError)):
            export(member, member.family.find(target), lambda n, _size: directory / f"p{n}", options)
        assert member.log.epochs.row(member.family.find(target).id) == before
    return sorted(path.name for path in directory.iterdir())


def test_a_failure_removes_what_was_written_and_nothing_is_believed(
    sites: list[Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, sanfran, _ = sites
    for number in range(8):
        append(boston, "user.bob", message(number, 6000))
    where = tmp_path / "out"
    where.mkdir()
    close, count = PacketWriter.close, iter(range(99))

    def full(self: PacketWriter, header: object) -> Path:
        if next(count) == 1:
            raise OSError(28, "No space left on device")
        return close(self, header)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(PacketWriter, "close", full)
        left = failing_export(boston, "sanfran", where, ExportOptions(max_size=20_000))
    assert left == []
    carry(boston, sanfran, tmp_path / "t")
    assert same_everywhere([boston, sanfran])


def test_a_packet_that_is_there_already_is_not_overwritten(sites: list[Site], tmp_path: Path) -> None:
    where = tmp_path / "out"
    where.mkdir()
    (where / "p1").write_text("mine")
    left = failing_export(sites[0], "sanfran", where, ExportOptions())
    assert left == ["p1"] and (where / "p1").read_text() == "mine"


def test_what_was_asked_for_is_forgotten_when_it_was_sent(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    (guid,) = append(boston, "user.bob", message(1))
    carry(boston, sanfran, tmp_path / "t")
    with boston.member() as member:
        member.log.request(member.family.find("sanfran").id, [guid])
    assert messages_of(boston.export_to(sanfran, tmp_path / "t")) == [guid]
    assert boston.export_to(sanfran, tmp_path / "t") == []


def test_what_was_asked_for_is_found_with_whoever_has_it(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    create(boston, "user.eve")
    (guid,) = append(boston, "user.bob", message(1))
    append(boston, "user.eve", message(1))
    carry(boston, sanfran, tmp_path / "t")
    expunge(boston, "user.bob", 1)
    clean_up(boston)
    carry(boston, sanfran, tmp_path / "t")
    with boston.member() as member:
        member.log.request(member.family.find("sanfran").id, [guid])
    assert messages_of(boston.export_to(sanfran, tmp_path / "t")) == [guid]


def test_sealed_packets_are_for_their_target_only(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, bangalore = sites
    exchange_until_quiet(sites, tmp_path)
    say(boston, "multisite_seal: yes")
    raw = message("secret word", 400)
    append(boston, "user.bob", raw)
    (path,) = boston.export_to(sanfran, tmp_path / "t")
    assert header_of(path).sealed and b"secret word" not in path.read_bytes()
    refused = bangalore.import_from([path]).refused
    assert "it is for sanfran" in str(refused[path])
    assert sanfran.import_from([path]).refused == {}
    assert same_everywhere([boston, sanfran])


def test_nothing_is_exported_to_somebody_without_keys_where_packets_are_sealed(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    say(boston, "multisite_seal: yes")
    with boston.member() as member:
        bare = replace(member.family.find("sanfran"), keys="", succession="")
        member.set_family(member.family.with_replica(bare))
    with pytest.raises(CyrusSyncError, match="has no public keys"):
        boston.export_to(sanfran, tmp_path / "t")


def test_a_mailbox_that_was_deleted_after_the_capture_needs_no_messages(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    create(boston, "user.bob.Work")
    append(boston, "user.bob.Work", message(1))
    with boston.member() as member:
        member.record()
    delete(boston, "user.bob.Work")
    carry(boston, sanfran, tmp_path / "t")
    assert list(sanfran.guids("bob")) == ["user.bob"]
    assert same_everywhere([boston, sanfran])
