from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.shipping.conf import DAY, KEYWORDS, ShippingConf, load_conf, parse_conf
from cyrus_sync.shipping.errors import ShippingConfError

FILE = Path("/etc/shipping.conf")
EXAMPLE = Path(__file__).parents[2] / "etc/shipping.conf.example"


def read(text: str) -> ShippingConf:
    return parse_conf(text, FILE)


def test_an_empty_file_gives_the_documented_defaults() -> None:
    conf = read("# nothing\n\n")
    assert conf.max_data_size == 2097151 * 1024
    assert conf.administrators == ["root"]
    assert conf.expiration("any") == 14 * DAY
    assert conf.next_hop("boston") == "boston"
    assert conf.downhost_timeout == 0
    assert conf.notification_program is conf.receipt_handler("any") is conf.min_port is None
    assert conf.bays_of("any") == conf.return_bays_of("any") == []


def test_all_entries_are_read_with_several_classes_and_several_bays() -> None:
    conf = read(
        """
        MAX-DATA-SIZE 5 m                      # glued or spaced
        NOTIFICATION-PROGRAM /usr/lib/notify
        ADMINISTRATOR ann@example.org bob@example.org
        STORAGE-BAY -default /bays/one
        STORAGE-BAY -default "/bays/two words"
        STORAGE-BAY daily /bays/daily
        STORAGE-BAY weekly /bays/one
        RETURN-BAY -default /bays/back
        RETURN-BAY daily /bays/daily-back
        EXPIRATION -default 7
        EXPIRATION daily 1
        EXPIRATION forever 0
        ROUTE hub boston bangalore
        ROUTE gate -default
        RECEIPT-HANDLER -default /usr/lib/handler
        RECEIPT-HANDLER daily /usr/lib/daily
        CLEARCASE_MIN_PORT 49152
        CLEARCASE_MAX_PORT 49180
        DOWNHOST-TIMEOUT 30
        """
    )
    assert conf.max_data_size == 5 * 1024 * 1024
    assert conf.notification_program == "/usr/lib/notify"
    assert conf.administrators == ["ann@example.org", "bob@example.org"]
    assert conf.bays_of("other") == [Path("/bays/one"), Path("/bays/two words")]
    assert conf.bays_of("daily") == [Path("/bays/daily")]
    assert conf.bays_of("Daily") == conf.bays_of("-default"), "names of classes are case-sensitive"
    assert conf.return_bays_of("daily") == [Path("/bays/daily-back")]
    assert conf.return_bays_of("weekly") == [Path("/bays/back")]
    assert [conf.expiration(c) for c in ("daily", "forever", "other")] == [DAY, 0, 7 * DAY]
    assert [conf.next_hop(h) for h in ("Boston", "bangalore", "sydney")] == ["hub", "hub", "gate"]
    assert conf.receipt_handler("daily") == "/usr/lib/daily"
    assert conf.receipt_handler("weekly") == "/usr/lib/handler"
    assert (conf.min_port, conf.max_port) == (49152, 49180)
    assert conf.downhost_timeout == 1800


@pytest.mark.parametrize(
    ("text", "size"),
    [("10", 10240), ("10k", 10240), ("10 K", 10240), ("3m", 3 << 20), ("2 g", 2 << 30), ("0", None)],
)
def test_a_size_is_in_kilobytes_unless_it_says_otherwise_and_0_is_no_limit(
    text: str, size: int | None
) -> None:
    assert read(f"MAX-DATA-SIZE {text}").max_data_size == size


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("STORAGE-BAG -default /x", "'STORAGE-BAG' is not a keyword of shipping.conf"),
        ("storage-bay -default /x", "'storage-bay' is not a keyword"),
        ("STORAGE-BAY /x", "a storage class"),
        ("STORAGE-BAY -default x", "not an absolute path"),
        ("STORAGE-BAY -other /x", "cannot be the name of a storage class"),
        ("STORAGE-BAY ../up /x", "cannot be the name of a storage class"),
        ("RETURN-BAY -default /x /y", "one value is needed, there are 2"),
        ("EXPIRATION daily soon", "'soon' is not a number"),
        ("EXPIRATION daily -1", "'-1' is not a number"),
        ("MAX-DATA-SIZE big", "'big' is not a size"),
        ("ROUTE hub", "a next hop and at least one host"),
        ("ROUTE ../x boston", "cannot be the name of a host"),
        ("ADMINISTRATOR -oQ/tmp", "cannot be a mail address"),
        ("ADMINISTRATOR", "an address is needed"),
        ("NOTIFICATION-PROGRAM notify", "not an absolute path"),
        ("CLEARCASE_MIN_PORT 80", "'80' is not a number from 1024 to 65534"),
        ("CLEARCASE_MAX_PORT 70000", "'70000' is not a number from 1025 to 65535"),
        ("CLEARCASE_MIN_PORT 5000", "need one another"),
        ("DOWNHOST-TIMEOUT x", "'x' is not a number"),
        ('RECEIPT-HANDLER -default "/x', "No closing quotation"),
    ],
)
def test_a_bad_line_is_told_with_file_line_and_reason(line: str, reason: str) -> None:
    with pytest.raises(ShippingConfError) as error:
        read(f"# a comment\n\n{line}\n")
    assert str(error.value).startswith(f"{FILE}:3: ")
    assert reason in str(error.value)


def test_what_can_be_said_once_is_not_said_twice() -> None:
    with pytest.raises(ShippingConfError, match=r":2: 'EXPIRATION daily' is given in line 1 already"):
        read("EXPIRATION daily 1\nEXPIRATION daily 2")
    with pytest.raises(ShippingConfError, match=r":2: there is a route to boston already, over hub"):
        read("ROUTE hub boston\nROUTE gate Boston".replace("Boston", "boston"))
    with pytest.raises(ShippingConfError, match="MAX_PORT is not larger"):
        read("CLEARCASE_MIN_PORT 6000\nCLEARCASE_MAX_PORT 6000")
    with pytest.raises(ShippingConfError, match="more than 64 storage classes"):
        read("\n".join(f"EXPIRATION c{n} 1" for n in range(65)))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ShippingConfError, match="cannot be read"):
        load_conf(tmp_path / "none")


def test_the_example_file_is_valid_and_shows_every_keyword() -> None:
    text = EXAMPLE.read_text()
    load_conf(EXAMPLE)
    everything = "\n".join(
        line[1:] if line[1:].split(" ")[0] in KEYWORDS else line for line in text.splitlines()
    )
    parse_conf(everything, EXAMPLE)
    for keyword in KEYWORDS:
        assert f"\n#{keyword} " in text or f"\n{keyword} " in text, keyword


@given(st.text())
def test_any_text_is_read_or_refused_with_its_line(text: str) -> None:
    try:
        read(text)
    except ShippingConfError as error:
        assert str(error).startswith(f"{FILE}:")
