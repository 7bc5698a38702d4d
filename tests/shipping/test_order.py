from __future__ import annotations

import contextlib
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyrus_sync.shipping.errors import BadOrder
from cyrus_sync.shipping.order import RETURN_TRIP, Delivery, Failure, Order, Passage

hosts = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,10}[a-z0-9])?", fullmatch=True)
times = st.integers(0, 10**10)
names = st.binary(min_size=1).filter(lambda b: b"\0" not in b).map(os.fsdecode)
texts = st.text(st.characters(exclude_categories=["Cs"]))
orders = st.builds(
    Order,
    data_path=names,
    origin=hosts,
    destinations=st.lists(hosts, min_size=1, max_size=4).map(tuple),
    created=times,
    expires=times,
    identifier=texts.filter(bool),
    original_path=names,
    storage_class=st.from_regex(r"[A-Za-z0-9]+", fullmatch=True),
    size=st.none() | st.integers(0, 10**17),
    digest=st.none()
    | st.tuples(st.sampled_from(["blake3", "sha256"]), st.binary(min_size=32, max_size=32)).map(
        lambda made: f"{made[0]}:{made[1].hex()}"
    ),
    notify=st.lists(st.from_regex(r"[a-z]+@[a-z]+", fullmatch=True), max_size=3).map(tuple),
    comments=st.lists(texts, max_size=3).map(tuple),
    route=st.lists(st.builds(Passage, hosts, times), max_size=3).map(tuple),
    deliveries=st.lists(st.builds(Delivery, times, hosts, hosts), max_size=3).map(tuple),
    failures=st.lists(st.builds(Failure, st.integers(1, 2), times, hosts, hosts), max_size=3).map(tuple),
    undelivered=st.lists(hosts, max_size=2).map(tuple),
    others=st.lists(
        st.tuples(st.from_regex(r"X[A-Z]{1,5}", fullmatch=True), st.just(("one", "two"))),
        max_size=2,
        unique_by=lambda pair: pair[0],
    ).map(tuple),
)


@settings(deadline=None)
@given(orders)
def test_an_order_that_is_written_is_read_back(order: Order) -> None:
    assert Order.parse(order.text()) == order


@settings(deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet='%AB "\\\n#x1 ').map(str.encode))
def test_any_bytes_are_an_order_or_refused(data: bytes) -> None:
    with contextlib.suppress(BadOrder):
        Order.parse(data)


def test_the_text_can_be_read_by_a_person() -> None:
    order = Order(
        data_path="/bay/outgoing/sync_boston_1",
        origin="boston",
        destinations=("hub", "bangalore"),
        created=972916549,
        expires=974126149,
        identifier="abc",
        storage_class="daily",
        notify=("ann@example.org",),
        comments=("for you",),
    ).delivered(("hub",), "hub", 972916600)
    assert order.text().decode() == (
        "# Version 1.0 shipping order\n"
        '%IDENTIFIER "abc"\n'
        "%CREATION-DATE 972916549 30-Oct-2000.14:35:49UTC\n"
        "%EXPIRATION-DATE 974126149 13-Nov-2000.14:35:49UTC\n"
        '%LOCAL-DATA-PATH "/bay/outgoing/sync_boston_1"\n'
        '%STORAGE-CLASS "daily"\n'
        "%ORIGIN-HOST boston\n"
        "%DESTINATIONS\nhub\nbangalore\n"
        "%DELIVERIES 972916600 30-Oct-2000.14:36:40UTC hub hub\n"
        "%NOTIFICATION-ADDRESSES ann@example.org\n"
        '%COMMENTS "for you"\n'
    )
    assert order.remaining() == ("bangalore",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no attribute"),
        ("hello", "before the first %NAME"),
        ('%IDENTIFIER "a"\n%DESTINATIONS b\n', "are needed"),
        ('%IDENTIFIER "a"\n%LOCAL-DATA-PATH "p"\n%DESTINATIONS ../up\n', "name of a host"),
        ('%IDENTIFIER "a"\n%IDENTIFIER "b"\n', "given twice"),
        ('%IDENTIFIER "a"\n%LOCAL-DATA-PATH "p"\n"q"\n%DESTINATIONS b\n', "more than one value"),
        ('%IDENTIFIER "a"\n%LOCAL-DATA-PATH "p"\n%DESTINATIONS b\n%EXPIRATION-DATE soon\n', "number"),
        ('%IDENTIFIER "a"\n%LOCAL-DATA-PATH "p"\n%DESTINATIONS b\n%DELIVERIES 1 2\n', "4 fields"),
        ('%IDENTIFIER "a"\n%LOCAL-DATA-PATH "p"\n%DESTINATIONS b\n%DATA-SHA256 x\n', "64 hexadecimal"),
        ('%IDENTIFIER "a"\n%LOCAL-DATA-PATH "p"\n%DESTINATIONS b\n%NOTIFICATION-ADDRESSES -f\n', "address"),
    ],
)  # fmt: skip
def test_what_is_no_valid_order_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(BadOrder, match=re.escape(reason)):
        Order.parse(text.encode())


def test_an_order_never_expires_without_a_date() -> None:
    order = Order.parse(b'%IDENTIFIER "a"\n%LOCAL-DATA-PATH "p"\n%DESTINATIONS b\n%EXPIRATION-DATE 0 never\n')
    assert not order.expired(1e11)


def test_only_the_latest_failures_are_kept() -> None:
    order = Order("p", "a", ("b",), 0, 0)
    for number in range(200):
        order = order.failed(("b",), "b", 1, number)
    assert [failure.time for failure in order.failures] == list(range(150, 200))


def test_the_way_back_goes_to_the_origin_and_has_its_own_14_days() -> None:
    order = Order("p", "boston", ("hub", "bangalore"), 0, 100, route=(Passage("boston", 1),))
    back = order.delivered(("hub",), "hub", 50).turned_round(1000)
    assert back.returning and back.destinations == ("boston",) and back.undelivered == ("bangalore",)
    assert back.expires == 1000 + RETURN_TRIP and back.remaining() == ("boston",) and not back.route


@pytest.mark.parametrize("value", ["%DESTINATIONS evil", "%{", "%"])
def test_no_value_of_an_unknown_attribute_becomes_an_attribute_when_it_is_written_again(value: str) -> None:
    with pytest.raises(BadOrder, match="a value begins with %"):
        Order.parse(EXAMPLE + f"%X-NEW {value}\nmore\n".encode())


def test_an_unknown_attribute_without_a_value_says_nothing() -> None:
    assert Order.parse(EXAMPLE + b"%X-NEW\n") == Order.parse(EXAMPLE)


@pytest.mark.parametrize(
    "lines",
    [
        b'%COMMENTS "\xc3\\\xa9"',  # two octets that an escape keeps apart, and that are a letter together
        b'%COMMENTS "\xe2\\\x82\xac" \xff',
        b'%COMMENTS "\xff\xfe" ',
        b'%NOTIFICATION-ADDRESSES\n"\\"a\\""\n"%b"',
        "%X-NEW\n\u2003a\u2003".encode(),
    ],
)  # fmt: skip
def test_what_is_no_text_means_the_same_when_it_is_written_again(lines: bytes) -> None:
    order = Order.parse(EXAMPLE + lines + b"\n")
    assert Order.parse(order.text()) == order
    assert Order.parse(order.text()).text() == order.text()


EXAMPLE = Order("/b/d", "here", ("there",), 1, 0, identifier="one").text()
