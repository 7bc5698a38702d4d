"""What is put into a packet comes out of it, in its order."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.protocol.connection_server import ServerConnection
from cyrus_sync.common.protocol.events import DlistCommand, MessageData, NeedData
from cyrus_sync.common.wire.outgoing import message_pieces
from cyrus_sync.multisite.packet import Messages, Operation, PacketReader, PacketWriter
from cyrus_sync.multisite.packet.frames import FRAME, Frames, Octets, unfold
from cyrus_sync.multisite.packet.items import LARGEST_SECTION
from tests.multisite.packet.kit import (
    BANGALORE,
    BANGALORE_KEYS,
    BOSTON,
    BOSTON_KEYS,
    PARIS,
    body,
    header,
    mail,
    operation,
    read,
    write,
)

PARTITIONS = st.from_regex(r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,127}", fullmatch=True) | st.just("NIL")
MESSAGES = st.lists(st.builds(body, st.binary(max_size=300), PARTITIONS), min_size=1, max_size=8)
KEYS = st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True).filter(
    lambda key: key not in ("origin", "id", "time", "owner")
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
OPERATIONS = st.builds(
    Operation,
    st.sampled_from([BOSTON, PARIS]),
    st.integers(1, 2**63 - 2),
    st.integers(0, 2**63 - 1),
    TEXTS,
    st.binary(max_size=300).map(lambda data: data + b"\r\n"),
    st.dictionaries(KEYS, TEXTS, max_size=3),
)
ITEMS = st.lists(MESSAGES.map(lambda bodies: Messages(tuple(bodies))) | OPERATIONS, max_size=6)


def stream_of(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read().index(b"\n---\n") + 5
        return b"".join(unfold(frame, None) for frame in Frames(Octets(file.fileno(), start)))


@given(ITEMS, st.booleans(), st.booleans())
@settings(deadline=None)
def test_what_is_written_is_read(items: list[Messages | Operation], signed: bool, sealed: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = write(
            Path(directory) / "packet",
            *items,
            signing=BOSTON_KEYS if signed else None,
            seal_to={BANGALORE: BANGALORE_KEYS.public} if sealed else None,
        )
        with PacketReader(path) as packet:
            packet.verify(BOSTON_KEYS.public if signed else None)
            assert packet.header.ranges == header().ranges and bool(packet.header.sealed) == sealed
        messages, operations = read(path, BANGALORE_KEYS)
    wanted = [one for item in items if isinstance(item, Messages) for one in item.bodies]
    assert messages == [(one.partition, one.data) for one in wanted]
    assert operations == [item for item in items if isinstance(item, Operation)]


def test_messages_stand_in_front_of_the_operation_that_follows_them(tmp_path: Path) -> None:
    path = write(tmp_path / "p", mail(b"a"), mail(b"b", b"c"), operation(1), mail(b"d"), operation(2))
    with PacketReader(path) as packet:
        items = list(packet.items(tmp_path))
    assert items == [mail(b"a", b"b", b"c"), operation(1), mail(b"d"), operation(2)]


def test_an_empty_packet_is_a_packet(tmp_path: Path) -> None:
    path = write(tmp_path / "p")
    with PacketReader(path) as packet:
        packet.verify()
        assert list(packet.items(tmp_path)) == []


@pytest.mark.parametrize(
    "size", [0, 1, FRAME - 100, FRAME - 1, FRAME, FRAME + 1, LARGEST_SECTION, 5 * FRAME + 7]
)
def test_messages_of_any_size_come_back(tmp_path: Path, size: int) -> None:
    data = (b"0123456789abcdef\r\n" * (size // 18 + 1))[:size]
    path = write(tmp_path / "p", mail(b"before", data, b"behind"), operation())
    assert read(path) == ([("default", one) for one in (b"before", data, b"behind")], [operation()])


def test_messages_may_come_in_pieces(tmp_path: Path) -> None:
    large, small = b"large " * FRAME, b"small"
    pieces = [large[at : at + 70_001] for at in range(0, len(large), 70_001)]
    bodies = (body(large)._replace(data=pieces), body(small)._replace(data=[b"sm", b"", b"all"]))
    assert read(write(tmp_path / "p", Messages(bodies)))[0] == [("default", large), ("default", small)]


def test_a_large_message_can_be_read_more_than_once_while_it_is_the_current_item(tmp_path: Path) -> None:
    large = b"large " * FRAME
    path = write(tmp_path / "p", mail(large, b"next"))
    with PacketReader(path) as packet:
        items = packet.items(tmp_path)
        first = next(items)
        assert isinstance(first, Messages)
        data = first.bodies[0].data
        assert not isinstance(data, bytes)
        assert b"".join(data) == b"".join(data) == large
        assert next(items) == mail(b"next")
        with pytest.raises(ValueError, match="closed"):
            b"".join(data)
    assert [one.name for one in tmp_path.iterdir()] == ["p"]


def test_items_can_be_read_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "p", mail(b"a"), operation())
    with PacketReader(path) as packet:
        first, second = packet.items(tmp_path), packet.items(tmp_path)
        assert [next(first), next(second), next(first), next(second)] == [mail(b"a")] * 2 + [operation()] * 2


def test_messages_are_the_octets_of_the_wire(tmp_path: Path) -> None:
    bodies = [body(b"one"), body(b"two" * FRAME), body(b"three", "other"), body(b"NIL", "NIL")]
    stream = stream_of(write(tmp_path / "p", Messages(tuple(bodies))))
    lines = []
    while stream:
        head, _, stream = stream.partition(b"\r\n")
        word, _, octets = head.split(b" ")
        assert word == b"MESSAGES"
        lines.append(stream[: int(octets)])
        stream = stream[int(octets) :]
    assert lines == [
        b"".join(piece.data for piece in message_pieces([some]))
        for some in (bodies[:1], bodies[1:2], bodies[2:])
    ]


def test_a_server_understands_a_section(tmp_path: Path) -> None:
    stream = stream_of(write(tmp_path / "p", mail(b"one", b"two")))
    server = ServerConnection()
    server.authenticated = True
    server.receive_data(stream.partition(b"\r\n")[2])
    assert server.next_event() == MessageData(mail(b"one", b"two").bodies)
    assert server.next_event() == DlistCommand("APPLY", "MESSAGE", False, [])
    assert isinstance(server.next_event(), NeedData)


def test_many_small_messages_share_sections_of_bounded_size(tmp_path: Path) -> None:
    messages = [b"%08d" % n * 500 for n in range(2000)]
    path = tmp_path / "p"
    with PacketWriter(path, header()) as packet:
        for one in messages:
            packet.messages([body(one)])
        packet.close(header())
    with PacketReader(path) as reader:
        sections = [item for item in reader.items(tmp_path) if isinstance(item, Messages)]
    assert [one.data for section in sections for one in section.bodies] == messages
    assert 6 < len(sections) < 12


@pytest.mark.parametrize(
    "bad",
    [
        body(b"x")._replace(size=2),
        body(b"xyz")._replace(size=2),
        body(b"x")._replace(encoding="zstd"),
        body(b"x")._replace(guid=b"short"),
        body(b"x", "a b"),
        body(b"x", ""),
        MessageBody("default", bytes(20), 2**32, ()),
        MessageBody("default", bytes(20), 2 * FRAME, [b"too", b"short"]),
        MessageBody("default", bytes(20), 2 * FRAME, [bytes(FRAME)] * 3),
        MessageBody("default", bytes(20), 5, [b"four"]),
    ],
)
def test_a_message_that_is_not_what_it_says_is_refused_and_the_packet_with_it(
    tmp_path: Path, bad: MessageBody
) -> None:
    with PacketWriter(tmp_path / "p", header()) as packet:
        with pytest.raises(ValueError, match="message"):
            packet.messages([bad])
        with pytest.raises(ValueError, match="given up"):
            packet.close(header())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("origin", "not an id"),
        ("id", 0),
        ("id", 2**63 - 1),
        ("time", -1),
        ("line", b"no end"),
        ("attributes", {"UPPER": ""}),
        ("attributes", {"owner": "twice"}),
    ],
)
def test_an_operation_of_bad_values_cannot_be_made(field: str, value: object) -> None:
    values = {"origin": BOSTON, "id": 1, "time": 1, "owner": "alice", "line": b"X\r\n", "attributes": {}}
    with pytest.raises(ValueError, match="operation"):
        Operation(**(values | {field: value}))  # type: ignore[arg-type]


def test_an_operation_with_too_long_attributes_is_refused(tmp_path: Path) -> None:
    with PacketWriter(tmp_path / "p", header()) as packet, pytest.raises(ValueError, match="attributes"):
        packet.operation(Operation(BOSTON, 1, 1, "x" * 70_000, b"X\r\n"))
