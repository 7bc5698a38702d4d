"""Commands out of octets: lines, literals, and what is read in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.lifeboat.grammar import BadCommand, Cursor, Framer, Line, Literal, Overflow, quoted


def test_a_line_is_a_command_however_it_comes() -> None:
    framer = Framer()
    assert framer.feed(b"a1 NO") == []
    assert framer.feed(b"OP\r\na2 LOGOUT\r\n") == [Line(b"a1 NOOP"), Line(b"a2 LOGOUT")]


def test_a_literal_has_to_be_let_in_and_belongs_to_its_command() -> None:
    framer = Framer()
    assert framer.feed(b"a1 LOGIN {5}\r\nalice") == [Literal(b"a1 LOGIN {5}", 5)]
    framer.accept()
    assert framer.feed(b" {2}\r\n") == [Literal(b"a1 LOGIN {5}\r\nalice {2}", 2)]
    framer.accept()
    assert framer.feed(b"pw\r\n") == [Line(b"a1 LOGIN {5}\r\nalice {2}\r\npw")]


def test_nothing_is_left_of_a_command_whose_literal_is_refused() -> None:
    framer = Framer()
    assert framer.feed(b"a1 APPEND INBOX {9000000}\r\n") == [Literal(b"a1 APPEND INBOX {9000000}", 9000000)]
    framer.refuse()
    assert framer.feed(b"a2 NOOP\r\n") == [Line(b"a2 NOOP")]


def test_a_literal_that_is_not_announced_is_taken_as_far_as_it_is_small() -> None:
    assert Framer().feed(b"a1 LOGIN {1+}\r\na {1+}\r\nb\r\n") == [Line(b"a1 LOGIN {1+}\r\na {1+}\r\nb")]
    assert Framer(100).feed(b"a1 APPEND x {101+}\r\n") == [Overflow()]
    assert Framer(100).feed(b"x" * 101) == [Overflow()]


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(1, 7))
def test_it_does_not_matter_how_the_octets_are_cut(literals: list[bytes], size: int) -> None:
    whole = b"a SEARCH" + b"".join(b" {%d+}\r\n%b" % (len(one), one) for one in literals)
    framer = Framer()
    data = whole + b"\r\nb NOOP\r\n"
    events = [event for at in range(0, len(data), size) for event in framer.feed(data[at : at + size])]
    assert events == [Line(whole), Line(b"b NOOP")]
    cursor = Cursor(whole)
    assert (cursor.atom(), cursor.skip(b" "), cursor.atom()) == (b"A", True, b"SEARCH")
    for one in literals:
        cursor.space()
        assert cursor.astring() == one
    cursor.end()


def test_strings_are_read_in_all_their_forms() -> None:
    cursor = Cursor(b'atom "with \\"quotes\\"" {3}\r\na b (x "y z")')
    assert cursor.astring() == b"atom"
    cursor.space()
    assert cursor.astring() == b'with "quotes"'
    cursor.space()
    assert cursor.astring() == b"a b"
    cursor.space()
    assert cursor.string_list() == [b"x", b"y z"]


@pytest.mark.parametrize("data", [b"", b'"open', b"{5}\r\nabc", b"(", b"%"])
def test_what_is_no_string_is_an_error_of_the_client(data: bytes) -> None:
    with pytest.raises(BadCommand):
        Cursor(data).astring()


@given(st.binary(max_size=2000))
def test_what_is_written_as_a_string_is_read_as_the_same(data: bytes) -> None:
    assert Cursor(quoted(data)).astring() == data
