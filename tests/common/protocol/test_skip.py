"""Passing over a refused line: its literals and file literals go with it, the next line does not."""

from __future__ import annotations

import pytest
from hypothesis import given

from common.protocol.buffer import Buffer
from common.protocol.skip import LineSkipper
from tests.common.protocol.values import chunks, cut_lists

LINES = [
    b" USER alice\r\n",
    b" USER alice\n",
    b"\r\n",
    b" X {9+}\r\n\r\nEXIT\r\n)\r\n",
    b" X {9}\r\n\r\nEXIT\r\n \r\n",
    b" X {0+}\r\n\r\n",
    b" MESSAGE (%{default aba8 10}\r\nEXIT\r\nNOOP %{default aba8 6}\r\n\r\n\r\n\r\n)\r\n",
    b" MESSAGE (%{default aba8 6}\nEXIT\r\n)\n",
    b' MESSAGE (%{"a {b}(" "c\\"d" 6}\r\nEXIT\r\n)\r\n',
    b" MESSAGE (%{{3+}\r\np\r\n {4+}\r\n\r\n}\r 6}\r\nEXIT\r\n)\r\n",
    b" MESSAGE (%{p {4+}\r\n\r\n}\r 6}\r\nEXIT\r\n a)\r\n",
    b" X word{3}\r\n",
    b" X %{p g}\r\n",
    b" X {3+}\n",
    b" X {x}\r\n",
    b" X {6+} {6+}\r\n" + b"EXIT\r\n\r\n",
    b" X " + b"y" * 10_000 + b" {6+}\r\nEXIT\r\n" + b"z" * 10_000 + b"\r\n",
]


@pytest.mark.parametrize("line", LINES)
@given(cuts=cut_lists)
def test_exactly_one_line_is_skipped_in_any_pieces(line: bytes, cuts: list[int]) -> None:
    buffer, skipper = Buffer(), LineSkipper()
    done = False
    for piece in chunks(line + b"NEXT\r\n", cuts):
        buffer.append(piece)
        done = done or skipper.feed(buffer)
    assert done
    assert buffer.clear() == b"NEXT\r\n"


def test_a_line_begun_in_the_head_of_a_file_literal_goes_on_there() -> None:
    buffer, skipper = Buffer(), LineSkipper(in_file=True)
    buffer.append(b" aba8 6}\r\nEXIT\r\n)\r\nNEXT")
    assert skipper.feed(buffer)
    assert buffer.clear() == b"NEXT"


def test_a_line_without_end_does_not_fill_memory() -> None:
    buffer, skipper = Buffer(), LineSkipper()
    for _ in range(100):
        buffer.append(b"x" * 65536)
        assert not skipper.feed(buffer)
        assert len(buffer) <= 4096
    buffer.append(b" {3+}\r\nabc\r\nNEXT")
    assert skipper.feed(buffer)
    assert buffer.clear() == b"NEXT"


def test_content_is_not_held() -> None:
    buffer, skipper = Buffer(), LineSkipper()
    buffer.append(b" (%{p g 4000000000}\r\n")
    for _ in range(100):
        buffer.append(b"EXIT\r\n" * 10_000)
        assert not skipper.feed(buffer)
        assert len(buffer) == 0
