"""What imapd.conf says to sync_server."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.descriptors import share_out
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.listening import Address
from cyrus_sync.sync_server.places import Most
from cyrus_sync.sync_server.service import most
from cyrus_sync.sync_server.settings import ServerSettings, csync_address


def settings(tmp_path: Path, *lines: str) -> ServerSettings:
    conf = tmp_path / "imapd.conf"
    base = [f"configdirectory: {tmp_path}", f"partition-default: {tmp_path}/spool", "servername: r.example"]
    conf.write_text("\n".join([*base, *lines]) + "\n")
    return ServerSettings.from_config(Config.load(conf, "sync_server"))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("*:csync", Address("", 2005)),
        ("127.0.0.1:2105", Address("127.0.0.1", 2105)),
        ("127.0.0.1", Address("127.0.0.1", 2005)),
        (":0", Address("", 0)),
        ("[::1]:2105", Address("::1", 2105)),
        ("[::1]", Address("::1", 2005)),
        ("replica.example:csync", Address("replica.example", 2005)),
        ("/run/csync", Address(path="/run/csync")),
    ],
)
def test_an_address_is_a_port_of_an_interface_or_a_socket(text: str, address: Address) -> None:
    assert csync_address(text) == address


@pytest.mark.parametrize("text", ["127.0.0.1:http", "::1:2005", "[::1", "[::1]x", "a:99999"])
def test_a_bad_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        csync_address(text)


@pytest.mark.parametrize(
    "address", [Address("::1", 2005), Address("10.0.0.1", 1), Address(path="/x"), Address("", 2005)]
)
def test_an_address_is_written_as_it_is_read(address: Address) -> None:
    assert csync_address(str(address)) == address


@pytest.mark.covers("imapd.conf", "sync_listen")
def test_without_sync_listen_it_is_every_address_and_port_2005(tmp_path: Path) -> None:
    assert settings(tmp_path).listen == (Address("", 2005),)


@pytest.mark.covers("imapd.conf", "sync_listen")
def test_several_addresses_and_sockets(tmp_path: Path) -> None:
    assert settings(tmp_path, "sync_listen: 127.0.0.1:2105 /run/x").listen == (
        Address("127.0.0.1", 2105),
        Address(path="/run/x"),
    )


@pytest.mark.covers("imapd.conf", "sync_listen")
def test_a_bad_address_names_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"imapd\.conf:4: sync_listen: .*'x' is not a port number"):
        settings(tmp_path, "sync_listen: 127.0.0.1:x")


@pytest.mark.covers("imapd.conf", "admins", "sync_timeout", "failedloginpause")
def test_admins_pause_and_timeout(tmp_path: Path) -> None:
    made = settings(tmp_path, "admins: cyrus repl", "failedloginpause: 1s", "sync_timeout: 2m")
    assert made.admins == {"cyrus", "repl"}
    assert made.failed_login_pause == 1
    assert made.timeout == 120


@pytest.mark.covers("imapd.conf", "servername")
def test_the_banner_is_worded_as_cyrus_words_it(tmp_path: Path) -> None:
    assert settings(tmp_path).banner.startswith("r.example Cyrus sync server cyrus-sync ")


@pytest.mark.covers("imapd.conf", "sync_max_strangers")
def test_the_bounds_for_connections(tmp_path: Path) -> None:
    shares = share_out(1024)
    assert most(settings(tmp_path), shares) == Most(224, 64, 56, 14, 28)
    said = settings(
        tmp_path, "sync_max_connections: 100", "sync_max_per_address: 5", "sync_max_strangers: 40"
    )
    assert most(said, shares) == Most(100, 5, 40, 5, 12)
    assert most(settings(tmp_path, "sync_max_connections: 5000"), shares).connections == 224
