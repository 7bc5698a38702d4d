"""A certificate that has expired, or soon will, is told of: which, where it is named, and how many days."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.wire.certificates import (
    BUNDLE,
    CertificateFile,
    client_files,
    client_warnings,
    expiry_warnings,
    server_files,
)
from cyrus_sync.common.wire.settings import ClientSettings
from cyrus_sync.common.wire.tls_settings import ClientTLSSettings, ServerTLSSettings
from cyrus_sync.sync_client import cli as sync_client
from tests.common.wire.kit import issue


def warnings_of(path: Path, *, authorities: bool = False) -> list[str]:
    return expiry_warnings([CertificateFile("tls_server_cert", path, authorities)])


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (-50, "has expired 50 days ago"),
        (-1, "has expired 1 day ago"),
        (0, "has expired less than a day ago"),
        (1, "expires in less than a day"),
        (2, "expires in 1 day "),
        (30, "expires in 29 days"),
    ],
)
def test_days_are_counted(tmp_path: Path, days: int, said: str) -> None:
    (warning,) = warnings_of(issue(tmp_path, "mail", days=days).cert)
    assert warning.startswith(f"tls_server_cert: {tmp_path}/mail.pem: the certificate CN=mail {said}")
    assert warning.endswith(")")


def test_one_that_is_good_for_long_is_not_spoken_of(tmp_path: Path) -> None:
    assert warnings_of(issue(tmp_path, "mail", days=31).cert) == []


def test_one_that_is_not_valid_yet_is_told_of(tmp_path: Path) -> None:
    made = issue(tmp_path, "mail", days=300)
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=200)
    (warning,) = expiry_warnings([CertificateFile("tls_server_cert", made.cert)], past)
    assert "is not valid before" in warning


def test_each_certificate_of_a_chain_counts(tmp_path: Path) -> None:
    authority = issue(tmp_path, "authority", days=3, ca=True)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(issue(tmp_path, "mail", authority).cert.read_bytes() + authority.cert.read_bytes())
    (warning,) = warnings_of(chain)
    assert "CN=authority expires in 2 days" in warning


def test_an_authority_that_was_renewed_is_past_and_gone(tmp_path: Path) -> None:
    old = issue(tmp_path, "authority", days=-3, ca=True).cert.read_bytes()
    both = tmp_path / "both.pem"
    both.write_bytes(old + issue(tmp_path, "authority", days=300, ca=True).cert.read_bytes())
    assert warnings_of(both, authorities=True) == []
    both.write_bytes(old)
    assert len(warnings_of(both, authorities=True)) == 1


def test_a_bundle_of_many_authorities_is_not_looked_at(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    pieces = [issue(tmp_path, f"a{n}", days=-3, ca=True).cert.read_bytes() for n in range(BUNDLE + 1)]
    bundle.write_bytes(b"".join(pieces))
    assert warnings_of(bundle, authorities=True) == []


def test_what_cannot_be_read_is_left_to_others(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    assert warnings_of(tmp_path / "bad.pem") == warnings_of(tmp_path / "none.pem") == []


def test_a_server_looks_at_what_it_shows_and_whom_it_trusts(tmp_path: Path) -> None:
    settings = ServerTLSSettings(("/a.pem", "/b.pem"), client_ca_file="/ca.pem")
    assert [(file.option, str(file.path)) for file in server_files(settings)] == [
        ("tls_server_cert", "/a.pem"),
        ("tls_server_cert", "/b.pem"),
        ("tls_client_ca_file", "/ca.pem"),
    ]
    asks_nobody = ServerTLSSettings(("/a.pem",), client_certs="off", client_ca_file="/ca.pem")
    assert len(server_files(asks_nobody)) == 1
    assert server_files(None) == []


def test_a_client_looks_at_what_it_shows_and_whom_it_trusts(tmp_path: Path) -> None:
    (tmp_path / "one.pem").touch()
    (tmp_path / "hash.0").symlink_to("one.pem")
    settings = ClientTLSSettings(ca_file="/ca.pem", ca_dir=str(tmp_path), cert="/me.pem")
    assert [(file.option, str(file.path)) for file in client_files(settings)] == [
        ("tls_client_cert", "/me.pem"),
        ("tls_server_ca_file", "/ca.pem"),
        ("tls_server_ca_dir", f"{tmp_path}/one.pem"),
    ]
    assert client_files(ClientTLSSettings(verify=False, ca_file="/ca.pem")) == []


def test_status_warns_and_says_so_in_its_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = tmp_path / "imapd.conf"
    authority = issue(tmp_path, "authority", days=5, ca=True)
    mine = issue(tmp_path, "mine", days=-2)
    conf.write_text(
        f"configdirectory: {tmp_path}/conf\npartition-default: {tmp_path}/mail\nsync_log: yes\n"
        f"sync_host: replica.example\ntls_server_ca_file: {authority.cert}\n"
        f"tls_client_cert: {mine.cert}\ntls_client_key: {mine.key}\n"
    )
    directory = tmp_path / "conf/sync"
    directory.mkdir(parents=True)
    (directory / "log").touch()
    sync_client.main(["-C", str(conf), "--status", "--format", "json"])
    reasons = json.loads(capsys.readouterr().out)["reasons"]
    assert any(f"tls_client_cert: {mine.cert}: the certificate CN=mine has expired" in one for one in reasons)
    assert any("CN=authority expires in 4 days" in one for one in reasons)
    to_a_socket = ClientSettings.from_config(Config.load(conf), None, "/run/csync")
    assert client_warnings(to_a_socket) == []
