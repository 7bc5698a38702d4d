"""Logging in across the border: our client at a real sync_server, real clients at our SASL and TLS."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from cyrus_sync.common.errors import AuthenticationFailed, CannotConnect, TLSFailed
from cyrus_sync.common.wire.client import ClientSettings, ReadyConnection, connect
from cyrus_sync.common.wire.policy import Policy
from cyrus_sync.common.wire.replica import WireReplica
from cyrus_sync.common.wire.sasl.client import Credentials
from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from cyrus_sync.common.wire.sasl.saslauthd import Saslauthd
from cyrus_sync.common.wire.sasl.server import SaslServer
from cyrus_sync.common.wire.tls import ClientTLSSettings, ServerTLS, ServerTLSSettings
from tests.common.wire.kit import Issued, Recorder, issue, run, spin, use_for_tls
from tests.common.wire.peer import Accept, FakeServer
from tests.deadlines import scaled
from tests.reactors import make_reactor

from .cyrus import ADMIN, PASSWORD, Cyrus, give_to_cyrus
from .releases import PROGRAMS
from .running import default_ground, identity


@dataclass(frozen=True)
class Certificates:
    """An authority, a server's certificate for localhost, and one for the administrator."""

    ca: Issued
    server: Issued
    admin: Issued


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    """Where the user cyrus can read them, too."""
    with tempfile.TemporaryDirectory(prefix="cy-certificates-", dir=default_ground()) as directory:
        root = Path(directory)
        ca = issue(root, "authority", ca=True)
        made = Certificates(ca, issue(root, "server", ca, hosts=("127.0.0.1",)), issue(root, ADMIN, ca))
        give_to_cyrus(root)
        yield made


@pytest.fixture(scope="module")
def cyrus(real_cyrus: None, certificates: Certificates) -> Iterator[Cyrus]:
    """A real server with TLS and every mechanism that both of us know."""
    settings = {
        "sasl_mech_list": "PLAIN LOGIN SCRAM-SHA-1 SCRAM-SHA-256 EXTERNAL",
        "allowstarttls": "on",  # the default up to 3.8
        "tls_server_cert": str(certificates.server.cert),
        "tls_server_key": str(certificates.server.key),
        "tls_client_ca_file": str(certificates.ca.cert),
    }
    with Cyrus.running("login", settings) as running:
        yield running


@pytest.fixture
def reactor(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = make_reactor()
    use_for_tls(monkeypatch, made)
    return made


@pytest.fixture
def settings(cyrus: Cyrus, certificates: Certificates) -> ClientSettings:
    host, port = cyrus.csync
    return ClientSettings(
        f"{host}:{port}",
        host,
        port,
        credentials=Credentials(ADMIN, PASSWORD),
        tls=ClientTLSSettings(ca_file=str(certificates.ca.cert)),
    )


def works(reactor: Any, session: ReadyConnection) -> None:
    """The session may do what only an administrator may."""
    handler = Recorder()
    session.proto.set_event_handler(handler)
    session.proto.write(b"GET USER nobody-here\r\n")
    spin(reactor, lambda: bool(handler.events))
    assert (handler.events[-1].status, handler.events[-1].text) == ("OK", "success")
    session.proto.write(b"EXIT\r\n")
    spin(reactor, lambda: bool(handler.lost))


# -- our client, the real server


@pytest.mark.parametrize("compress", [False, True], ids=["plain-line", "deflate"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_our_client_logs_in_to_the_real_server(
    reactor: Any, settings: ClientSettings, mechanism: str, compress: bool
) -> None:
    policy = Policy(allow_plaintext=True, mechanisms=(mechanism,))
    session = run(reactor, connect(reactor, replace(settings, policy=policy, require_compression=compress)))
    assert session.mechanism == mechanism
    assert session.proto.compressed is compress
    works(reactor, session)


@pytest.mark.parametrize("compress", [False, True], ids=["plain-line", "deflate"])
def test_our_client_starts_tls_to_send_a_password(
    reactor: Any, settings: ClientSettings, compress: bool
) -> None:
    policy = Policy(mechanisms=("PLAIN",))
    session = run(reactor, connect(reactor, replace(settings, policy=policy, require_compression=compress)))
    assert session.layer.tls
    assert session.proto.compressed is compress
    works(reactor, session)


def test_our_client_shows_its_certificate_instead_of_a_password(
    reactor: Any, settings: ClientSettings, certificates: Certificates
) -> None:
    tls = replace(settings.tls, cert=str(certificates.admin.cert), key=str(certificates.admin.key))
    session = run(reactor, connect(reactor, replace(settings, tls=tls, credentials=Credentials())))
    assert session.mechanism == "EXTERNAL"
    works(reactor, session)


def test_our_client_does_not_trust_the_real_server_without_its_authority(
    reactor: Any, settings: ClientSettings
) -> None:
    wanted = replace(settings, tls=ClientTLSSettings(), policy=Policy(minimum_layer=2))
    with pytest.raises(TLSFailed, match="authority that is not trusted here"):
        run(reactor, connect(reactor, wanted))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_our_client_reports_the_real_servers_refusal(
    reactor: Any, settings: ClientSettings, mechanism: str
) -> None:
    wanted = replace(
        settings,
        credentials=Credentials(ADMIN, "wrong"),
        policy=Policy(allow_plaintext=True, mechanisms=(mechanism,)),
    )
    with pytest.raises(AuthenticationFailed) as caught:
        run(reactor, connect(reactor, wanted))
    assert caught.value.address["reply"] == "NO authentication failure"


# -- our client, the real imapd


@pytest.fixture
def within_imap(settings: ClientSettings, cyrus: Cyrus) -> ClientSettings:
    """To an imapd, with no csync server to go on to."""
    return replace(settings, port=1, imap_port=cyrus.ports["imap"])


def replicates(reactor: Any, session: ReadyConnection) -> None:
    """The imapd takes the commands of replication."""
    assert session.within_imap

    async def talk() -> None:
        replica = await WireReplica.start(session, {"SIEVE-MAILBOX"})
        assert not (await replica.get_user("nobody-here")).mailboxes
        await replica.restart()
        await replica.noop()
        await replica.close()

    run(reactor, Deferred.fromCoroutine(talk()))


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_our_client_logs_in_to_the_real_imapd(
    reactor: Any, within_imap: ClientSettings, mechanism: str
) -> None:
    policy = Policy(allow_plaintext=True, mechanisms=(mechanism,))
    session = run(reactor, connect(reactor, replace(within_imap, policy=policy)))
    assert session.mechanism == mechanism and not session.layer.tls
    replicates(reactor, session)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_our_client_starts_tls_with_the_real_imapd_before_it_logs_in(
    reactor: Any, within_imap: ClientSettings, mechanism: str
) -> None:
    policy = Policy(minimum_layer=128, mechanisms=(mechanism,))
    session = run(reactor, connect(reactor, replace(within_imap, policy=policy)))
    assert session.mechanism == mechanism and session.layer.tls
    assert "STARTTLS" not in session.capabilities, "the capabilities are those under TLS"
    replicates(reactor, session)


def test_our_client_shows_its_certificate_to_the_real_imapd(
    reactor: Any, within_imap: ClientSettings, certificates: Certificates
) -> None:
    tls = replace(within_imap.tls, cert=str(certificates.admin.cert), key=str(certificates.admin.key))
    session = run(reactor, connect(reactor, replace(within_imap, tls=tls, credentials=Credentials())))
    assert session.mechanism == "EXTERNAL"
    replicates(reactor, session)


def test_our_client_does_not_trust_the_real_imapd_without_its_authority(
    reactor: Any, within_imap: ClientSettings
) -> None:
    wanted = replace(within_imap, tls=ClientTLSSettings(), policy=Policy(minimum_layer=2))
    with pytest.raises(CannotConnect) as caught:
        run(reactor, connect(reactor, wanted))
    assert "authority that is not trusted here" in caught.value.address["imap"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_our_client_reports_the_real_imapds_refusal(
    reactor: Any, within_imap: ClientSettings, mechanism: str
) -> None:
    policy = Policy(allow_plaintext=True, mechanisms=(mechanism,))
    wanted = replace(within_imap, credentials=Credentials(ADMIN, "wrong"), policy=policy)
    with pytest.raises(CannotConnect) as caught:
        run(reactor, connect(reactor, wanted))
    assert f"authentication failed: {mechanism} as {ADMIN}" in caught.value.address["imap"]


# -- real clients, our SASL and TLS


@pytest.fixture
def ours(reactor: Any, certificates: Certificates, tmp_path: Path) -> Iterator[tuple[FakeServer, int]]:
    """Our server's login, and the port where it listens."""
    passwords = PasswordFile(tmp_path / "sync_passwd")
    passwords.set_password(ADMIN, PASSWORD)
    sasl = SaslServer(Policy(allow_plaintext=True), passwords, proxies=frozenset({ADMIN}))
    tls = ServerTLS(
        ServerTLSSettings(
            (str(certificates.server.cert),),
            (str(certificates.server.key),),
            client_ca_file=str(certificates.ca.cert),
        )
    )
    server = FakeServer(sasl, tls)
    port = reactor.listenTCP(0, Accept(reactor, server), interface="127.0.0.1")
    yield server, port.getHost().port
    for peer in server.peers:
        peer.proto.abort()
    spin(reactor, lambda: len(server.lost) == len(server.peers))
    run(reactor, port.stopListening())


def synctest(reactor: Any, port: int, *options: str, password: str = PASSWORD) -> str:
    """Run Cyrus's synctest, which logs in by libsasl2; what it printed."""
    process = subprocess.Popen(
        [str(PROGRAMS / "synctest"), "-p", str(port), "-a", ADMIN, "-w", password, *options, "127.0.0.1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **identity(),  # type: ignore[call-overload]
    )
    try:
        spin(reactor, lambda: process.poll() is not None)
    finally:
        process.kill()
    return str(process.communicate()[0].decode("utf-8", "replace"))


@pytest.mark.covers("Commands of the session", "AUTHENTICATE")
@pytest.mark.parametrize("tls", [False, True], ids=["bare", "starttls"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_libsasl_logs_in_to_our_server(
    reactor: Any, ours: tuple[FakeServer, int], mechanism: str, tls: bool
) -> None:
    server, port = ours
    said = synctest(reactor, port, "-m", mechanism, *(["-t", ""] if tls else []))
    assert "Authenticated." in said, said
    assert server.peers[-1].userid == ADMIN
    assert any(command.startswith(b"STARTTLS") for command in server.commands) is tls


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_libsasl_may_act_for_another_user_as_an_administrator(
    reactor: Any, ours: tuple[FakeServer, int], mechanism: str
) -> None:
    server, port = ours
    said = synctest(reactor, port, "-m", mechanism, "-u", "alice")
    assert "Authenticated." in said, said
    assert server.peers[-1].userid == "alice"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_libsasl_with_a_wrong_password_is_refused(
    reactor: Any, ours: tuple[FakeServer, int], mechanism: str
) -> None:
    said = synctest(reactor, ours[1], "-m", mechanism, password="wrong")
    assert "NO authentication failure" in said, said
    assert "Authenticated." not in said


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_the_real_sync_client_logs_in_to_our_server(
    reactor: Any, ours: tuple[FakeServer, int], cyrus: Cyrus, mechanism: str
) -> None:
    server, port = ours
    finished = sync_client(reactor, cyrus, port, {"force_sasl_client_mech": mechanism})
    assert finished == 0
    assert server.peers[-1].userid == ADMIN
    assert any(command.startswith(f"AUTHENTICATE {mechanism}".encode()) for command in server.commands)


def test_the_real_sync_client_starts_tls_where_we_offer_nothing_before_and_shows_its_certificate(
    reactor: Any, ours: tuple[FakeServer, int], cyrus: Cyrus, certificates: Certificates
) -> None:
    server, port = ours
    assert server.sasl is not None
    server.sasl = replace(server.sasl, policy=Policy(minimum_layer=128))
    certificate = {
        "tls_client_cert": str(certificates.admin.cert),
        "tls_client_key": str(certificates.admin.key),
        "force_sasl_client_mech": "EXTERNAL",
    }
    assert sync_client(reactor, cyrus, port, certificate) == 0
    assert [command.split()[0] for command in server.commands[:2]] == [b"STARTTLS", b"AUTHENTICATE"]
    assert server.peers[-1].userid == ADMIN


def sync_client(reactor: Any, cyrus: Cyrus, port: int, extra: dict[str, str]) -> int:
    """One run of the real sync_client for a user that nobody has; its exit status."""
    conf = cyrus.client_config(("127.0.0.1", port), extra)
    process = subprocess.Popen(
        [str(PROGRAMS / "sync_client"), "-C", str(conf), "-o", "-u", "nobody-here"],
        stdin=subprocess.DEVNULL,
        cwd="/",
        **identity(),  # type: ignore[call-overload]
    )
    try:
        spin(reactor, lambda: process.poll() is not None)
    finally:
        process.kill()
    return int(process.wait())


# -- the real saslauthd, asking the real imapd


def test_saslauthd_tells_right_passwords_from_wrong_ones(reactor: Any, cyrus: Cyrus, tmp_path: Path) -> None:
    program = shutil.which("saslauthd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    assert program, "saslauthd comes with sasl2-bin, as saslpasswd2 does"
    where = f"127.0.0.1/{cyrus.ports['imap']}"
    process = subprocess.Popen(
        [program, "-d", "-n", "1", "-a", "rimap", "-O", where, "-m", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # it ends its whole process group with itself
    )
    try:
        spin(reactor, (tmp_path / "mux").exists)
        sasl = SaslServer(
            Policy(allow_plaintext=True), saslauthd=Saslauthd(reactor, tmp_path), checks=("saslauthd",)
        )
        for password, right in ((PASSWORD, True), ("wrong", False)):
            asked = sasl.check_password(ADMIN, password)
            assert run(reactor, Deferred.fromCoroutine(asked), 20) is right
    finally:
        process.terminate()
        process.wait(scaled(10))
