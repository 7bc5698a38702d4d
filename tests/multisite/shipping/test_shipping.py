from __future__ import annotations

from tests.multisite.shipping.kit import Host, unfinished


def test_checklist_14_orders_are_carried_out_and_files_arrive(pair: tuple[Host, Host]) -> None:
    boston, hub = pair
    boston.packet("one", b"1" * 1000, hub.name)
    boston.packet("two", b"", hub.name)
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"one": b"1" * 1000, "two": b""}
    assert boston.outgoing() == []
    assert unfinished(boston) == unfinished(hub) == []
