"""What a host tells Prometheus of its bays."""

from __future__ import annotations

import os
from pathlib import Path

from cyrus_sync.common.metrics.sheet import Sheet, plain_text
from cyrus_sync.shipping.figures import Received, ShippingFigures
from tests.ports import free_port
from tests.shipping.kit import Host


def told(host: Host, now: float) -> dict[str, float]:
    """Value by name, of the outgoing side of the first bay."""
    sheet = Sheet("shipping_server")
    ShippingFigures(host.site(lambda: now), Received).look()(sheet)
    found = {}
    for line in plain_text(sheet).decode().splitlines():
        name, _, value = line.rpartition(" ")
        if f'bay="{host.bay}"' in name and 'part="outgoing"' in name:
            family = name.partition("{")[0].removeprefix("cyrus_sync_shipping_")
            state = name.partition('state="')[2].partition('"')[0]
            found[f"{family} {state}".rstrip()] = float(value)
    return found


def test_what_lies_in_a_bay_is_counted_and_dated(tmp_path: Path) -> None:
    host = Host(tmp_path / "a", "127.0.0.1", free_port())
    order = host.packet("one", b"12345", "127.0.0.9")
    host.packet("two", b"123", "127.0.0.9")
    written = host.order("one").created
    found = told(host, written)
    assert (found["files"], found["file_bytes"], found["orders"]) == (2, 8, 2)
    assert abs(found["oldest_order_timestamp_seconds"] - written) <= 5
    assert found["troubled_orders failing"] == found["troubled_orders expired"] == 0
    order.write_bytes(host.order("one").failed(("127.0.0.9",), "127.0.0.9", 1, written).text())
    assert told(host, written)["troubled_orders failing"] == 1
    assert told(host, written + 10**10)["troubled_orders expired"] == 2
    order.write_bytes(b"nonsense")
    assert told(host, written)["troubled_orders unreadable"] == 1


def test_what_others_put_into_a_bay_stops_nobody(tmp_path: Path) -> None:
    host = Host(tmp_path / "a", "127.0.0.1", free_port())
    host.packet("one", b"12345", "127.0.0.9")
    outgoing = host.bay / "outgoing"
    os.mkfifo(outgoing / "sh_o_pipe")
    (outgoing / "sh_o_link").symlink_to("/dev/zero")
    (outgoing / "sh_o_directory").mkdir()
    found = told(host, 0)
    assert (found["orders"], found["files"], found["troubled_orders unreadable"]) == (1, 1, 0)
