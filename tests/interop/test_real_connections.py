"""How a real client comes in: compression, TLS, SASL mechanisms, the detour over IMAP, a UNIX socket."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.deadlines import scaled

from .csync import differences, state_of
from .cyrus import PASSWORD, Cyrus
from .fill import message
from .ours import Ours
from .proxy import Proxy
from .running import Finished


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = directory / "cert.pem", directory / "key.pem"
    cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_file, key_file


@pytest.fixture(scope="module")
def server(real_cyrus: None) -> Iterator[Ours]:
    """Our sync_server as it is by default."""
    with Ours.installed("replica") as ours:
        yield ours


@pytest.fixture(scope="module")
def careful(real_cyrus: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ours]:
    """Our sync_server with a certificate and no plain text passwords on a bare line."""
    cert, key = certificate(tmp_path_factory.mktemp("tls"))
    settings = {
        "allowstarttls": "on",  # the default up to 3.8
        "tls_server_cert": str(cert),
        "tls_server_key": str(key),
        "allowplaintext": "no",
        "sasl_mech_list": "PLAIN",
    }
    with Ours.installed("careful", settings) as ours:
        yield ours


@pytest.fixture
def filled(master: Cyrus, user: str) -> str:
    """A user with one message."""
    master.create_user(user)
    with master.imap(user) as imap:
        imap.append("INBOX", message("one"))
    return user


def arrived(master: Cyrus, server: Ours, user: str, ran: Finished) -> None:
    ran.check()
    assert differences(state_of(master.csync, user), state_of(server.csync, user)) == []


def test_a_real_client_compresses_whenever_it_is_offered(master: Cyrus, server: Ours, filled: str) -> None:
    with Proxy(server.csync) as proxy:
        ran = master.sync_client("-u", filled, to=proxy.address)
        (conversation,) = proxy.conversations
        assert b"COMPRESS DEFLATE\r\n" in conversation.c2s
        assert b"OK DEFLATE active\r\n" in conversation.s2c
        assert b"GET USER" not in conversation.c2s
    arrived(master, server, filled, ran)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_a_real_client_logs_in_by(master: Cyrus, server: Ours, filled: str, mechanism: str) -> None:
    with Proxy(server.csync) as proxy:
        ran = master.sync_client(
            "-u", filled, to=proxy.address, extra={"force_sasl_client_mech": mechanism, "sync_realm": ""}
        )
        assert proxy.commands(f"AUTHENTICATE {mechanism}")
    arrived(master, server, filled, ran)


def test_a_wrong_password_is_refused(master: Cyrus, server: Ours, filled: str) -> None:
    with Proxy(server.csync) as proxy:
        ran = master.sync_client("-u", filled, to=proxy.address, extra={"sync_password": "wrong"}, timeout=2)
        assert ran.status != 0
        assert any(line.startswith("NO ") for line in proxy.conversations[0].answers())
    assert state_of(server.csync, filled)["mailboxes"] == {}


def test_a_real_client_starts_tls_where_plain_is_not_offered(
    master: Cyrus, careful: Ours, filled: str
) -> None:
    with Proxy(careful.csync) as proxy:
        master.sync_client("-u", filled, to=proxy.address).check()
        (conversation,) = proxy.conversations
        assert conversation.commands()[0] == "STARTTLS"
        assert b"OK Begin TLS negotiation now" in conversation.s2c
        assert PASSWORD.encode() not in conversation.c2s
    assert f"user.{filled}" in careful.dump(filled)


@pytest.mark.covers("Replies of the session", "X BAD this is csync")
def test_a_real_client_that_tries_imap_first_loses_no_time(master: Cyrus, server: Ours, filled: str) -> None:
    with Proxy(server.csync) as proxy:
        ran = master.sync_client("-u", filled, to=proxy.address, extra={"sync_try_imap": "1"})
        assert ran.seconds < scaled(1.5)
        first, second = proxy.conversations
        assert first.commands() == ["C01 CAPABILITY", "Q01 LOGOUT"]
        assert second.commands()
    arrived(master, server, filled, ran)


def test_a_real_client_comes_in_by_a_unix_socket(master: Cyrus, server: Ours, filled: str) -> None:
    socket = server.root / "conf" / "csync.socket"
    for directory in (socket.parent, server.root):
        directory.chmod(0o755)
    socket.chmod(0o777)
    arrived(
        master, server, filled, master.sync_client("-u", filled, to=(str(socket), 0), extra={"sync_port": ""})
    )
