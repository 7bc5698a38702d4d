"""Passing over a refused line: its literals and file literals go with it, the next line does not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from cyrus_sync.common.protocol.buffer import Buffer
from cyrus_sync.common.protocol.dlist import OutOfStep
from cyrus_sync.common.protocol.skip import LineSkipper, PlainLine
from tests.common.protocol.values import chunks, cut_lists

LINES = [
    b" USER alice\r\n",
    b" USER alice\n",
    b"\r\n",
    b" X {9+}\r\n\r\nEXIT\r\n)\r\n",
    b" X {9}\r\n\r\nEXIT\r\n \r\n",
    b" X {0+}\r\n\r\n",
    b" X {3}\r\nabc\n",
    b" X %{p g 3}\r\nabc\n",
    b" MESSAGE (%{default aba8 10}\r\nEXIT\r\nNOOP %{default aba8 6}\r\n\r\n\r\n\r\n)\r\n",
    b" MESSAGE (%{default aba8 6}\nEXIT\r\n)\n",
    b' MESSAGE (%{"a {b}(" "c\\"d" 6}\r\nEXIT\r\n)\r\n',
    b" MESSAGE (%{{3+}\r\np\r\n {4+}\r\n\r\n}\r 6}\r\nEXIT\r\n)\r\n",
    b" MESSAGE (%{p {4+}\r\n\r\n}\r 6}\r\nEXIT\r\n a)\r\n",
    b" X %{p g}\r\n",
    b" X {x}\r\n",
    b" X {6+} {6+}\r\n" + b"EXIT\r\n\r\n",
    b" X %{p g 6 }\r\n",
    b" X %{p g 6}x\r\n",
    b" X %(k {6+}\r\nEXIT\r\n)\r\n",
    b" X " + b"y" * 10_000 + b" {6+}\r\nEXIT\r\n" + b"z" * 10_000 + b"\r\n",
]


@pytest.mark.parametrize("line", LINES)
@settings(max_examples=20)
@given(cuts=cut_lists)
def test_exactly_one_line_is_skipped_in_any_pieces(line: bytes, cuts: list[int]) -> None:
    buffer, skipper = Buffer(), LineSkipper()
    done = False
    for piece in chunks(line + b"NEXT\r\n", cuts):
        buffer.append(piece)
        done = done or skipper.feed(buffer)
    assert done
    assert buffer.clear() == b"NEXT\r\n"


@pytest.mark.parametrize("line", [b"\r\n", b"\n", b' x "a (\r\n', b"%(x\\\n"])
@settings(max_examples=20)
@given(cuts=cut_lists)
def test_a_plain_line_ends_at_its_line_end(line: bytes, cuts: list[int]) -> None:
    buffer, skipper = Buffer(), PlainLine()
    done = False
    for piece in chunks(line + b"NEXT\r\n", cuts):
        buffer.append(piece)
        done = done or skipper.feed(buffer)
    assert done
    assert buffer.clear() == b"NEXT\r\n"


@pytest.mark.parametrize("line", [b" {3+}\r\n", b' "x}"\r\n', b" x{y z\r\n", b"}\n"])
@settings(max_examples=20)
@given(cuts=cut_lists)
def test_a_brace_in_a_plain_line_leaves_no_way_on(line: bytes, cuts: list[int]) -> None:
    buffer, skipper = Buffer(), PlainLine()
    with pytest.raises(OutOfStep):
        for piece in chunks(line + b"NEXT\r\n", cuts):
            buffer.append(piece)
            skipper.feed(buffer)


@pytest.mark.parametrize(
    ("start", "end"), [(b"", b""), (b'"', b'"'), (b'"\\', b'"'), (b"%{", b""), (b"%{p ", b""), (b'%{"', b'"')]
)
def test_a_line_without_end_is_not_held(start: bytes, end: bytes) -> None:
    buffer, skipper = Buffer(), LineSkipper()
    buffer.append(start)
    for _ in range(50):
        buffer.append(b"%x" * 30_000)
        assert not skipper.feed(buffer)
        assert len(buffer) <= 16
    buffer.append(end + b" (a {3+}\r\nabc\r\nNEXT")
    assert skipper.feed(buffer)
    assert buffer.clear() == b"NEXT"


def test_a_partition_of_any_length_announces_its_content() -> None:
    buffer, skipper = Buffer(), LineSkipper()
    buffer.append(b" MESSAGE (%{" + b"x" * 200_000 + b" g 6}\r\nEXIT\r\n)\r\nNEXT")
    assert skipper.feed(buffer)
    assert buffer.clear() == b"NEXT"


@pytest.mark.parametrize(
    "line",
    [
        b" X word{3}\r\n",
        b" X {3+}\n",
        b' X "a {3}\r\n',
        b' X "a\\" {3}\r\n',
        b' X "%{p" g 6}\r\n',
        b" X a%{p g 6}\r\n",
        b" X {p g 6}\r\n",
        b" X %{ p g 6}\r\n",
        b" X %{p(g 6}\n",
        b' X ("%{p g 6}\r\n',
        b" X {6+}{6+}\r\n",
    ],
)
@settings(max_examples=20)
@given(cuts=cut_lists)
def test_what_looks_like_a_literal_s_head_and_is_none_leaves_no_way_on(line: bytes, cuts: list[int]) -> None:
    buffer, skipper = Buffer(), LineSkipper()
    with pytest.raises(OutOfStep):
        for piece in chunks(line + b"NEXT\r\n", cuts):
            buffer.append(piece)
            skipper.feed(buffer)


def test_content_is_not_held() -> None:
    buffer, skipper = Buffer(), LineSkipper()
    buffer.append(b" (%{p g 4000000000}\r\n")
    for _ in range(100):
        buffer.append(b"EXIT\r\n" * 10_000)
        assert not skipper.feed(buffer)
        assert len(buffer) == 0
