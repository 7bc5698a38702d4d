"""Writing a packet: sizes, limits, failures, crashes, memory."""

from __future__ import annotations

import os
import random
import stat
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common import directory
from cyrus_sync.common.model import MessageBody
from cyrus_sync.multisite.packet import Messages, PacketReader, PacketWriter
from tests.multisite.packet.kit import (
    BANGALORE,
    BANGALORE_KEYS,
    BOSTON_KEYS,
    body,
    header,
    mail,
    operation,
    write,
)

MB = 1 << 20


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def words(seed: int, size: int) -> bytes:
    chance = random.Random(seed)
    return b" ".join(b"%x" % chance.randrange(5000) for _ in range(size // 4))[:size]


@pytest.mark.parametrize("make", [noise, words])
@pytest.mark.parametrize(
    "options", [{}, {"signing": BOSTON_KEYS, "seal_to": {BANGALORE: BANGALORE_KEYS.public}}]
)
def test_the_size_is_never_less_than_the_file_will_have(tmp_path: Path, make, options) -> None:
    for count in (0, 1, 5, 40):
        with PacketWriter(tmp_path / f"{count}", header(), **options) as packet:
            for n in range(count):
                packet.messages([body(make(n, 70_000))])
            packet.operation(operation())
            announced = packet.size
            assert packet.fits(announced)
            assert packet.close(header()).stat().st_size <= announced


@pytest.mark.parametrize("make", [noise, words])
@pytest.mark.parametrize("limit", [100_000, MB, 3 * MB])
def test_a_packet_that_fits_has_at_most_the_limit_and_not_much_less(tmp_path: Path, make, limit: int) -> None:
    with PacketWriter(tmp_path / "p", header(), signing=BOSTON_KEYS) as packet:
        for n in range(5000):
            if not packet.fits(limit, 10_000 + 200):
                break
            packet.messages([body(make(n, 10_000))])
            packet.operation(operation(n + 1))
        size = packet.close(header()).stat().st_size
    assert limit * 0.96 - 11_000 < size <= limit


def test_looking_closely_does_not_change_the_packet(tmp_path: Path) -> None:
    items = [one for n in range(60) for one in (mail(words(n, 50_000)), operation(n + 1))]
    plain = write(tmp_path / "plain", *items)
    with PacketWriter(tmp_path / "looked at", header()) as packet:
        for one in items:
            if isinstance(one, Messages):
                packet.messages(one.bodies)
            else:
                packet.operation(one)
            packet.fits(100)
        assert packet.close(header()).read_bytes() == plain.read_bytes()


def test_the_header_is_that_of_the_end(tmp_path: Path) -> None:
    final = header(number=3, last=False, row=dict.fromkeys(header().row, 2**63 - 2), comment="")
    with PacketWriter(tmp_path / "p", header(comment="to be replaced")) as packet:
        packet.close(final)
    with PacketReader(tmp_path / "p") as reader:
        reader.verify()
        assert reader.header == final


def test_a_header_without_room_leaves_no_packet(tmp_path: Path) -> None:
    with (
        PacketWriter(tmp_path / "p", header()) as packet,
        pytest.raises(ValueError, match="more than were kept"),
    ):
        packet.close(header(comment="x" * 5000))
    assert list(tmp_path.iterdir()) == []


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    assert stat.S_IMODE(write(tmp_path / "p").stat().st_mode) == 0o600


def test_a_name_that_is_taken_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"older")
    with pytest.raises(FileExistsError, match="p"):
        PacketWriter(tmp_path / "p", header())
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_a_file_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    with PacketWriter(tmp_path / "p", header()) as packet:
        (tmp_path / "p").write_bytes(b"meanwhile")
        with pytest.raises(FileExistsError):
            packet.close(header())
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert (tmp_path / "p").read_bytes() == b"meanwhile"


def test_there_is_no_packet_under_its_name_before_it_is_closed(tmp_path: Path) -> None:
    with PacketWriter(tmp_path / "p", header()) as packet:
        packet.messages([body(noise(1, 5 * MB))])
        (temporary,) = tmp_path.iterdir()
        assert temporary.name.startswith(".ms_tmp_")


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    def leave() -> None:
        with PacketWriter(tmp_path / "p", header()) as packet:
            packet.messages([body(noise(1, 5 * MB))])
            raise KeyError

    with pytest.raises(KeyError):
        leave()
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_is_left_without_closing_leaves_nothing(tmp_path: Path) -> None:
    with PacketWriter(tmp_path / "p", header()) as packet:
        packet.operation(operation())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="given up"):
        packet.operation(operation())


def test_a_source_that_fails_gives_its_error_and_leaves_nothing(tmp_path: Path) -> None:
    def source() -> Iterator[MessageBody]:
        yield body(b"one")
        raise OSError("the disk of the store")

    with PacketWriter(tmp_path / "p", header()) as packet:
        with pytest.raises(OSError, match="the disk of the store"):
            packet.messages(source())
        assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with PacketWriter(tmp_path / "p", header()) as packet:
        packet.operation(operation())
        with Path("/dev/full").open("wb") as full:
            os.dup2(full.fileno(), packet._file.fileno())
        with pytest.raises(OSError, match="space"):
            packet.close(header())
    assert list(tmp_path.iterdir()) == []


def test_it_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, directory.rename_new

    def synced(descriptor: int) -> None:
        events.append("sync " + Path(f"/proc/self/fd/{descriptor}").readlink().name[:8])
        fsync(descriptor)

    def renamed(old: Path, new: Path, old_in: int, new_in: int) -> None:
        events.append("rename")
        rename(old, new, old_in, new_in)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(directory, "rename_new", renamed)
    write(tmp_path / "p", operation())
    assert events == ["sync .ms_tmp_", "rename", "sync " + tmp_path.name[:8]]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_at_the_rename_leaves_a_whole_packet_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    rename = directory.rename_new

    def killed(old: Path, new: Path, old_in: int, new_in: int) -> None:
        if moment == "after":
            rename(old, new, old_in, new_in)
        os._exit(9)

    monkeypatch.setattr(directory, "rename_new", killed)
    child = os.fork()
    if not child:
        try:
            write(tmp_path / "p", mail(noise(1, 3 * MB)), operation())
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert (tmp_path / "p").exists() == (moment == "after")
    if moment == "after":
        with PacketReader(tmp_path / "p") as packet:
            packet.verify()
    else:
        assert [path.name[:8] for path in tmp_path.iterdir()] == [".ms_tmp_"]


def test_a_large_message_takes_little_memory(tmp_path: Path) -> None:
    piece = noise(1, 250_000) + bytes(250_000)
    large = MessageBody("default", bytes(20), 128 * len(piece), (piece for _ in range(128)))
    tracemalloc.start()
    try:
        path = write(tmp_path / "p", Messages((large,)), operation())
        with PacketReader(path) as packet:
            packet.verify()
            for item in packet.items(tmp_path):
                if isinstance(item, Messages):
                    (found,) = item.bodies
                    assert sum(map(len, found.data)) == found.size == 64_000_000
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 24 * MB


def test_an_error_of_the_disk_names_the_packet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "packet"
    writer = PacketWriter(path, header())
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        writer.close(header())
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []
