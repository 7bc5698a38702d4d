"""Connecting: from an address to a session that is logged in, and every way in which that can fail."""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import (
    AuthenticationFailed,
    CannotConnect,
    CompressionRefused,
    ConfigError,
    CyrusSyncError,
    QuietLogout,
    TLSFailed,
)
from cyrus_sync.common.protocol.events import Answer, Reply
from cyrus_sync.common.wire.client import ReadyConnection, connect
from cyrus_sync.common.wire.policy import Policy
from cyrus_sync.common.wire.sasl import passwd
from cyrus_sync.common.wire.sasl.client import Credentials
from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from cyrus_sync.common.wire.sasl.server import SaslServer, Success
from cyrus_sync.common.wire.settings import ClientSettings, Server, parse_server, port_number
from cyrus_sync.common.wire.tls import ClientTLSSettings, ServerTLS, ServerTLSSettings
from tests.common.wire.kit import Issued, Recorder, issue, run, spin, use_for_tls
from tests.common.wire.peer import Accept, FakeServer, Peer
from tests.deadlines import scaled
from tests.reactors import make_reactor


@pytest.fixture
def reactor(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = make_reactor()
    use_for_tls(monkeypatch, made)
    return made


@pytest.fixture
def listen(reactor: Any, tmp_path: Path) -> Iterator[Any]:
    """Starts a `FakeServer`: on a free port of 127.0.0.1, or on a UNIX socket in `tmp_path`, which is there
    until all have stopped."""
    ports: list[Any] = []
    servers: list[FakeServer] = []

    def listen(server: FakeServer, path: Path | None = None) -> int:
        servers.append(server)
        if path:
            ports.append(reactor.listenUNIX(str(path), Accept(reactor, server)))
            return 0
        ports.append(reactor.listenTCP(0, Accept(reactor, server), interface="127.0.0.1"))
        return int(ports[-1].getHost().port)

    yield listen
    for server in servers:
        for peer in server.peers:
            peer.proto.abort()
        spin(reactor, lambda server=server: len(server.lost) == len(server.peers))
    for port in ports:
        run(reactor, port.stopListening())


@pytest.fixture
def sasl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SaslServer:
    monkeypatch.setattr(passwd, "ITERATIONS", 4096)
    passwords = PasswordFile(tmp_path / "sync_passwd")
    passwords.set_password("cyrus", "s3cret")
    return SaslServer(Policy(allow_plaintext=True), passwords)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Issued:
    return issue(tmp_path_factory.mktemp("ca"), "ca", ca=True)


def tls_for(ca: Issued, directory: Path, host: str = "127.0.0.1") -> ServerTLS:
    made = issue(directory, f"server-{host}", ca, hosts=(host,))
    return ServerTLS(ServerTLSSettings((str(made.cert),), (str(made.key),), client_ca_file=str(ca.cert)))


def settings(port: int, **more: Any) -> ClientSettings:
    usual = ClientSettings(
        f"127.0.0.1:{port}", "127.0.0.1", port, credentials=Credentials("cyrus", "s3cret"), timeout=scaled(5)
    )
    return replace(usual, **more)


def works(reactor: Any, session: ReadyConnection) -> None:
    """The session is usable: NOOP is answered."""
    handler = Recorder()
    session.proto.set_event_handler(handler)
    session.proto.write(b"NOOP\r\n")
    spin(reactor, lambda: bool(handler.events))
    assert handler.events == [Reply("OK", "Noop completed")]
    session.proto.lose()
    spin(reactor, lambda: bool(handler.lost))


# -- the good cases


@pytest.mark.covers("Commands of the session", "AUTHENTICATE")
def test_the_strongest_mechanism_is_used_and_the_capabilities_are_known(
    reactor: Any, listen: Any, sasl: SaslServer
) -> None:
    server = FakeServer(sasl, extra=(b"* SOMETHING-NEW with words",))
    session = run(reactor, connect(reactor, settings(listen(server))))
    assert session.mechanism == "SCRAM-SHA-256"
    assert session.capabilities == {"SASL", "COMPRESS", "SIEVE-MAILBOX", "SOMETHING-NEW"}
    assert session.banner == "replica.test Cyrus sync server 3.6.1"
    assert session.ssf == 0
    assert "layer none, logged in with SCRAM-SHA-256, not compressed" in session.peer
    works(reactor, session)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_the_configuration_may_name_the_mechanism(
    reactor: Any, listen: Any, sasl: SaslServer, mechanism: str
) -> None:
    policy = Policy(allow_plaintext=True, mechanisms=(mechanism,))
    session = run(reactor, connect(reactor, settings(listen(FakeServer(sasl)), policy=policy)))
    assert session.mechanism == mechanism
    works(reactor, session)


def test_a_unix_socket_needs_no_login(reactor: Any, listen: Any, tmp_path: Path) -> None:
    server = FakeServer()
    listen(server, tmp_path / "csync")
    settings = ClientSettings("x", path=str(tmp_path / "csync"), timeout=scaled(5))
    session = run(reactor, connect(reactor, settings))
    assert session.mechanism == ""
    assert server.commands == []
    works(reactor, session)


def test_noauth_logs_in_nowhere(reactor: Any, listen: Any, sasl: SaslServer) -> None:
    server = FakeServer(sasl)
    session = run(reactor, connect(reactor, settings(listen(server), noauth=True)))
    assert session.mechanism == ""
    assert server.commands == []
    works(reactor, session)


def test_everything_after_the_login_is_traced_and_nothing_of_it(
    reactor: Any, listen: Any, sasl: SaslServer
) -> None:
    seen: list[tuple[str, bytes]] = []
    server = FakeServer(sasl)
    trace = lambda way, data: seen.append((way, data))  # noqa: E731
    session = run(reactor, connect(reactor, settings(listen(server), compress=True), trace))
    works(reactor, session)
    assert seen == [
        (">", b"COMPRESS DEFLATE\r\n"),
        ("<", b"OK DEFLATE active\r\n"),
        (">", b"NOOP\r\n"),
        ("<", b"OK Noop completed\r\n"),
    ]


# -- TLS


@pytest.mark.covers("Commands of the session", "STARTTLS")
def test_tls_is_started_where_no_mechanism_may_be_used_on_the_bare_line(
    reactor: Any, listen: Any, sasl: SaslServer, ca: Issued, tmp_path: Path
) -> None:
    strict = replace(sasl, policy=Policy(mechanisms=("PLAIN",)))
    server = FakeServer(strict, tls_for(ca, tmp_path))
    tls = ClientTLSSettings(ca_file=str(ca.cert))
    session = run(reactor, connect(reactor, settings(listen(server), tls=tls)))
    assert session.mechanism == "PLAIN"
    assert session.layer.tls
    assert session.ssf >= 128
    assert session.capabilities == {"SASL", "SIEVE-MAILBOX"}
    assert server.commands[0] == b"STARTTLS "
    works(reactor, session)


def test_tls_is_started_where_the_client_demands_a_layer(
    reactor: Any, listen: Any, sasl: SaslServer, ca: Issued, tmp_path: Path
) -> None:
    server = FakeServer(sasl, tls_for(ca, tmp_path))
    wanted = settings(
        listen(server), policy=Policy(minimum_layer=128), tls=ClientTLSSettings(ca_file=str(ca.cert))
    )
    session = run(reactor, connect(reactor, wanted))
    assert session.layer.tls
    assert session.mechanism == "SCRAM-SHA-256"


def test_tls_from_the_first_byte(
    reactor: Any, listen: Any, sasl: SaslServer, ca: Issued, tmp_path: Path
) -> None:
    server = FakeServer(sasl, tls_for(ca, tmp_path), tls_at_once=True)
    wanted = settings(listen(server), immediate_tls=True, tls=ClientTLSSettings(ca_file=str(ca.cert)))
    session = run(reactor, connect(reactor, wanted))
    assert session.layer.tls
    works(reactor, session)


@pytest.mark.covers("imapd.conf", "tls_client_cert")
def test_a_client_certificate_logs_in_without_password(
    reactor: Any, listen: Any, sasl: SaslServer, ca: Issued, tmp_path: Path
) -> None:
    shown = issue(tmp_path, "cyrus", ca)
    server = FakeServer(sasl, tls_for(ca, tmp_path))
    tls = ClientTLSSettings(ca_file=str(ca.cert), cert=str(shown.cert), key=str(shown.key))
    session = run(reactor, connect(reactor, settings(listen(server), tls=tls, credentials=Credentials())))
    assert session.mechanism == "EXTERNAL"
    works(reactor, session)


@pytest.mark.covers("Other errors", "TLSFailed")
def test_a_certificate_that_does_not_verify_ends_the_attempt_before_the_password(
    reactor: Any, listen: Any, sasl: SaslServer, ca: Issued, tmp_path: Path
) -> None:
    strict = replace(sasl, policy=Policy())
    server = FakeServer(strict, tls_for(ca, tmp_path, "other.test"))
    tls, policy = ClientTLSSettings(ca_file=str(ca.cert)), Policy(mechanisms=("PLAIN",))
    with pytest.raises(TLSFailed, match=r"not for 127\.0\.0\.1 but for other\.test") as caught:
        run(reactor, connect(reactor, settings(listen(server), tls=tls, policy=policy)))
    assert caught.value.address["server"].startswith("127.0.0.1:")
    spin(reactor, lambda: bool(server.lost))
    assert server.commands == [b"STARTTLS "]


def test_a_bad_configuration_of_tls_is_said_when_it_is_needed(
    reactor: Any, listen: Any, sasl: SaslServer, ca: Issued, tmp_path: Path
) -> None:
    server = FakeServer(sasl, tls_for(ca, tmp_path))
    tls = ClientTLSSettings(ca_file="/does/not/exist")
    with pytest.raises(TLSFailed, match="tls_server_ca_file: /does/not/exist"):
        run(reactor, connect(reactor, settings(listen(server), tls=tls, policy=Policy(minimum_layer=2))))


def test_a_refused_starttls_is_an_error_with_the_servers_words(
    reactor: Any, listen: Any, sasl: SaslServer, ca: Issued, tmp_path: Path
) -> None:
    server = FakeServer(sasl, tls_for(ca, tmp_path))
    server.answers["STARTTLS"] = lambda peer: peer.say(b"NO Error initializing TLS")
    with pytest.raises(TLSFailed, match="NO Error initializing TLS"):
        run(reactor, connect(reactor, settings(listen(server), policy=Policy(minimum_layer=2))))


# -- compression


@pytest.mark.covers("Commands of the session", "COMPRESS")
@pytest.mark.parametrize("require", [False, True])
def test_compression_is_agreed_when_it_is_asked_for(
    reactor: Any, listen: Any, sasl: SaslServer, require: bool
) -> None:
    wanted = settings(listen(FakeServer(sasl)), compress=not require, require_compression=require)
    session = run(reactor, connect(reactor, wanted))
    assert session.proto.compressed
    assert session.peer.endswith("deflate")
    works(reactor, session)


def test_the_line_stays_plain_when_nobody_asks(reactor: Any, listen: Any, sasl: SaslServer) -> None:
    server = FakeServer(sasl)
    session = run(reactor, connect(reactor, settings(listen(server))))
    assert not session.proto.compressed
    assert not any(command.startswith(b"COMPRESS") for command in server.commands)


def test_compression_is_asked_for_under_tls_although_no_server_names_it_there(
    reactor: Any, listen: Any, sasl: SaslServer, ca: Issued, tmp_path: Path
) -> None:
    server = FakeServer(sasl, tls_for(ca, tmp_path))
    wanted = settings(
        listen(server),
        policy=Policy(minimum_layer=2),
        tls=ClientTLSSettings(ca_file=str(ca.cert)),
        require_compression=True,
    )
    session = run(reactor, connect(reactor, wanted))
    assert session.proto.compressed
    works(reactor, session)


@pytest.mark.covers("Other errors", "CompressionRefused")
@pytest.mark.parametrize("offered", [False, True])
def test_refused_compression_is_passed_over_unless_it_is_required(
    reactor: Any, listen: Any, sasl: SaslServer, offered: bool
) -> None:
    server = FakeServer(sasl, compress=offered)
    server.answers["COMPRESS"] = lambda peer: peer.say(b"NO ZLIB not available")
    port = listen(server)
    session = run(reactor, connect(reactor, settings(port, compress=True)))
    assert not session.proto.compressed
    works(reactor, session)
    with pytest.raises(CompressionRefused) as caught:
        run(reactor, connect(reactor, settings(port, require_compression=True)))
    assert caught.value.message == f"Failed to enable compression to server '127.0.0.1:{port}'"
    assert caught.value.address["reply"] == ("NO ZLIB not available" if offered else "not offered")


# -- refusals


@pytest.mark.covers("Other errors", "AuthenticationFailed")
def test_a_wrong_password_names_server_mechanism_layer_and_reply_and_leaves_politely(
    reactor: Any, listen: Any, sasl: SaslServer
) -> None:
    server = FakeServer(sasl)
    port = listen(server)
    with pytest.raises(AuthenticationFailed) as caught:
        run(reactor, connect(reactor, settings(port, credentials=Credentials("cyrus", "wrong"))))
    assert caught.value.address == {
        "server": f"127.0.0.1:{port}",
        "mechanism": "SCRAM-SHA-256",
        "layer": "none",
        "reply": "NO authentication failure",
    }
    assert "wrong" not in str(caught.value)
    spin(reactor, lambda: bool(server.lost))
    assert server.commands[-1] == b"EXIT "


@pytest.mark.covers("imapd.conf", "sync_allowplaintext")
def test_no_password_goes_out_in_clear_unless_the_configuration_says_so(
    reactor: Any, listen: Any, sasl: SaslServer
) -> None:
    server = FakeServer(replace(sasl, policy=Policy(allow_plaintext=True, mechanisms=("PLAIN", "LOGIN"))))
    port = listen(server)
    with pytest.raises(AuthenticationFailed, match="would send the password in clear"):
        run(reactor, connect(reactor, settings(port)))
    spin(reactor, lambda: bool(server.lost))
    assert server.commands == [b"EXIT "]
    session = run(reactor, connect(reactor, settings(port, policy=Policy(allow_plaintext=True))))
    assert session.mechanism == "PLAIN"


@pytest.mark.covers("Other errors", "AuthenticationFailed")
def test_a_server_that_offers_no_mechanism_is_named(reactor: Any, listen: Any) -> None:
    with pytest.raises(AuthenticationFailed, match="offers no mechanism"):
        run(reactor, connect(reactor, settings(listen(FakeServer()))))


def test_an_ok_in_the_middle_of_scram_is_not_believed(reactor: Any, listen: Any, sasl: SaslServer) -> None:
    server = FakeServer(sasl)
    server.answers["AUTHENTICATE"] = lambda peer: peer.say(b"OK Success (no protection)")
    with pytest.raises(AuthenticationFailed, match="has not shown that it knows the password"):
        run(reactor, connect(reactor, settings(listen(server))))


@pytest.mark.parametrize("challenge", [b"+ !!!", b"+ " + b64encode(b"r=other,s=c2FsdHNhbHRzYWx0,i=4096")])
def test_a_challenge_that_makes_no_sense_is_cancelled(
    reactor: Any, listen: Any, sasl: SaslServer, challenge: bytes
) -> None:
    server = FakeServer(sasl)
    heard: list[bytes] = []

    def challenge_it(peer: Peer) -> None:
        connection: Any = peer.proto.connection
        connection.expect_sasl_line()

        class Listening:
            async def step(self, line: bytes) -> Any:
                heard.append(line)
                return Success("", "", b"BAD Client canceled authentication")

        peer.attempt = Listening()  # type: ignore[assignment]
        peer.say(challenge)

    server.answers["AUTHENTICATE"] = challenge_it
    with pytest.raises(AuthenticationFailed, match="SCRAM-SHA-256"):
        run(reactor, connect(reactor, settings(listen(server))))
    assert heard == [b"*"]


def test_a_server_that_says_bye_is_a_quiet_end(reactor: Any, listen: Any, sasl: SaslServer) -> None:
    server = FakeServer(sasl)
    server.answers["AUTHENTICATE"] = lambda peer: peer.say(b"BYE shutting down")
    with pytest.raises(QuietLogout, match="shutting down"):
        run(reactor, connect(reactor, settings(listen(server))))


@pytest.mark.parametrize(
    ("last_line", "words"),
    [
        (b"* Fatal error: cannot open mailboxes list", "cannot open mailboxes list"),
        (b"BAD go away", "BAD go away"),
        (b"220 mail.example ESMTP", "220 mail.example"),
    ],
)
def test_something_else_than_a_greeting_is_told_in_its_own_words(
    reactor: Any, listen: Any, last_line: bytes, words: str
) -> None:
    port = listen(FakeServer(last_line=last_line))
    with pytest.raises(CannotConnect, match=words) as caught:
        run(reactor, connect(reactor, settings(port)))
    assert caught.value.address["server"] == f"127.0.0.1:{port}"


@pytest.mark.covers("imapd.conf", "client_timeout")
def test_a_greeting_that_does_not_come_is_given_up_after_the_timeout(reactor: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(CannotConnect, match="while waiting for the greeting"):
            run(reactor, connect(reactor, settings(port, timeout=0.1)))


def test_a_server_that_hangs_up_is_told_with_the_place_where(
    reactor: Any, listen: Any, sasl: SaslServer
) -> None:
    server = FakeServer(sasl)
    server.answers["AUTHENTICATE"] = lambda peer: peer.proto.lose()
    with pytest.raises(CannotConnect, match="while logging in with SCRAM-SHA-256"):
        run(reactor, connect(reactor, settings(listen(server))))


@pytest.mark.covers("Other errors", "PeerError")
def test_a_refused_connection_is_told(reactor: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(CannotConnect, match=f"Can not connect to server '127.0.0.1:{port}'.*refused"):
            run(reactor, connect(reactor, settings(port)))
    with pytest.raises(CannotConnect, match="No such file"):
        run(reactor, connect(reactor, ClientSettings("/no/such/socket", path="/no/such/socket")))


def test_an_attempt_can_be_given_up_at_any_moment(reactor: Any, listen: Any, sasl: SaslServer) -> None:
    server = FakeServer(sasl)
    server.answers["AUTHENTICATE"] = lambda peer: None
    attempt = connect(reactor, settings(listen(server)))
    spin(reactor, lambda: bool(server.peers and server.commands))
    attempt.cancel()
    with pytest.raises(CancelledError):
        run(reactor, attempt)
    spin(reactor, lambda: bool(server.lost))
    early = connect(reactor, settings(1))
    early.cancel()
    with pytest.raises((CancelledError, CyrusSyncError)):
        run(reactor, early)


def test_every_address_of_a_name_is_tried(reactor: Any, listen: Any, sasl: SaslServer) -> None:
    port = listen(FakeServer(sasl))

    class Resolver:
        def resolveHostName(self, receiver: Any, name: str, *_: Any, **__: Any) -> Any:
            receiver.resolutionBegan(self)
            for host in ("127.0.0.77", "127.0.0.1"):
                receiver.addressResolved(IPv4Address("TCP", host, port))
            receiver.resolutionComplete()
            return self

    reactor.installNameResolver(Resolver())
    session = run(reactor, connect(reactor, settings(port, host="replica.test")))
    assert session.proto.peer == f"127.0.0.1:{port}"
    works(reactor, session)


@pytest.mark.covers("imapd.conf", "client_bind")
def test_the_address_to_connect_from_may_be_given(reactor: Any, listen: Any, sasl: SaslServer) -> None:
    server = FakeServer(sasl)
    run(reactor, connect(reactor, settings(listen(server), bind="127.0.0.5")))
    assert server.peers[0].proto.peer.startswith("127.0.0.5:")


def test_answers_between_login_and_the_first_handler_are_not_lost(
    reactor: Any, listen: Any, sasl: SaslServer
) -> None:
    server = FakeServer(sasl)
    session = run(reactor, connect(reactor, settings(listen(server))))
    server.peers[0].say(b"* ENABLED ()", b"BYE shutting down")
    for _ in range(5):
        reactor.iterate(0.01)
    handler = Recorder()
    session.proto.set_event_handler(handler)
    assert handler.events == [Answer("ENABLED", []), Reply("BYE", "shutting down")]


# -- settings


@pytest.mark.covers("imapd.conf", "sync_host")
@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("replica.test", Server("replica.test")),
        ("replica.test:2006", Server("replica.test", "2006")),
        ("replica.test:2006/tls", Server("replica.test", "2006", tls=True)),
        ("replica.test/noauth/tls", Server("replica.test", tls=True, noauth=True)),
        ("[2001:db8::1]:2006/noauth", Server("2001:db8::1", "2006", noauth=True)),
        ("[2001:db8::1]", Server("2001:db8::1")),
        ("2001:db8::1", Server("2001:db8::1")),
        ("/run/cyrus/csync", Server("", path="/run/cyrus/csync")),
    ],
)
def test_server_strings_of_every_form_are_understood(text: str, server: Server) -> None:
    assert parse_server(text) == server


@pytest.mark.parametrize("text", ["", ":2005", "host/ssl", "[::1", "[::1]x"])
def test_server_strings_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="'"):
        parse_server(text)


@pytest.mark.covers("imapd.conf", "sync_port")
def test_ports_are_numbers_or_services() -> None:
    assert port_number("2006") == 2006
    assert port_number("csync") == 2005
    assert port_number("imap") == 143
    for bad in ("0", "65536", "no-such-service"):
        with pytest.raises(ValueError, match=bad):
            port_number(bad)


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "imapd.conf"
    path.write_text(f"configdirectory: {tmp_path}\npartition-default: {tmp_path}/spool\n{text}")
    return Config.load(path)


@pytest.mark.covers("imapd.conf", "sync_host", "sync_port", "sync_authname", "client_timeout", "client_bind")
def test_settings_come_from_imapd_conf_with_those_of_the_channel_first(tmp_path: Path) -> None:
    cfg = load(
        tmp_path,
        "sync_host: one.test\nnorth_sync_host: two.test:2006/noauth\nsync_port: 2007\n"
        "sync_authname: cyrus\nsync_password: s3cret\nnorth_sync_authname: north\n"
        "sync_compress: yes\nsync_timeout: 1m\nclient_timeout: 7\nclient_bind: yes\n"
        "client_bind_name: 192.0.2.1\nallowplaintext: yes\nnorth_sync_tls_verify: no\n",
    )
    plain = ClientSettings.from_config(cfg)
    assert (plain.server, plain.host, plain.port, plain.noauth) == ("one.test", "one.test", 2007, False)
    assert plain.credentials == Credentials("cyrus", "s3cret")
    assert (plain.compress, plain.require_compression) == (True, False)
    assert (plain.timeout, plain.idle_timeout, plain.bind) == (7, 60, "192.0.2.1")
    assert plain.policy.allow_plaintext
    north = ClientSettings.from_config(cfg, "north")
    assert (north.host, north.port, north.noauth, north.channel) == ("two.test", 2006, True, "north")
    assert north.credentials.authname == "north"
    assert not north.tls.verify
    given = ClientSettings.from_config(cfg, "north", "/run/csync", require_compression=True)
    assert (given.path, given.require_compression, given.compress) == ("/run/csync", True, True)


@pytest.mark.covers("imapd.conf", "client_bind")
def test_without_client_bind_the_address_is_the_systems_choice(tmp_path: Path) -> None:
    cfg = load(tmp_path, "sync_host: one.test\nclient_bind_name: 192.0.2.1\n")
    assert ClientSettings.from_config(cfg).bind is None
    cfg = load(tmp_path, "sync_host: one.test\nclient_bind: yes\nservername: here.test\n")
    assert ClientSettings.from_config(cfg).bind == "here.test"


@pytest.mark.covers("imapd.conf", "cyrus_csync_tls_verify")
def test_the_master_s_own_server_has_settings_of_its_own(tmp_path: Path) -> None:
    assert ClientSettings.of_own_server(load(tmp_path, "sync_host: replica.test\n")) is None
    cfg = load(
        tmp_path,
        "sync_host: replica.test:2006\nsync_authname: repl\nsync_password: there\nsync_tls_verify: no\n"
        "cyrus_csync: own.test/tls\ncyrus_csync_authname: cyrus\ncyrus_csync_password: here\n",
    )
    own = ClientSettings.of_own_server(cfg)
    assert own is not None
    assert (own.host, own.port, own.immediate_tls, own.tls.verify) == ("own.test", 2005, True, True)
    assert own.credentials == Credentials("cyrus", "here", "cyrus_csync")
    less = ClientSettings.of_own_server(
        load(tmp_path, "cyrus_csync: /run/csync\ncyrus_csync_tls_verify: no\n")
    )
    assert less is not None
    assert (less.path, less.tls.verify) == ("/run/csync", False)
    with pytest.raises(ConfigError, match=r"imapd\.conf:3: cyrus_csync: .*unknown option /ssl"):
        ClientSettings.of_own_server(load(tmp_path, "cyrus_csync: own.test/ssl\n"))


def test_a_bad_server_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sync_host not defined"):
        ClientSettings.from_config(load(tmp_path, ""))
    with pytest.raises(ConfigError, match=r"imapd\.conf:3: sync_host: .*unknown option /ssl"):
        ClientSettings.from_config(load(tmp_path, "sync_host: one.test/ssl\n"))
    with pytest.raises(ConfigError, match=r"imapd\.conf:4: sync_port: .*neither a port number nor a service"):
        ClientSettings.from_config(load(tmp_path, "sync_host: one.test\nsync_port: nonsense\n"))


def test_a_bad_server_on_the_command_line_is_named_by_its_option(tmp_path: Path) -> None:
    cfg = load(tmp_path, "sync_host: one.test\n")
    with pytest.raises(ConfigError, match=r"^--to x:nope: .*neither a port number nor a service"):
        ClientSettings.from_config(cfg, None, "x:nope", option="--to")
    with pytest.raises(ConfigError, match=r"^-S x/ssl: .*unknown option /ssl"):
        ClientSettings.from_config(cfg, None, "x/ssl")
