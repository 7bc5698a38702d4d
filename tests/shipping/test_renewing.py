"""Configuration is read for every file that comes, and at SIGHUP; the environment has a word, too."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from cyrus_sync.shipping import receive
from cyrus_sync.shipping.conf import ShippingConf, with_environment
from cyrus_sync.shipping.errors import ShippingConfError
from cyrus_sync.shipping.greeting import Greeted
from tests.shipping.kit import Host, contents, wait_until

Pair = tuple[Host, Host]
MIN, MAX = "CLEARCASE_MIN_PORT", "CLEARCASE_MAX_PORT"


def test_each_file_goes_into_the_bay_that_shipping_conf_names_by_then(pair: Pair) -> None:
    boston, hub = pair
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    bay = hub.root / "another bay"
    bay.mkdir()
    hub.configure(f'STORAGE-BAY -default "{bay}"')
    boston.packet("two", b"2", hub.name)
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"one": b"1"} and contents(bay / "incoming") == {"two": b"2"}


def test_the_receipt_handler_is_the_one_that_shipping_conf_names_by_then(pair: Pair) -> None:
    boston, hub = pair
    handler, said = hub.root / "handler", hub.root / "said"
    handler.write_text(f'#!/bin/sh\necho "$*" > {said}\n')
    handler.chmod(0o755)
    hub.configure(f"RECEIPT-HANDLER -default {handler}")
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    wait_until(said.exists)


def test_a_key_that_was_replaced_counts_at_once(pair: Pair) -> None:
    boston, hub = pair
    (boston.root / "key").write_text("6b" * 32)
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 1, "the other one has the old key still"
    (hub.root / "key").write_text("6b" * 32)
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"one": b"1"}


def test_a_key_that_makes_no_sense_changes_nothing(pair: Pair) -> None:
    boston, hub = pair
    (hub.root / "key").write_text("no key")
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"one": b"1"}
    assert hub.log().count("the family key stays as it was: ") == 1


def test_at_sighup_all_is_read_again(pair: Pair) -> None:
    boston, hub = pair
    for host in (boston, hub):
        (host.root / "key").write_text("6b" * 32)
    os.kill(hub.pid, signal.SIGHUP)
    wait_until(lambda: f"read {hub.config_file} and {hub.conf_file} again" in hub.log())
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"one": b"1"}


def test_a_configuration_that_makes_no_sense_changes_nothing_at_sighup(pair: Pair) -> None:
    boston, hub = pair
    sound = hub.conf_file.read_text()
    hub.conf_file.write_text("NONSENSE\n")
    os.kill(hub.pid, signal.SIGHUP)
    wait_until(lambda: "the configuration stays as it was: " in hub.log())
    assert f"{hub.conf_file}:1: 'NONSENSE' is not a keyword" in hub.log()
    hub.conf_file.write_text(sound)
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"one": b"1"}


def test_ports_are_taken_from_the_environment_and_go_before_those_of_the_file() -> None:
    conf = ShippingConf(Path("shipping.conf"), min_port=20000, max_port=20010)
    assert with_environment(conf, {}) is conf
    both = with_environment(conf, {MIN: "30000", MAX: "30010"})
    assert (both.min_port, both.max_port) == (30000, 30010)
    one = with_environment(conf, {MAX: "20020"})
    assert (one.min_port, one.max_port) == (20000, 20020)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({MIN: "20000"}, "need one another"),
        ({MIN: "20000", MAX: "20000"}, "not larger"),
        ({MIN: "many", MAX: "20000"}, "not a number"),
        ({MIN: "80", MAX: "20000"}, "not a number from 1024"),
    ],
)
def test_ports_of_the_environment_that_make_no_sense_are_refused(given: dict[str, str], reason: str) -> None:
    with pytest.raises(ShippingConfError, match=f"environment.*{reason}"):
        with_environment(ShippingConf(Path("none")), given)


def test_a_host_takes_its_ports_from_the_environment(
    hosts: tuple[Host, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    boston = hosts[0]
    monkeypatch.setenv(MIN, "20000")
    monkeypatch.setenv(MAX, "20010")
    assert (boston.site().conf.min_port, boston.site().conf.max_port) == (20000, 20010)


@pytest.mark.parametrize("told", [{}, {"family": "ab" * 32}], ids=["of before", "of now"])
def test_a_child_that_is_newer_than_its_service_takes_the_key_of_its_site(
    hosts: tuple[Host, ...], monkeypatch: pytest.MonkeyPatch, told: dict[str, str]
) -> None:
    site, keys = hosts[0].site(), list[bytes]()

    def received(_site: object, _connection: int, greeted: Greeted) -> list[object]:
        keys.append(greeted.proofs.key)
        return []

    monkeypatch.setattr(receive, "receive", received)
    job = {"client": "one", "server": "other", "layer": "", "keys": ["00", "11"], **told}
    assert receive.receive_job(site, job, 0) == []
    assert keys == [bytes.fromhex(told["family"]) if told else site.key]
