"""What a stranger wrote moves no cursor and fakes no line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.commands import complain
from cyrus_sync.common.printable import printable


@given(st.text())
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    shown = printable(text)
    assert not any(one in shown for one in map(chr, [*range(32), *range(127, 160), 0x202E, 0x2028]))
    assert printable(text, lines=True).count("\n") == text.count("\n")
    shown.encode()


def test_what_people_write_stays_as_it_is() -> None:
    text = "Grüße, 你好 & <tags> \\ 'quotes'"
    assert printable(text) == text


def test_an_error_is_one_that_a_terminal_can_show(capsys: pytest.CaptureFixture[str]) -> None:
    complain("mailstore", "no mailbox 'a\x1b]0;title\x07'")
    assert capsys.readouterr().err == "mailstore: no mailbox 'a\\x1b]0;title\\x07'\n"
