from __future__ import annotations

import os
import stat
import time

from cyrus_sync.shipping.arrival import recover
from cyrus_sync.shipping.order import REFUSED, Order
from tests.shipping.kit import Host, age, wait_until

Three = tuple[Host, Host, Host]


def route(hosts: Three) -> tuple[Host, Host, Host]:
    """boston and bangalore know one another only by way of the hub."""
    boston, hub, bangalore = hosts
    boston.configure(f"ROUTE {hub.name} {bangalore.name}")
    bangalore.configure(f"ROUTE {hub.name} -default")
    for host in hosts:
        host.start()
    return hosts


def test_a_file_goes_over_the_middle_host_which_takes_the_responsibility(hosts: Three) -> None:
    boston, hub, bangalore = route(hosts)
    boston.packet("one", b"1" * 5000, bangalore.name)
    assert boston.shipping_server("-poll") == 0
    assert boston.outgoing() == []
    assert hub.outgoing() == ["one", "sh_o_one"] and hub.incoming() == {}
    order = hub.order("one")
    assert (order.origin, order.destinations) == (boston.name, (bangalore.name,))
    assert [passage.host for passage in order.route] == [boston.name]
    assert order.data_path == str(hub.bay / "outgoing/one")
    assert hub.shipping_server("-poll") == 0
    assert bangalore.incoming() == {"one": b"1" * 5000}
    assert hub.outgoing() == []


def test_a_file_for_the_middle_host_and_the_one_behind_it_is_sent_once(hosts: Three) -> None:
    boston, hub, bangalore = route(hosts)
    boston.packet("one", b"1", bangalore.name, hub.name)
    assert boston.shipping_server("-poll") == 0
    assert boston.log().count("sent ") == 1
    assert hub.incoming() == {"one": b"1"} and hub.outgoing() == ["one", "sh_o_one"]
    (hub.bay / "incoming/one").unlink()  # imported
    assert hub.shipping_server("-poll") == 0
    assert bangalore.incoming() == {"one": b"1"} and hub.outgoing() == []


def test_names_that_are_taken_on_the_way_get_numbers_with_their_orders(hosts: Three) -> None:
    boston, hub, bangalore = route(hosts)
    for content in (b"a", b"b"):
        boston.packet("one", content, bangalore.name)
        assert boston.shipping_server("-poll") == 0
    assert hub.outgoing() == ["one", "one_1", "sh_o_one", "sh_o_one_1"]
    assert hub.shipping_server("-poll") == 0
    assert sorted(bangalore.incoming().values()) == [b"a", b"b"]


def test_routes_that_go_round_in_a_circle_are_noticed(hosts: Three) -> None:
    boston, hub, _ = hosts
    boston.configure(f"ROUTE {hub.name} -default")
    hub.configure(f"ROUTE {boston.name} -default")
    boston.start()
    hub.start()
    boston.packet("one", b"1", "faraway")
    assert boston.shipping_server("-poll") == 0
    assert hub.shipping_server("-poll") == 1
    assert "the routes go round in a circle" in hub.log()
    assert hub.order("one").failures[0].flag == REFUSED
    assert hub.outgoing() == ["one", "sh_o_one"]


def test_a_route_that_leads_over_this_host_itself_goes_straight_on(hosts: Three) -> None:
    boston, hub, bangalore = hosts
    hub.configure(f"ROUTE {hub.name} {bangalore.name}")
    bangalore.start()
    hub.packet("one", b"1", bangalore.name)
    assert hub.shipping_server("-poll") == 0
    assert list(bangalore.incoming()) == ["one"] and boston.incoming() == {}


def test_an_unknown_destination_is_an_error_and_the_order_stays(hosts: Three) -> None:
    boston = hosts[0]
    boston.packet("one", b"1", "no-such-host.invalid")
    assert boston.shipping_server("-poll") == 1
    assert "not sent to no-such-host.invalid" in boston.log()
    assert boston.outgoing() == ["one", "sh_o_one"]


def test_the_receipt_handler_is_told_what_came_and_whether_it_travels_on(hosts: Three) -> None:
    boston, hub, bangalore = hosts
    calls = hub.root / "calls"
    handler = hub.root / "handler"
    handler.write_text(f'#!/bin/sh\necho "$*" >> {calls}\n')
    handler.chmod(0o755)
    boston.configure(f"ROUTE {hub.name} {bangalore.name}")
    hub.configure(f"RECEIPT-HANDLER -default {handler}")
    hub.start()
    boston.packet("a", b"1", hub.name)
    boston.packet("b", b"1", bangalore.name)
    boston.packet("c", b"1", bangalore.name, hub.name, arguments=["-sclass", "daily"])
    assert boston.shipping_server("-poll") == 0
    wait_until(lambda: calls.exists() and len(calls.read_text().splitlines()) == 3)
    here, on = hub.bay / "incoming", hub.bay / "outgoing"
    assert set(calls.read_text().splitlines()) == {
        f"-o {boston.name} -d {here}/a",
        f"-o {boston.name} -a {on}/sh_o_b",
        f"-o {boston.name} -d {here}/c -a {on}/sh_o_c -s daily",
    }


def test_a_receipt_handler_that_fails_is_logged_and_harms_nothing(hosts: Three) -> None:
    boston, hub, _ = hosts
    hub.configure("RECEIPT-HANDLER -default /bin/false")
    hub.start()
    boston.packet("a", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    wait_until(lambda: "/bin/false -o" in hub.log() and "ended with status 1" in hub.log())
    assert list(hub.incoming()) == ["a"]


# -- expiry


def test_an_expired_packet_returns_to_the_return_bay_of_its_origin(hosts: Three) -> None:
    boston, hub, bangalore = route(hosts)
    bangalore.stop()
    boston.packet("one", b"1", bangalore.name, arguments=["-notify", "ann@example.org", "-c", "for you"])
    assert boston.shipping_server("-poll") == 0
    age(hub.bay / "outgoing/sh_o_one", 10)
    assert hub.shipping_server("-poll") == 0
    back = hub.order("one")
    assert back.returning and back.destinations == (boston.name,) and back.undelivered == (bangalore.name,)
    assert 13 * 86400 < back.expires - time.time() <= 14 * 86400
    assert f"To: ann@example.org\nSubject: one could not be delivered to {bangalore.name}" in hub.mail()
    assert "for you" in hub.mail()
    assert hub.shipping_server("-poll") == 0
    assert boston.came_home() == {"one": b"1"} and boston.incoming() == {} and hub.outgoing() == []
    wait_until(lambda: boston.mail().count("----\n") == 2)
    assert "To: ann@example.org\nSubject: one has come back undelivered" in boston.mail()
    assert "To: admin@example.org\nSubject: one has come back undelivered" in boston.mail()


def test_on_its_way_home_a_packet_travels_through_return_bays(hosts: Three) -> None:
    boston, hub, bangalore = route(hosts)
    faraway = bangalore.packet("one", b"1", "faraway")
    order = Order.load(faraway)
    faraway.write_bytes(
        order.text().replace(
            f"%ORIGIN-HOST {bangalore.name}".encode(), f"%ORIGIN-HOST {boston.name}".encode()
        )
    )
    age(faraway, 10)
    assert bangalore.shipping_server("-poll") == 0
    assert bangalore.shipping_server("-poll") == 0
    assert (hub.returns / "outgoing/sh_o_one").exists() and hub.outgoing() == []
    assert hub.shipping_server("-poll") == 0
    assert boston.came_home() == {"one": b"1"}
    assert not any((hub.returns / "outgoing").iterdir())


def test_a_packet_that_expires_at_home_goes_into_the_return_bay(hosts: Three) -> None:
    boston, hub, _ = hosts
    order = boston.packet("one", b"1", hub.name)
    age(order, 10)
    assert boston.shipping_server("-poll") == 0
    assert boston.came_home() == {"one": b"1"} and boston.outgoing() == []
    assert "To: admin@example.org\nSubject: one has come back undelivered" in boston.mail()
    assert f"mkorder -data {boston.returns}/incoming/one -fship {hub.name}" in boston.mail()


def test_a_file_in_somebodys_directory_stays_there_when_its_order_expires(hosts: Three) -> None:
    boston, hub, _ = hosts
    (boston.root / "mine").write_bytes(b"m")
    assert boston.mkorder("-data", boston.root / "mine", hub.name) == 0
    age(boston.root / "sh_o_mine", 10)
    assert boston.shipping_server(boston.root / "sh_o_mine") == 0
    assert (boston.root / "mine").read_bytes() == b"m" and not (boston.root / "sh_o_mine").exists()


def test_what_expires_on_its_way_home_is_deleted(hosts: Three) -> None:
    boston, hub, _ = hosts
    path = hub.packet("one", b"1", "faraway")
    order = Order.load(path)
    path.write_bytes(order.turned_round(time.time() - 15 * 86400).text().replace(
        f"%ORIGIN-HOST {hub.name}".encode(), f"%ORIGIN-HOST {boston.name}".encode()))  # fmt: skip
    assert hub.shipping_server("-poll") == 0
    assert hub.outgoing() == [] and boston.came_home() == {}
    assert "Subject: one was deleted" in hub.mail() and "expired on its way back" in hub.log()


def test_an_order_that_was_delivered_in_part_returns_for_the_rest_only(hosts: Three) -> None:
    boston, hub, bangalore = hosts
    hub.start()
    order = boston.packet("one", b"1", hub.name, bangalore.name)
    assert boston.shipping_server(order) == 1
    age(order, 10)
    assert boston.shipping_server(order) == 0
    assert f"it could not be delivered to {bangalore.name}" in boston.log()
    assert boston.came_home() == {"one": b"1"} and hub.incoming() == {"one": b"1"}


def test_a_mail_that_cannot_be_sent_stops_nothing(hosts: Three) -> None:
    boston, hub, _ = hosts
    (boston.root / "notify").write_text("#!/bin/sh\necho no mail today >&2; exit 3\n")
    age(boston.packet("one", b"1", hub.name), 10)
    assert boston.shipping_server("-poll") == 0
    assert boston.came_home() == {"one": b"1"}
    assert "cannot notify admin@example.org" in boston.log() and "status 3 no mail today" in boston.log()


def test_without_a_notification_program_mail_goes_through_sendmail(hosts: Three) -> None:
    boston, hub, _ = hosts
    sendmail = boston.root / "sendmail"
    sendmail.write_text(f'#!/bin/sh\necho "args: $*" > {boston.root}/sent; cat >> {boston.root}/sent\n')
    sendmail.chmod(0o755)
    boston.configure(options=[f"sendmail: {sendmail}"])
    boston.conf_file.write_text("ADMINISTRATOR ann@example.org bob@example.org\n")
    age(boston.packet("one", b"1", hub.name), 10)
    assert boston.shipping_server("-poll") == 0
    sent = (boston.root / "sent").read_text()
    assert sent.startswith(
        "args: -i -- ann@example.org bob@example.org\nTo: ann@example.org, bob@example.org\n"
    )
    assert "Subject: one has come back undelivered" in sent and f"From host:     {boston.name}" in sent


def test_old_leftovers_and_long_past_arrivals_are_cleared_away(hosts: Three) -> None:
    boston, hub, _ = hosts
    hub.start()
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    left, fresh = hub.bay / "incoming/.ms_tmp_old", hub.bay / "incoming/.ms_tmp_new"
    for path in (left, fresh):
        path.touch()
    os.utime(left, (1, 1))
    recover(hub.site())
    assert not left.exists() and fresh.exists()
    received = hub.home / "received"
    assert len(list(received.iterdir())) == 1
    recover(hub.site(clock=lambda: time.time() + 60 * 86400))
    assert list(received.iterdir()) == []
    assert stat.S_IMODE(received.stat().st_mode) == 0o700
