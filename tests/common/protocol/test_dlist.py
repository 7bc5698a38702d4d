"""dlist: the printing rule of a Cyrus sender, what a receiver accepts, and in which time and space."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cyrus_sync.common.protocol.dlist import (
    File,
    Files,
    Flag,
    Limits,
    ParseError,
    Parser,
    Status,
    TooLong,
    encode,
    parse,
)
from tests.common.protocol.values import chunks, cut_lists, dlist_values


def feed(parser: Parser, pieces: list[bytes]) -> Any:
    """The value, given in pieces; None while unfinished."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        del buffer[: parser.feed(buffer, 0)]
        if parser.status is Status.DONE:
            return parser.value
    return None


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (None, b"NIL"),
        (b"user.alice", b"user.alice"),
        (b"", b'""'),
        (b"a b", b'"a b"'),
        (b"NIL", b'"NIL"'),
        (b"nil", b"nil"),
        (b"alice\tlrs\t", b'"alice\tlrs\t"'),
        (b"}[]&^#/<',", b"}[]&^#/<',"),
        (b"h*i", b'"h*i"'),
        (b"h%i", b"{3+}\r\nh%i"),
        (b"a\\b", b"{3+}\r\na\\b"),
        (b'a"b', b'{3+}\r\na"b'),
        (b"a\r\nb", b"{4+}\r\na\r\nb"),
        (b"a\0b", b"{3+}\r\na\0b"),
        (b"\x1f\x7f", b'"\x1f\x7f"'),
        ("é", b"{2+}\r\n\xc3\xa9"),
        (b"x" * 1023, b"x" * 1023),
        (b"x" * 1024, b"{1024+}\r\n" + b"x" * 1024),
        (b" " * 1024, b"{1024+}\r\n" + b" " * 1024),
        (Flag(b"\\Seen"), b"\\Seen"),
        (1700000000, b"1700000000"),
        (-1, b"18446744073709551615"),
        ([], b"()"),
        ({}, b"%()"),
        ([b"a", [b"b", None]], b"(a (b NIL))"),
        ({b"UID": 3, "FLAGS": []}, b"%(UID 3 FLAGS ())"),
        (File(b"default", b"2c26", 3, b"foo"), b"%{default 2c26 3}\r\nfoo"),
        ([File(b"p q", b"g", 0, b""), File(b"gone", b"g", 3)], b'(%{"p q" g 0}\r\n NIL)'),
    ],
)
def test_values_are_printed_as_cyrus_prints_them(value: Any, printed: bytes) -> None:
    assert encode(value, server=False) == printed


def test_a_server_prints_literals_without_plus() -> None:
    assert encode([b"h%i"], server=True) == b"({3}\r\nh%i)"


def test_what_is_no_dlist_value_is_not_printed() -> None:
    with pytest.raises(TypeError):
        encode(1.5, server=True)


@given(dlist_values, st.booleans(), cut_lists)
def test_what_is_printed_reads_as_the_same_value_in_any_pieces(
    value: Any, server: bool, cuts: list[int]
) -> None:
    printed = encode(value, server)
    assert parse(printed) == (value, len(printed))
    assert feed(Parser(), [*chunks(printed, cuts), b"\r\n"]) == value


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (b"  \r\n\t alice", b"alice"),
        (b"NIL", None),
        (b"nil", b"nil"),
        (b'"NIL"', b"NIL"),
        (b"{3}\r\nNIL", b"NIL"),
        (b"{3+}\r\na\0b", b"a\0b"),
        (b'"a\\"\\\\\\x%"', b'a"\\x%'),
        (b"a%b*c{d}\\e", b"a%b*c{d}\\e"),
        (b"8bit\xe9", b"8bit\xe9"),
        (b"(a\r\n  b\n(c)()d)", [b"a", b"b", [b"c"], [], b"d"]),
        (b'("a""b"(c)d"e")', [b"a", b"b", [b"c"], b"d", b"e"]),
        (b"%(K v K w L NIL)", {b"K": b"v", b"L": None}),
        (b'%("K k" v {1}\r\nL(x)M %(N 1))', {b"K k": b"v", b"L": [b"x"], b"M": {b"N": b"1"}}),
        (b"%(NIL x)", {b"NIL": b"x"}),
        (b"%{p g 3}\nfoo", File(b"p", b"g", 3, b"foo")),
        (b'%{{3+}\r\np q "g" 3}\r\nfoo', File(b"p q", b"g", 3, b"foo")),
        (b"%{p {1+}\r\ng 0}\r\n", File(b"p", b"g", 0, b"")),
        (b"(%{p g 2}\r\n)( NIL a b)", [File(b"p", b"g", 2, b")("), None, b"a", b"b"]),
        (b"(a b NIL c )", [b"a", b"b", None, b"c"]),
        (b"%(A NIL B 2 C 3 )", {b"A": None, b"B": b"2", b"C": b"3"}),
    ],
)
def test_a_receiver_accepts(wire: bytes, value: Any) -> None:
    assert parse(wire) == (value, len(wire))
    assert feed(Parser(), [wire[i : i + 1] for i in range(len(wire))] + [b" "]) == value


def test_flags_are_told_from_words() -> None:
    value, _ = parse(b"(\\Seen \\X $Work)")
    assert [type(item) for item in value] == [Flag, Flag, bytes]


@pytest.mark.parametrize(
    "wire",
    [
        b")",
        b"%x",
        b"%(a)",
        b"%(a b c)",
        b"%(()())",
        b'"a\r\nb"',
        b'"a\nb"',
        b"{}",
        b"{a}",
        b"{3}\nabc",
        b"{+3}\r\nabc",
        b"{3+x}\r\nabc",
        b"{00000000003}\r\nabc",
        b"%{p g}\r\n",
        b"%{p g 3)\r\nfoo",
        b"%{p g -3}\r\nfoo",
        b"%{p  g 3}\r\nfoo",
        b"%{p g 3}foo",
        b"%{p (g) 3}\r\nfoo",
    ],
)
def test_what_is_no_dlist_is_an_error_in_any_pieces(wire: bytes) -> None:
    with pytest.raises(ParseError):
        parse(wire + b" ")
    with pytest.raises(ParseError):
        feed(Parser(), [wire[i : i + 1] for i in range(len(wire))] + [b"\r\n"])


@pytest.mark.parametrize(
    "wire", [b"", b"  \r\n", b"(a", b"%(a", b'"a', b"{3}\r\nab", b"%{p g 3}\r\nfo", b"%", b"{"]
)
def test_an_unfinished_value_waits_for_more(wire: bytes) -> None:
    parser = Parser()
    assert feed(parser, [wire]) is None
    with pytest.raises(ParseError):
        parse(wire)


def test_lists_nested_30000_deep_are_an_error() -> None:
    with pytest.raises(ParseError, match="deep"):
        parse(b"(" * 30_000 + b")" * 30_000)


def test_depth_up_to_the_limit_is_read() -> None:
    limits = Limits(max_depth=5)
    assert parse(b"(((((a)))))", limits=limits)[0] == [[[[[b"a"]]]]]
    with pytest.raises(ParseError, match="deep"):
        parse(b"((((((a))))))", limits=limits)


@pytest.mark.parametrize(
    "wire", [b"x" * 11, b"(" + b"x" * 11 + b" y)", b"(a " + b"x" * 11 + b")", b'"' + b"x" * 11, b"{11}\r\n"]
)
def test_a_word_string_or_literal_that_is_too_long_is_fatal(wire: bytes) -> None:
    limits = Limits(max_word=10, max_quoted=10, max_literal=10)
    with pytest.raises(TooLong):
        feed(Parser(limits), [wire])
    with pytest.raises(TooLong):
        feed(Parser(limits), [wire[i : i + 1] for i in range(len(wire))])


def test_file_literals_are_not_bound_by_the_limit_of_literals() -> None:
    wire = b"%{p g 50}\r\n" + b"x" * 50
    assert parse(wire, limits=Limits(max_literal=10))[0].data == b"x" * 50


def test_a_file_larger_than_32_bits_is_fatal() -> None:
    with pytest.raises(TooLong):
        parse(b"%{p g 4294967296}\r\n")


@pytest.mark.parametrize(
    "wire", [b"(" + b"a " * 11 + b")", b"(" + b"()" * 11 + b")", b"%(" + b"a b " * 11 + b")"]
)
def test_a_value_with_too_many_items_is_an_error(wire: bytes) -> None:
    with pytest.raises(ParseError, match="many"):
        parse(wire, limits=Limits(max_items=10))
    assert parse(wire, limits=Limits(max_items=11))


def test_a_value_that_is_too_large_is_an_error() -> None:
    wire = b"(" + b"abc {5}\r\nabcde " * 20 + b")"
    limits = Limits(max_value=100)
    for pieces in ([wire], [wire[i : i + 1] for i in range(len(wire))]):
        with pytest.raises(ParseError, match="large"):
            feed(Parser(limits), pieces)


def test_skipped_files_do_not_count_as_the_value_s_size() -> None:
    wire = b"(%{p g 500}\r\n" + b"x" * 500 + b" a)"
    parser = Parser(Limits(max_value=100), Files.SKIP)
    assert feed(parser, [wire[:100], wire[100:]]) == [File(b"p", b"g", 500), b"a"]


def test_a_streamed_file_is_left_to_the_caller() -> None:
    parser = Parser(files=Files.STREAM)
    buffer = b"(a %{p g 3}\r\nfoo b)"
    pos = parser.feed(buffer, parser.feed(buffer, 0))
    assert (parser.status, parser.file, buffer[pos:]) == (Status.FILE, File(b"p", b"g", 3), b"foo b)")
    parser.file_taken()
    pos = parser.feed(buffer, pos + 3)
    assert (parser.status, parser.value) == (Status.ITEM, [b"a", b"b"])
    parser.feed(buffer, pos)
    assert parser.status is Status.DONE


@given(st.integers(0, 40))
def test_beside_streamed_files_it_stops_behind_each_item_of_the_outermost_list(cut: int) -> None:
    parser, pos, seen = Parser(files=Files.STREAM), 0, []
    text = b'(a NIL (b (c d) e) %(k v) "f" %{p g 3}\r\nfoo g)'
    for buffer in (text[:cut], text):
        parser.status = Status.ITEM
        while parser.status not in (Status.MORE, Status.DONE):
            pos = parser.feed(buffer, pos)
            if parser.status is Status.FILE:
                parser.file_taken()
                pos += 3
            elif parser.status is Status.ITEM:
                seen.append(parser.value[-1])
    assert seen == [b"a", None, [b"b", [b"c", b"d"], b"e"], {b"k": b"v"}, b"f", b"g"]


def test_a_streamed_list_is_left_to_the_caller() -> None:
    parser = Parser(stream_key=b"RECORD")
    buffer = b"%(A 1 RECORD (x (y)) B (RECORD) RECORD (2))"
    pos = parser.feed(buffer, 0)
    assert (parser.status, buffer[pos:]) == (Status.STREAM, b"x (y)) B (RECORD) RECORD (2))")
    parser.feed(buffer, pos + len(b"x (y))"))
    assert parser.value == {b"A": b"1", b"RECORD": [], b"B": [b"RECORD"]}


def _tokens(count: int) -> bytes:
    return (
        b'("' + b'x\\"' * count + b'" ' + b"w" * count + b" {%d}\r\n" % count + b"z" * count
        + b" %{" + b"p" * count + b" {%d}\r\n" % count + b"g" * count + b" %d}\r\n" % count + b"i" * count
        + b"a " * count + b"()" * count + b")"
    )  # fmt: skip


def _seconds_byte_by_byte(wire: bytes) -> float:
    parser, buffer, pos = Parser(Limits(max_word=2**20, max_quoted=2**20, max_literal=2**20)), bytearray(), 0
    started = time.process_time()
    for i in range(len(wire)):
        buffer += wire[i : i + 1]
        pos = parser.feed(buffer, pos)
    assert parser.status is Status.DONE
    return time.process_time() - started


def test_reading_byte_by_byte_takes_linear_time() -> None:
    small = min(_seconds_byte_by_byte(_tokens(1_000)) for _ in range(3))
    large = _seconds_byte_by_byte(_tokens(10_000))
    assert large < 30 * small  # quadratic would be 100


@given(st.binary(max_size=200))
@example(b"%{" + b"(" * 10)
@example(b'{1}\r\n"')
def test_arbitrary_bytes_give_a_value_or_a_parse_error(wire: bytes) -> None:
    with contextlib.suppress(ParseError):
        parse(wire)


@given(dlist_values, st.integers(0, 10**6), st.binary(max_size=3), cut_lists)
def test_mutated_values_read_the_same_in_any_pieces(
    value: Any, at: int, inserted: bytes, cuts: list[int]
) -> None:
    wire = encode(value, server=True) + b" "
    at %= len(wire)
    wire = wire[:at] + inserted + wire[at + 1 :]

    def outcome(pieces: list[bytes]) -> Any:
        try:
            return feed(Parser(), pieces)
        except ParseError as error:
            return type(error), str(error)

    assert outcome([wire]) == outcome(chunks(wire, cuts))
