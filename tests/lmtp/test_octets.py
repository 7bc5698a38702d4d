"""A message out of what a client sends, however it comes."""

from __future__ import annotations

import pytest

from cyrus_sync.lmtp.octets import END, MAX_LINE, PIECE, LineEnds, LineTooLong, Octets

SENT = b"DATA\r\nA: 1\r\n\r\n..dot\r\n...\r\nbare\nlf\n.no dot of ours\nlone\rcr\r\r\nend\r\n.\r\nQUIT\r\n"
KEPT = b"A: 1\r\n\r\n.dot\r\n..\r\nbare\r\nlf\r\n.no dot of ours\r\nlonecr\r\nend\r\n"


def read(*parts: bytes) -> tuple[list[bytes], bytes]:
    """The lines around one message, and the message."""
    octets = Octets()
    lines: list[bytes] = []
    message: list[bytes] | None = None
    over = False
    for part in parts:
        octets.add(part)
        while True:
            if message is not None and not over:
                piece = octets.piece()
                if piece is None:
                    break
                over = piece == END
                message.append(piece)
                continue
            line = octets.line()
            if line is None:
                break
            lines.append(line)
            if line == b"DATA":
                octets.begin_message()
                message = []
    assert over
    return lines, b"".join(message or [])


def test_a_message_is_what_was_meant_wherever_it_is_cut() -> None:
    assert read(SENT) == ([b"DATA", b"QUIT"], KEPT)
    for first in range(len(SENT)):
        assert read(SENT[:first], SENT[first:]) == ([b"DATA", b"QUIT"], KEPT), first
    assert read(*(SENT[at : at + 1] for at in range(len(SENT)))) == ([b"DATA", b"QUIT"], KEPT)


@pytest.mark.parametrize("offset", range(-6, 7))
def test_nor_does_it_matter_where_its_pieces_end(offset: int) -> None:
    for filler in (b"x" * (PIECE + offset), b"y\r\n" * (PIECE // 3) + b"z" * (6 + offset)):
        text = filler + b"\r\n..\r\n.\n\r\r\n"
        sent = b"DATA\r\n" + text + b".\r\nQUIT\r\n"
        kept = filler + b"\r\n.\r\n\r\n\r\n"
        step = 40_000
        parts = [sent[at : at + step] for at in range(0, len(sent), step)]
        # The second dot stands alone behind CRLF and LF: it is stuffed text, and no end.
        assert read(*parts) == ([b"DATA", b"QUIT"], kept)


@pytest.mark.parametrize(
    "inside", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n.\r"]
)
def test_nothing_but_a_dot_between_two_crlf_ends_a_message(inside: bytes) -> None:
    text = b"A: 1\r\n\r\nbefore" + inside + b"MAIL FROM:<evil@example.org>\r\n"
    lines, message = read(b"DATA\r\n" + text + b".\r\nNOOP\r\n")
    assert lines == [b"DATA", b"NOOP"]
    assert b"MAIL FROM:<evil@example.org>\r\n" in message


@pytest.mark.parametrize(
    ("sent", "kept"), [(b".\r\n", b""), (b"\r\n.\r\n", b"\r\n"), (b"..\r\n.\r\n", b".\r\n")]
)
def test_short_messages_end_too(sent: bytes, kept: bytes) -> None:
    assert read(b"DATA\r\n" + sent) == ([b"DATA"], kept)


def test_a_message_of_nothing_but_dropped_octets_is_no_end() -> None:
    assert read(b"DATA\r\n", b"\r" * 3 * PIECE, b"x\r\n.\r\n")[1] == b"x\r\n"


def test_a_line_that_is_too_long_is_refused_and_the_next_is_read() -> None:
    octets = Octets()
    for _ in range(100):
        octets.add(b"x" * 4096)
        assert octets.line() is None
        assert len(octets) <= MAX_LINE + 4096
    octets.add(b"\r\nNOOP\r\n")
    with pytest.raises(LineTooLong):
        octets.line()
    assert octets.line() == b"NOOP"


# -- parts that have lengths


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_message_in_parts_is_kept_as_one_that_comes_as_lines(cut: int) -> None:
    text = b"A: 1\r\n\r\n.a\nb\r\r\nc\rd\r\n.\r\nNOOP\r\n"
    as_lines = read(b"DATA\r\n" + text.replace(b"\r\n.", b"\r\n..") + b".\r\n")[1]
    ends = LineEnds()
    assert b"".join(ends.add(text[at : at + cut]) for at in range(0, len(text), cut)) + ends.end() == as_lines


def test_a_part_has_the_octets_that_were_announced_and_what_follows_is_a_command() -> None:
    octets = Octets()
    octets.begin_part(3 * PIECE)
    octets.add(b"x" * PIECE)
    assert octets.counted() == b"x" * PIECE
    assert octets.counted() is None
    octets.add(b"\r\n.\r\n" + b"y" * (2 * PIECE - 5) + b"NOOP\r\n")
    rest = b""
    while piece := octets.counted():
        rest += piece
    assert rest == b"\r\n.\r\n" + b"y" * (2 * PIECE - 5)
    assert octets.line() == b"NOOP"
