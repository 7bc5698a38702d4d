"""What looks like a number to `str.isdigit` or to `int` but is none is refused wherever a number is typed."""

from collections.abc import Callable
from typing import Any

import pytest

from cyrus_sync.common.config import values
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.numbers import decimal, number, uid_number
from cyrus_sync.common.wire.settings import port_number
from cyrus_sync.mailstore.context import parse_uids
from cyrus_sync.shipping.conf import _number as conf_number
from cyrus_sync.shipping.listening import _address, bind
from cyrus_sync.sync_server.cli import _ssf
from cyrus_sync.sync_server.settings import csync_address

NO_NUMBERS = ["²", "٣", "١٢", "1_0", "+1", " 1", "1 ", "१", "𝟙", "１", "1e3", "9" * 5000]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_only_the_digits_0_to_9_make_a_number(text: str) -> None:
    assert decimal(text) is None
    assert uid_number(text) == 0
    with pytest.raises(ValueError):
        number(text)


def test_a_number_has_its_bounds() -> None:
    assert decimal("17", 17) == 17
    assert decimal(b"18", 17) is None
    assert decimal("", default=5) == 5
    assert uid_number("4294967295") == 2**32 - 1
    assert uid_number("4294967296") == 0
    assert number("0") == 0


@pytest.mark.parametrize("text", [text for text in NO_NUMBERS if text.strip() == text])
@pytest.mark.parametrize(
    "read",
    [
        port_number,
        values.integer,
        lambda text: values.integer(f"0{text}x"),
        lambda text: values.integer(f"0x{text}g"),
        lambda text: values.duration(f"{text}h"),
        lambda text: values.size(f"{text}kk"),
        lambda text: parse_uids(text, 9),
        _ssf,
        lambda text: csync_address(f"localhost:{text}"),
        lambda text: csync_address(f"[::1]:{text}"),
        lambda text: _address(f"localhost:{text}", 1),
        lambda text: _address(f"[::1]:{text}", 1),
        lambda text: conf_number(text, 0, 2**64),
    ],
)
def test_whoever_reads_a_number_refuses_it_in_words(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises(Exception) as caught:
        read(text)
    assert isinstance(caught.value, (ValueError, CyrusSyncError)) or "Argument" in type(caught.value).__name__
    assert "invalid literal" not in str(caught.value)


def test_a_listening_address_with_a_wrong_port_names_the_option() -> None:
    with pytest.raises(CyrusSyncError, match="multisite_listen: 'localhost:²': a port must be a number"):
        bind("localhost:²", 1)


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("-0x1F", -31), ("017", 15), ("-8", -8)])
def test_numbers_in_the_notation_of_c_are_read(text: str, value: int) -> None:
    assert values.integer(text) == value
