from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.shipping.bays import Bay, choose_bay, free_name
from cyrus_sync.shipping.errors import BadFileName, ShippingError
from cyrus_sync.shipping.names import LONGEST_NAME, bay_name, check_host, same_host


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "/etc/passwd", "x\0y", "x\ny", ".hidden", ".ms_tmp_x", ":", "::",
     "sh_o_x", "x" * (LONGEST_NAME + 1), "ü" * 200],
)  # fmt: skip
def test_a_name_that_could_leave_a_bay_or_be_mistaken_in_it_is_refused(name: str) -> None:
    with pytest.raises(BadFileName):
        bay_name(name)


@given(st.text())
def test_whatever_is_accepted_lies_directly_in_the_bay(name: str) -> None:
    try:
        made = bay_name(name)
    except (BadFileName, UnicodeEncodeError):
        return
    path = Path("/bay/incoming") / made
    assert path.parent == Path("/bay/incoming") and path.name == made and ":" not in made
    assert os.path.normpath(path) == str(path)


@pytest.mark.parametrize("host", ["boston", "a.example.org", "127.0.0.1", "::1", "fe80::1%eth0", "x_1"])
def test_names_and_addresses_of_hosts_are_accepted(host: str) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize("host", ["", ".", "..", "a/b", "-x", "a b", "a\nb", "a" * 300, ".x", "x."])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(BadFileName):
        check_host(host)


def test_hosts_are_the_same_in_upper_case_and_with_a_dot_at_the_end() -> None:
    assert same_host("Boston.example.ORG.", "boston.example.org")


def test_a_free_name_is_free_for_the_order_too(tmp_path: Path) -> None:
    (tmp_path / "p").touch()
    (tmp_path / "sh_o_p_1").touch()
    assert free_name(tmp_path / "p") == tmp_path / "p_2"


def test_the_bay_with_the_most_room_is_taken_of_those_with_enough(tmp_path: Path) -> None:
    space = {tmp_path / "a": 10, tmp_path / "b": 30, tmp_path / "c": 30}
    bays = [Bay(path, made_by_us=True) for path in space]
    assert choose_bay(bays, 10, space.__getitem__).path.name == "b"
    with pytest.raises(ShippingError, match="no bay has room for 31 bytes"):
        choose_bay(bays, 31, space.__getitem__)


def test_a_configured_bay_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ShippingError, match="is not a directory"):
        Bay(tmp_path / "none").ready()
