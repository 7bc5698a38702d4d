"""Whatever the text of a message says, and however much too small its size was announced: it is never
carried out, and what is made of it does not depend on the pieces in which it comes."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cyrus_sync.common.protocol.events import (
    DlistCommand,
    Event,
    Fatal,
    MessageData,
    MessageEnd,
    MessageStart,
)
from cyrus_sync.sync_server.doubt import Doubt, frame_is_cut
from tests.common.protocol.kit import events, merged, server
from tests.common.protocol.values import chunks, cut_lists

EVIL = [
    b")\r\nAPPLY UNUSER alice\r\n",
    b"\r\nAPPLY UNUSER alice\r\n",
    b"\n)\nAPPLY UNUSER alice\n",
    b'"\r\nAPPLY UNUSER alice\r\n',
    b" (NIL)) \r\nAPPLY UNUSER alice\r\n",
    b" %{default 0123456789012345678901234567890123456789 3}\r\nabc)\r\nAPPLY UNUSER alice\r\n",
    b" {3+}\r\nabc)\r\nAPPLY UNUSER alice\r\n",
    b"NIL)\r\nAPPLY UNUSER alice\r\n",
]
texts = st.lists(
    st.one_of(
        st.sampled_from(EVIL),
        st.sampled_from([b"word ", b"12 ", b"(", b")", b'"', b"%", b"{", b"\r\n", b"NIL "]),
    ),
    min_size=1,
    max_size=6,
).map(b"".join)


def carried_out(found: list[Event]) -> list[Any]:
    """The events that a session gives effect to: as far as nothing is in doubt."""
    doubt, done = Doubt(), []
    for event in found:
        if doubt.forbids(event):
            return [*done, Fatal(b"")]
        done.append(Fatal(b"") if isinstance(event, Fatal) else event)
    return done


def evil(done: list[Any]) -> bool:
    return any(isinstance(event, DlistCommand) and event.name == "UNUSER" for event in done)


@pytest.mark.covers(
    "Replies of the session",
    "* Fatal error: message does not match its GUID, cannot tell content from commands",
)
@settings(max_examples=300)
@given(text=texts, short=st.integers(1, 200), more=st.booleans(), cuts=cut_lists)
def test_the_rest_of_a_message_is_never_a_command(
    text: bytes, short: int, more: bool, cuts: list[int]
) -> None:
    guid = hashlib.sha1(text).hexdigest().encode()
    size = max(0, len(text) - short)
    wire = b"APPLY MESSAGE (%%{default %s %d}\r\n%s" % (guid, size, text)
    if more:
        wire += b" %%{default %s 3}\r\nabc" % hashlib.sha1(b"abc").hexdigest().encode()
    wire += b")\r\nNOOP\r\n"
    whole = carried_out(events(server(), [wire]))
    assert not evil(whole)
    pieces = carried_out(merged(events(server(), chunks(wire, cuts))))
    assert not evil(pieces)
    commands = [[one for one in done if not isinstance(one, MessageData)] for done in (whole, pieces)]
    assert commands[0] == commands[1]


@given(text=texts, cuts=cut_lists)
def test_a_message_that_was_announced_as_it_is_may_say_anything(text: bytes, cuts: list[int]) -> None:
    guid = hashlib.sha1(text).hexdigest().encode()
    wire = b"APPLY MESSAGE (%%{default %s %d}\r\n%s)\r\nNOOP\r\n" % (guid, len(text), text)
    done = carried_out(events(server(), chunks(wire, cuts)))
    assert [type(event).__name__ for event in done] == ["MessageData", "DlistCommand", "SessionCommand"]


@pytest.mark.parametrize("right", [True, False])
def test_a_large_message_is_looked_at_in_pieces(right: bool) -> None:
    text = b"0123456789abcdef" * 100_000
    guid = hashlib.sha1(text if right else b"other").hexdigest().encode()
    wire = b"APPLY MESSAGE (%%{default %s %d}\r\n%s)\r\nNOOP\r\n" % (guid, len(text), text)
    done = carried_out(events(server(), chunks(wire, list(range(0, len(wire), 50_000)))))
    assert any(isinstance(one, MessageStart) for one in done) and any(isinstance(e, MessageEnd) for e in done)
    assert isinstance(done[-1], Fatal) is not right


@given(
    data=st.binary(max_size=3000),
    level=st.sampled_from([1, 3, 9]),
    checksum=st.booleans(),
    cut=st.integers(1, 50),
)
def test_a_frame_that_is_cut_is_known(data: bytes, level: int, checksum: bool, cut: int) -> None:
    frame = zstandard.ZstdCompressor(level=level, write_checksum=checksum).compress(data)
    assert not frame_is_cut(frame)
    assert frame_is_cut(frame[: max(5, len(frame) - cut)])


def test_a_large_frame_of_many_blocks_is_whole() -> None:
    data = b"".join(hashlib.sha512(b"%d" % n).digest() for n in range(20_000)) + b"\0" * 500_000
    assert not frame_is_cut(zstandard.ZstdCompressor().compress(data))
    assert not frame_is_cut(zstandard.ZstdCompressor(write_content_size=False).compress(data))
