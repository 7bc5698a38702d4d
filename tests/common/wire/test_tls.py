"""TLS on real sockets: who is believed, who is not, and in which words."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Factory

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError, ConnectionLost, TLSFailed
from cyrus_sync.common.wire.policy import Layer
from cyrus_sync.common.wire.tls import (
    ClientTLS,
    ClientTLSSettings,
    ServerTLS,
    ServerTLSSettings,
    server_context,
)
from cyrus_sync.common.wire.transport import CsyncProtocol
from tests.common.wire.kit import Issued, Lines, Recorder, issue, run, spin, use_for_tls
from tests.reactors import make_reactor


@dataclass
class Authority:
    """Certificates for a test session."""

    root: Path
    ca: Issued = field(init=False)

    def __post_init__(self) -> None:
        self.ca = issue(self.root, f"ca-{self.root.name}", ca=True)

    def server(self, *hosts: str, **more: Any) -> ServerTLSSettings:
        made = issue(self.root, "server-" + "-".join(hosts), self.ca, hosts=hosts, **more)
        return ServerTLSSettings((str(made.cert),), (str(made.key),))

    def client(self, **more: Any) -> ClientTLSSettings:
        return ClientTLSSettings(ca_file=str(self.ca.cert), **more)

    def client_with_certificate(self, name: str, issuer: Issued | None = None) -> ClientTLSSettings:
        made = issue(self.root, name, issuer or self.ca)
        return self.client(cert=str(made.cert), key=str(made.key))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@dataclass
class Pair:
    """Both ends of a connection, TLS started on both."""

    reactor: Any
    client: CsyncProtocol
    server: CsyncProtocol
    client_error: BaseException | None
    server_error: BaseException | None
    client_handler: Recorder
    server_handler: Recorder

    def exchange(self, sends: bytes, answers: bytes) -> None:
        """One line each way."""
        self.client.write(sends + b"\n")
        spin(self.reactor, lambda: sends in self.server_handler.events)
        self.server.write(answers + b"\n")
        spin(self.reactor, lambda: answers in self.client_handler.events)


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Connects two ends on loopback and starts TLS; the ends are closed afterwards."""
    reactor = make_reactor()
    use_for_tls(monkeypatch, reactor)
    made: list[Pair] = []
    ports: list[Any] = []

    def connect(server: ServerTLS, client: ClientTLS) -> Pair:
        handlers = Recorder(), Recorder()
        accepted: Deferred[CsyncProtocol] = Deferred()

        class Accept(Factory):
            def buildProtocol(self, addr: Any) -> CsyncProtocol:
                return CsyncProtocol(Lines(), reactor, server=True, connected=accepted.callback)

        port = reactor.listenTCP(0, Accept(), interface="127.0.0.1")
        ports.append(port)
        ours = CsyncProtocol(Lines(), reactor, server=False)
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", port.getHost().port)
        run(reactor, DeferredList([connectProtocol(endpoint, ours), accepted]))
        theirs: CsyncProtocol = accepted.result  # type: ignore[assignment]
        theirs.set_event_handler(handlers[1])
        ours.set_event_handler(handlers[0])
        outcome = run(
            reactor,
            DeferredList([theirs.start_tls(server), ours.start_tls(client)], consumeErrors=True),
        )
        errors = [None if good else failure.value for good, failure in outcome]
        pair = Pair(reactor, ours, theirs, errors[1], errors[0], *handlers)
        made.append(pair)
        return pair

    yield connect
    for pair in made:
        for end in (pair.client, pair.server):
            end.abort()
        spin(reactor, lambda pair=pair: bool(pair.client_handler.lost and pair.server_handler.lost))
    for port in ports:
        run(reactor, port.stopListening())


def test_a_trusted_certificate_for_the_right_name_makes_a_layer(authority: Authority, connect: Any) -> None:
    pair = connect(ServerTLS(authority.server("replica.test")), ClientTLS(authority.client(), "replica.test"))
    assert (pair.client_error, pair.server_error) == (None, None)
    assert pair.client.tls
    assert pair.client.ssf == pair.server.ssf >= 128
    assert Layer.of(pair.server) == Layer(pair.server.ssf, True, None)
    assert str(Layer.of(pair.client)) == f"TLS, {pair.client.ssf} bits"
    pair.exchange(b"NOOP", b"OK")


def test_large_pieces_pass_through_tls_and_deflate_in_both_directions(
    authority: Authority, connect: Any
) -> None:
    pair = connect(ServerTLS(authority.server("replica.test")), ClientTLS(authority.client(), "replica.test"))
    pair.client.start_deflate()
    pair.server.start_deflate()
    big = bytes(range(11, 256)) * 8000
    pair.exchange(big, big[::-1])
    assert pair.client.bytes_written < len(big)


def test_an_address_is_verified_as_an_address(authority: Authority, connect: Any) -> None:
    pair = connect(ServerTLS(authority.server("127.0.0.1")), ClientTLS(authority.client(), "127.0.0.1"))
    assert pair.client_error is None
    pair = connect(ServerTLS(authority.server("replica.test")), ClientTLS(authority.client(), "127.0.0.1"))
    assert "not for 127.0.0.1 but for replica.test" in str(pair.client_error)


def test_a_certificate_for_another_name_is_refused_and_nothing_is_said(
    authority: Authority, connect: Any
) -> None:
    pair = connect(ServerTLS(authority.server("other.test")), ClientTLS(authority.client(), "replica.test"))
    assert isinstance(pair.client_error, TLSFailed)
    assert "not for replica.test but for other.test" in str(pair.client_error)
    assert not pair.client.alive
    assert not pair.client.tls


def test_a_self_signed_certificate_is_refused_in_plain_words(authority: Authority, connect: Any) -> None:
    alone = issue(authority.root, "alone", hosts=("replica.test",))
    server = ServerTLS(ServerTLSSettings((str(alone.cert),), (str(alone.key),)))
    pair = connect(server, ClientTLS(authority.client(), "replica.test"))
    assert isinstance(pair.client_error, TLSFailed)
    assert "CN=alone: it is self-signed" in str(pair.client_error)
    pair = connect(server, ClientTLS(ClientTLSSettings(ca_file=str(alone.cert)), "replica.test"))
    assert pair.client_error is None


@pytest.mark.covers("imapd.conf", "tls_server_ca_file")
def test_an_unknown_authority_is_refused_in_plain_words(
    authority: Authority, connect: Any, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path)
    server = ServerTLS(authority.server("replica.test"))
    pair = connect(server, ClientTLS(stranger.client(), "replica.test"))
    assert "authority that is not known here" in str(pair.client_error)
    assert "does not know the authority that issued our certificate" in str(pair.server_error)


def test_the_authorities_of_the_system_are_used_where_none_are_named(
    authority: Authority, connect: Any
) -> None:
    pair = connect(
        ServerTLS(authority.server("replica.test")), ClientTLS(ClientTLSSettings(), "replica.test")
    )
    assert "authority that is not known here" in str(pair.client_error)


def test_an_expired_certificate_is_refused_with_its_date(authority: Authority, connect: Any) -> None:
    server = ServerTLS(authority.server("old.test", days=-3))
    pair = connect(server, ClientTLS(authority.client(), "old.test"))
    assert "it has expired (on 20" in str(pair.client_error)


@pytest.mark.covers("imapd.conf", "sync_tls_verify")
def test_without_verification_anything_goes(authority: Authority, connect: Any) -> None:
    server = ServerTLS(authority.server("other.test", days=-3))
    pair = connect(server, ClientTLS(ClientTLSSettings(verify=False), "replica.test"))
    assert pair.client_error is None
    pair.exchange(b"NOOP", b"OK")


# -- client certificates


@pytest.mark.parametrize("mode", ["optional", "require"])
def test_a_client_certificate_proves_who_it_is(authority: Authority, connect: Any, mode: str) -> None:
    settings = replace(
        authority.server("replica.test"), client_ca_file=str(authority.ca.cert), client_certs=mode
    )
    pair = connect(ServerTLS(settings), ClientTLS(authority.client_with_certificate("Cyrus"), "replica.test"))
    assert (pair.client_error, pair.server_error) == (None, None)
    assert Layer.of(pair.server).certificate == "cyrus"


@pytest.mark.covers("imapd.conf", "tls_client_ca_file")
def test_a_client_without_certificate_is_nobody_or_refused(authority: Authority, connect: Any) -> None:
    settings = replace(authority.server("replica.test"), client_ca_file=str(authority.ca.cert))
    pair = connect(ServerTLS(settings), ClientTLS(authority.client(), "replica.test"))
    assert pair.server_error is None
    assert Layer.of(pair.server).certificate is None
    strict = ServerTLS(replace(settings, client_certs="require"))
    pair = connect(strict, ClientTLS(authority.client(), "replica.test"))
    assert "has shown no certificate" in str(pair.server_error)
    spin(pair.reactor, lambda: bool(pair.client_handler.lost))
    assert pair.client_handler.lost[0].check(TLSFailed)
    assert "demands a client certificate" in str(pair.client_handler.lost[0].value)


@pytest.mark.covers("imapd.conf", "tls_client_ca_file")
def test_a_client_certificate_of_an_unknown_authority_is_refused(
    authority: Authority, connect: Any, tmp_path: Path
) -> None:
    settings = replace(authority.server("replica.test"), client_ca_file=str(authority.ca.cert))
    stranger = Authority(tmp_path)
    client = authority.client_with_certificate("mallory", stranger.ca)
    pair = connect(ServerTLS(settings), ClientTLS(client, "replica.test"))
    assert isinstance(pair.server_error, TLSFailed)
    assert "CN=mallory: it was issued by an authority that is not known here" in str(pair.server_error)


@pytest.mark.parametrize("change", [{"client_certs": "off"}, {"client_ca_file": None}])
def test_no_certificate_is_asked_for_where_nobody_would_be_believed(
    authority: Authority, connect: Any, change: dict[str, Any]
) -> None:
    settings = replace(
        replace(authority.server("replica.test"), client_ca_file=str(authority.ca.cert)), **change
    )
    pair = connect(ServerTLS(settings), ClientTLS(authority.client_with_certificate("cyrus"), "replica.test"))
    assert pair.server_error is None
    assert Layer.of(pair.server).certificate is None


# -- what else can go wrong


@pytest.mark.covers("imapd.conf", "tls_versions")
def test_no_common_version_is_said_in_plain_words(authority: Authority, connect: Any) -> None:
    server = ServerTLS(replace(authority.server("replica.test"), versions=("tls1_3",)))
    pair = connect(server, ClientTLS(authority.client(versions=("tls1_2",)), "replica.test"))
    assert "no TLS version in common" in str(pair.server_error)
    assert isinstance(pair.client_error, TLSFailed)


@pytest.mark.covers("imapd.conf", "tls_versions")
def test_no_common_cipher_is_said_in_plain_words(authority: Authority, connect: Any) -> None:
    only12 = {"versions": ("tls1_2",)}
    server = ServerTLS(
        replace(authority.server("replica.test"), ciphers="ECDHE-ECDSA-AES128-GCM-SHA256", **only12)
    )
    client = ClientTLS(authority.client(ciphers="ECDHE-ECDSA-CHACHA20-POLY1305", **only12), "replica.test")
    assert "no cipher in common" in str(connect(server, client).server_error)


@pytest.mark.covers("imapd.conf", "tls_prefer_server_ciphers")
def test_the_server_s_order_of_ciphers_counts_if_it_says_so(authority: Authority, connect: Any) -> None:
    ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"
    server = replace(authority.server("replica.test"), ciphers=ciphers, versions=("tls1_2",))
    client = ClientTLS(authority.client(ciphers=":".join(reversed(ciphers.split(":")))), "replica.test")
    assert connect(ServerTLS(server), client).client.ssf == 256
    assert connect(ServerTLS(replace(server, prefer_server_ciphers=True)), client).client.ssf == 128


def client_on(reactor: Any, listener: socket.socket) -> CsyncProtocol:
    proto = CsyncProtocol(Lines(), reactor, server=False)
    run(reactor, connectProtocol(HostnameEndpoint(reactor, "127.0.0.1", listener.getsockname()[1]), proto))
    return proto


def test_a_peer_that_does_not_speak_tls_is_named_as_such(authority: Authority) -> None:
    reactor = make_reactor()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proto = client_on(reactor, listener)
        peer, _ = listener.accept()
        handshake = proto.start_tls(ClientTLS(authority.client(), "replica.test"))
        peer.sendall(b"* OK replica.test Cyrus sync server\r\n")
        with pytest.raises(TLSFailed, match="does not speak TLS"):
            run(reactor, handshake)
        peer.close()


def test_a_peer_that_hangs_up_in_the_handshake_is_an_error(authority: Authority) -> None:
    reactor = make_reactor()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proto = client_on(reactor, listener)
        handshake = proto.start_tls(ClientTLS(authority.client(), "replica.test"))
        listener.accept()[0].close()
        with pytest.raises(ConnectionLost):
            run(reactor, handshake)


def test_a_handshake_that_does_not_end_is_given_up(authority: Authority) -> None:
    reactor = make_reactor()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proto = client_on(reactor, listener)
        proto.set_timeout(0.1)
        with pytest.raises(ConnectionLost, match=r"for 0\.1 seconds"):
            run(reactor, proto.start_tls(ClientTLS(authority.client(), "replica.test")))


# -- files


def test_reloading_shows_the_new_certificate_and_keeps_the_old_one_when_the_new_is_bad(
    authority: Authority, connect: Any, tmp_path: Path
) -> None:
    first, second = (issue(tmp_path, f"s{n}", authority.ca, hosts=(f"s{n}.test",)) for n in (1, 2))
    cert, key = tmp_path / "live.pem", tmp_path / "live.key"
    cert.write_bytes(first.cert.read_bytes())
    key.write_bytes(first.key.read_bytes())
    server = ServerTLS(ServerTLSSettings((str(cert),), (str(key),)))
    cert.write_bytes(second.cert.read_bytes())
    with pytest.raises(ConfigError, match="no private key"):
        server.reload()
    assert connect(server, ClientTLS(authority.client(), "s1.test")).client_error is None
    key.write_bytes(second.key.read_bytes())
    server.reload()
    assert connect(server, ClientTLS(authority.client(), "s2.test")).client_error is None


@pytest.mark.covers("imapd.conf", "tls_server_cert")
def test_bad_files_are_errors_of_the_configuration(authority: Authority, tmp_path: Path) -> None:
    good = authority.server("replica.test")
    nothing = tmp_path / "empty.pem"
    nothing.write_text("")
    for change, words in (
        ({"certs": (str(tmp_path / "none"),)}, "tls_server_cert: .*No such file"),
        ({"certs": (str(nothing),)}, "tls_server_cert: .*no usable certificate"),
        ({"keys": (str(nothing),)}, "tls_server_key: .*no private key"),
        ({"keys": (str(authority.ca.key),)}, "tls_server_key: .*no private key"),
        ({"keys": ("a", "b")}, "2 keys for 1 certificates"),
        ({"client_ca_file": str(nothing)}, "tls_client_ca_file: .*no certificate"),
        ({"client_ca_file": str(tmp_path / "none")}, "tls_client_ca_file: .*No such file"),
        ({"client_certs": "require"}, "tls_client_certs: require needs"),
        ({"versions": ("tls9",)}, "tls_versions: unknown version tls9"),
        ({"ciphers": "NONSENSE"}, "tls_ciphers: no usable cipher"),
    ):
        with pytest.raises(ConfigError, match=words):
            ServerTLS(replace(good, **change))
    with pytest.raises(ConfigError, match="tls_server_ca_file"):
        ClientTLS(ClientTLSSettings(ca_file=str(nothing)), "replica.test")
    with pytest.raises(ConfigError, match="tls_client_key"):
        ClientTLS(ClientTLSSettings(cert=str(authority.ca.cert), key=str(nothing)), "replica.test")


def test_certificate_and_key_may_stand_in_one_file(authority: Authority, tmp_path: Path) -> None:
    made = issue(tmp_path, "both", authority.ca)
    both = tmp_path / "both-in-one.pem"
    both.write_bytes(made.cert.read_bytes() + made.key.read_bytes())
    ServerTLS(ServerTLSSettings((str(both),)))


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "imapd.conf"
    path.write_text(f"configdirectory: {tmp_path}\npartition-default: {tmp_path}/spool\n{text}")
    return Config.load(path)


@pytest.mark.covers(
    "imapd.conf", "tls_server_cert", "tls_client_ca_file", "tls_versions", "tls_prefer_server_ciphers"
)
def test_the_server_s_settings_come_from_imapd_conf(authority: Authority, tmp_path: Path) -> None:
    assert server_context(load(tmp_path, "")) is None
    assert server_context(load(tmp_path, "tls_server_cert: disabled\n")) is None
    made = issue(tmp_path, "srv", authority.ca)
    context = server_context(
        load(
            tmp_path,
            f"tls_server_cert: {made.cert}\ntls_server_key: {made.key}\n"
            f"tls_client_ca_file: {authority.ca.cert}\ntls_client_certs: require\n"
            f"tls_versions: tls1_1 tls1_3\ntls_ciphers: HIGH\ntls_client_ca_dir: {tmp_path}\n"
            "tls_prefer_server_ciphers: yes\n",
        )
    )
    assert context is not None
    assert context.settings == ServerTLSSettings(
        (str(made.cert),),
        (str(made.key),),
        "require",
        str(authority.ca.cert),
        str(tmp_path),
        ("tls1_1", "tls1_3"),
        "HIGH",
        True,
    )


@pytest.mark.covers("imapd.conf", "tls_server_ca_file", "tls_client_cert", "sync_tls_verify")
def test_the_client_s_settings_come_from_imapd_conf_and_those_of_one_host_go_first(tmp_path: Path) -> None:
    cfg = load(
        tmp_path,
        "tls_server_ca_file: /ca.pem\ntls_server_ca_dir: /ca\n"
        "tls_client_cert: /c.pem\ntls_client_key: /c.key\n"
        "replica_client_cert: /r.pem\nreplica_client_key: /r.key\nnorth_sync_tls_verify: no\n",
    )
    assert ClientTLSSettings.from_config(cfg, None, "other.test") == ClientTLSSettings(
        True, "/ca.pem", "/ca", "/c.pem", "/c.key"
    )
    settings = ClientTLSSettings.from_config(cfg, "north", "replica.test")
    assert (settings.verify, settings.cert, settings.key) == (False, "/r.pem", "/r.key")
