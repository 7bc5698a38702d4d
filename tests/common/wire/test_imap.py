"""Replication within IMAP: tags on the commands, tags on the replies, and the way to an imapd or past it."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver, LineReceiver

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import CannotConnect, CompressionRefused
from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.protocol.connection_client import ClientConnection
from cyrus_sync.common.protocol.events import Answer, Challenge, Event, Fatal, NeedData, Reply
from cyrus_sync.common.wire import imap, outgoing
from cyrus_sync.common.wire.client import ReadyConnection, connect
from cyrus_sync.common.wire.dialect import Dialect
from cyrus_sync.common.wire.outgoing import Piece
from cyrus_sync.common.wire.policy import Layer, Policy
from cyrus_sync.common.wire.replica import WireReplica
from cyrus_sync.common.wire.sasl import passwd
from cyrus_sync.common.wire.sasl.client import Credentials
from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from cyrus_sync.common.wire.sasl.server import Attempt, SaslServer
from cyrus_sync.common.wire.sasl.server import Challenge as SaslChallenge
from cyrus_sync.common.wire.settings import ClientSettings
from cyrus_sync.common.wire.tls import ClientTLSSettings, ServerTLS, ServerTLSSettings
from tests.common.wire.kit import Issued, issue, run, spin, use_for_tls
from tests.common.wire.peer import Accept, FakeServer
from tests.deadlines import scaled
from tests.reactors import make_reactor

GREETING = b"* OK [CAPABILITY IMAP4rev1] replica.test Cyrus IMAP 3.6.1 server ready"
CAPABILITY = b"* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR X-REPLICATION X-SIEVE-MAILBOX"
PLAIN = b64encode(b"\0cyrus\0s3cret")


# -- commands


def test_commands_of_replication_are_counted_and_those_of_the_session_are_not() -> None:
    commands = imap.ImapCommands()
    said = [b"GET USER a\r\n", b"NOOP\r\n", b"APPLY SUB %()\r\n", b"RESTART\r\n", b"EXIT\r\n"]
    assert [commands.tagged(Piece(line, 1)).data for line in said] == [
        b"S0 SYNCGET USER a\r\n",
        b"N01 NOOP\r\n",
        b"S1 SYNCAPPLY SUB %()\r\n",
        b"S2 SYNCRESTART\r\n",
        b"Q01 LOGOUT\r\n",
    ]


def test_the_rest_of_a_command_has_no_tag() -> None:
    piece = Piece(b"EXIT is what this mail says", 0)
    assert imap.ImapCommands().tagged(piece) == piece


def test_two_commands_in_a_piece_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="two commands"):
        imap.ImapCommands().tagged(Piece(b"GET USER a\r\nGET USER b\r\n", 2))


def bodies(count: int, octets: int = 1) -> list[MessageBody]:
    return [MessageBody("default", at.to_bytes(20, "big"), octets, b"x" * octets) for at in range(count)]


def test_each_command_with_messages_begins_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (imap, outgoing):
        monkeypatch.setattr(module, "FILES_IN_A_COMMAND", 3)
        monkeypatch.setattr(module, "BYTES_IN_A_COMMAND", 1000)
    monkeypatch.setattr(outgoing, "PIECE_BYTES", 700)
    batches = [bodies(7), bodies(2, 1500), [], bodies(1)]
    pieces = list(imap.message_pieces(batches))
    assert {piece.commands for piece in pieces} == {0, 1}
    assert all(piece.data.startswith(b"APPLY MESSAGE (%{") == (piece.commands == 1) for piece in pieces)
    # 3 + 3 + 1, then 1500 octets fill a command each, then the one of the last batch
    assert sum(piece.commands for piece in pieces) == 6
    sent = b"".join(piece.data for piece in pieces)
    assert sent.count(b"APPLY MESSAGE (") == 6 and sent.count(b"%{default ") == 10


# -- replies


def heard(said: bytes, tagged: bool = True) -> list[Event]:
    connection = ClientConnection(tagged=tagged)
    connection.receive_data(GREETING + b"\r\n")
    assert isinstance(connection.next_event(), Answer)
    connection.receive_data(said)
    found: list[Event] = []
    while not isinstance(event := connection.next_event(), NeedData):
        found.append(event)
        if isinstance(event, Fatal):
            break
    return found


def test_tagged_replies_are_replies() -> None:
    said = (
        CAPABILITY + b"\r\nC01 OK Completed\r\n+ \r\nA01 OK [CAPABILITY IMAP4rev1] Success\r\n"
        b"* LSUB (a b)\r\nS0 OK success\r\nS1 NO IMAP_MAILBOX_NONEXISTENT No\r\nN01 OK Completed\r\n"
        b"S2 BAD what\r\n* BYE LOGOUT received\r\nQ01 OK Completed\r\n"
    )
    assert heard(said) == [
        Answer("CAPABILITY", CAPABILITY[13:]),
        Reply("OK", "Completed"),
        Challenge(b""),
        Reply("OK", "[CAPABILITY IMAP4rev1] Success"),
        Answer("LSUB", [b"a", b"b"]),
        Reply("OK", "success"),
        Reply("NO", "IMAP_MAILBOX_NONEXISTENT No"),
        Reply("OK", "Completed"),
        Reply("BAD", "what"),
        Reply("BYE", "LOGOUT received"),
        Reply("OK", "Completed"),
    ]


def test_the_tags_count_on_beyond_one_digit() -> None:
    assert heard(b"".join(b"S%d OK\r\n" % tag for tag in range(120))) == [Reply("OK", "")] * 120


def test_what_an_imapd_tells_people_is_passed_over() -> None:
    assert heard(b'* OK [ALERT] (not a "dlist\r\n* NO [ALERT] disk {9}\r\nS0 OK\r\n') == [Reply("OK", "")]


@pytest.mark.parametrize(
    "said",
    [b"OK success", b"BAD Unrecognized command", b"S1 OK success", b"S0 EH", b"S0", b"* BAD Invalid tag"],
)
def test_a_reply_without_the_tag_that_is_due_ends_it(said: bytes) -> None:
    (event,) = heard(said + b"\r\n")
    assert isinstance(event, Fatal)


def test_without_tags_a_tagged_reply_is_as_wrong_as_ever() -> None:
    (event,) = heard(b"S0 OK success\r\n", tagged=False)
    assert isinstance(event, Fatal)


def test_an_imapd_names_its_release_too() -> None:
    assert Dialect.of_banner("[CAPABILITY X] host Cyrus IMAP 3.0.8-Debian server ready").release == (3, 0)


# -- connecting


class Imapd(LineOnlyReceiver):
    """Answers each line as `said` has it, and keeps all lines."""

    def __init__(self, said: dict[bytes, bytes], heard: list[bytes]) -> None:
        self._said = said
        self._heard = heard

    def connectionMade(self) -> None:
        self.sendLine(GREETING)

    def lineReceived(self, line: bytes) -> None:
        self._heard.append(line)
        answer = self._said.get(line)
        if answer:
            self.sendLine(answer)
        if line.startswith(b"Q01"):
            self.transport.loseConnection()


ANSWERS = {
    b"C01 CAPABILITY": CAPABILITY + b"\r\nC01 OK Completed",
    b"A01 AUTHENTICATE PLAIN " + PLAIN: b"A01 OK [CAPABILITY IMAP4rev1] Success (no protection)",
    b"S0 SYNCAPPLY CAPABILITIES (SIEVE-MAILBOX)": b"* ENABLED (SIEVE-MAILBOX)\r\nS0 OK success",
    b"S1 SYNCGET USER nobody": b"S1 OK success",
    b"S2 SYNCRESTART": b"S2 OK Restarting",
    b"N01 NOOP": b"N01 OK Completed",
    b"Q01 LOGOUT": b"* BYE LOGOUT received\r\nQ01 OK Completed",
}


@pytest.fixture
def reactor() -> Any:
    return make_reactor()


@pytest.fixture
def listen(reactor: Any) -> Iterator[Callable[[Factory], int]]:
    ports: list[Any] = []

    def listen(factory: Factory) -> int:
        ports.append(reactor.listenTCP(0, factory, interface="127.0.0.1"))
        return int(ports[-1].getHost().port)

    yield listen
    for port in ports:
        run(reactor, port.stopListening())


@pytest.fixture
def csync(reactor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    monkeypatch.setattr(passwd, "ITERATIONS", 4096)
    passwords = PasswordFile(tmp_path / "sync_passwd")
    passwords.set_password("cyrus", "s3cret")
    return FakeServer(SaslServer(Policy(allow_plaintext=True), passwords))


def imapd(said: dict[bytes, bytes], heard: list[bytes]) -> Factory:
    return Factory.forProtocol(lambda: Imapd(said, heard))  # type: ignore[arg-type]


def settings(port: int, imap_port: int | None, **more: Any) -> ClientSettings:
    usual = ClientSettings(
        f"127.0.0.1:{port}",
        "127.0.0.1",
        port,
        credentials=Credentials("cyrus", "s3cret"),
        policy=Policy(allow_plaintext=True),
        timeout=scaled(5),
        imap_port=imap_port,
    )
    return replace(usual, **more)


def closed(reactor: Any, session: ReadyConnection, *servers: FakeServer) -> None:
    session.proto.lose()
    spin(reactor, lambda: all(len(server.lost) == len(server.peers) for server in servers))


def test_a_session_within_imap_from_the_greeting_to_the_logout(reactor: Any, listen: Any) -> None:
    said: list[bytes] = []
    session = run(reactor, connect(reactor, settings(1, listen(imapd(ANSWERS, said)), compress=True)))
    assert session.within_imap and session.mechanism == "PLAIN"
    assert session.peer.endswith("logged in with PLAIN, not compressed, within IMAP")

    async def talk() -> None:
        replica = await WireReplica.start(session, {"SIEVE-MAILBOX"})
        assert replica.capabilities == {"SIEVE-MAILBOX"}
        assert not (await replica.get_user("nobody")).mailboxes
        await replica.restart()
        await replica.noop()
        await replica.close()

    run(reactor, Deferred.fromCoroutine(talk()))
    assert said == list(ANSWERS)


def test_without_sasl_ir_the_first_response_follows_the_challenge(reactor: Any, listen: Any) -> None:
    said: list[bytes] = []
    answers = {
        b"C01 CAPABILITY": b"* CAPABILITY AUTH=PLAIN X-REPLICATION\r\nC01 OK Completed",
        b"A01 AUTHENTICATE PLAIN": b"+ ",
        PLAIN: b"A01 OK Success",
    }
    session = run(reactor, connect(reactor, settings(1, listen(imapd(answers, said)))))
    assert session.within_imap and said == list(answers)
    closed(reactor, session)


LACKING = {b"C01 CAPABILITY": b"* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR\r\nC01 OK Completed"}
REFUSING = {**ANSWERS, b"A01 AUTHENTICATE PLAIN " + PLAIN: b"A01 NO authentication failure"}


@pytest.mark.covers("imapd.conf", "sync_try_imap")
@pytest.mark.parametrize(
    "answers",
    [LACKING, {b"C01 CAPABILITY": b"C01 BAD this is csync"}, {b"C01 CAPABILITY": b"BAD what"}, REFUSING, {}],
    ids=["no X-REPLICATION", "C01 BAD", "no tag", "no login", "no answer"],
)
def test_where_imap_comes_to_nothing_csync_is_spoken(
    reactor: Any, listen: Any, csync: FakeServer, answers: dict[bytes, bytes]
) -> None:
    said: list[bytes] = []
    ports = listen(Accept(reactor, csync)), listen(imapd(answers, said))
    session = run(reactor, connect(reactor, settings(*ports, timeout=1 if not answers else scaled(5))))
    assert said[0] == b"C01 CAPABILITY" and not session.within_imap
    assert session.banner == "replica.test Cyrus sync server 3.6.1"
    closed(reactor, session, csync)


def test_a_closed_imap_port_and_a_csync_server_there_lead_to_csync(
    reactor: Any, listen: Any, csync: FakeServer
) -> None:
    port = listen(Accept(reactor, csync))
    for imap_port in (1, port):
        session = run(reactor, connect(reactor, settings(port, imap_port)))
        assert not session.within_imap and session.mechanism
        closed(reactor, session, csync)


def test_when_both_fail_the_error_tells_of_both(reactor: Any, listen: Any) -> None:
    port = listen(imapd(LACKING, []))
    with pytest.raises(CannotConnect) as caught:
        run(reactor, connect(reactor, settings(1, port)))
    assert "an imapd without X-REPLICATION" in str(caught.value.address["imap"])
    assert "Can not connect" in caught.value.message


def test_required_compression_leaves_imap_out(reactor: Any, listen: Any, csync: FakeServer) -> None:
    said: list[bytes] = []
    csync.compress = False
    ports = listen(Accept(reactor, csync)), listen(imapd(ANSWERS, said))
    with pytest.raises(CompressionRefused):
        run(reactor, connect(reactor, settings(*ports, require_compression=True)))
    assert said == []
    spin(reactor, lambda: len(csync.lost) == len(csync.peers))


# -- logging in: TLS and SCRAM


class SecureImapd(LineReceiver):
    """An imapd with just the login in it. What it offers before TLS, it says; what it heard, it keeps."""

    def __init__(self, sasl: SaslServer, tls: ServerTLS | None, heard: list[bytes], injected: bytes) -> None:
        self._sasl = sasl
        self._tls = tls
        self._heard = heard
        self._injected = injected
        self._secure = False
        self._attempt: Attempt | None = None

    def connectionMade(self) -> None:
        self.sendLine(GREETING)

    def _capability(self) -> bytes:
        layer = Layer(tls=self._secure, ssf=256 if self._secure else 0)
        words = [f"AUTH={name}" for name in self._sasl.mechanisms(layer)]
        words += ["STARTTLS"] if self._tls is not None and not self._secure else []
        return " ".join(["* CAPABILITY IMAP4rev1", *words, "X-REPLICATION"]).encode()

    def lineReceived(self, line: bytes) -> None:
        self._heard.append(line)
        if self._attempt is not None:
            Deferred.fromCoroutine(self._step(self._attempt.step(line)))
            return
        tag, verb, *words = line.split()
        if verb == b"CAPABILITY":
            self.sendLine(self._capability() + b"\r\nC01 OK Completed")
        elif verb == b"AUTHENTICATE":
            layer = Layer(tls=self._secure, ssf=256 if self._secure else 0)
            self._attempt = self._sasl.attempt(layer)
            Deferred.fromCoroutine(self._step(self._attempt.start(words[0], None)))
        elif verb == b"STARTTLS" and self._tls is not None:
            self.transport.write(b"S01 OK Begin TLS negotiation now\r\n" + self._injected)
            self.transport.startTLS(self._tls)
            self._secure = True
        elif verb == b"LOGOUT":
            self.sendLine(b"* BYE LOGOUT received\r\nQ01 OK Completed")
            self.transport.loseConnection()
        else:
            self.sendLine(tag + b" NO not here")

    async def _step(self, outcome: Any) -> None:
        said = await outcome
        if isinstance(said, SaslChallenge):
            self.sendLine(said.line)
            return
        self._attempt = None
        self.sendLine(b"A01 " + said.reply)


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[Issued, Issued]:
    """An authority, and a server's certificate for 127.0.0.1."""
    authority = issue(tmp_path, "authority", ca=True)
    return authority, issue(tmp_path, "server", authority, hosts=("127.0.0.1",))


@pytest.fixture
def secure(
    reactor: Any,
    listen: Any,
    certificates: tuple[Issued, Issued],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[ClientSettings, list[bytes]]]:
    """A secure imapd, started: settings of a client for it, and what the imapd hears."""
    use_for_tls(monkeypatch, reactor)
    monkeypatch.setattr(passwd, "ITERATIONS", 4096)
    passwords = PasswordFile(tmp_path / "sync_passwd")
    passwords.set_password("cyrus", "s3cret")
    authority, server = certificates

    def start(policy: Policy, client: Policy, *, tls: bool = True, injected: bytes = b"") -> Any:
        said: list[bytes] = []
        offered = ServerTLS(ServerTLSSettings((str(server.cert),), (str(server.key),))) if tls else None
        sasl = SaslServer(policy, passwords)
        factory = Factory.forProtocol(lambda: SecureImapd(sasl, offered, said, injected))  # type: ignore[arg-type]
        wanted = settings(
            1, listen(factory), policy=client, tls=ClientTLSSettings(ca_file=str(authority.cert))
        )
        return wanted, said

    return start


def verbs(said: list[bytes]) -> list[bytes]:
    return [line.split()[1] for line in said if line[:1] in b"CSAQ" and line[1:3] == b"01"]


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1"])
def test_scram_within_imap_waits_for_the_first_challenge(reactor: Any, secure: Any, mechanism: str) -> None:
    wanted, said = secure(Policy(), Policy(mechanisms=(mechanism,)), tls=False)
    session = run(reactor, connect(reactor, wanted))
    assert session.within_imap and session.mechanism == mechanism
    assert said[:2] == [b"C01 CAPABILITY", f"A01 AUTHENTICATE {mechanism}".encode()]
    assert b64decode(said[2]).startswith(b"n,,n=cyrus,r=")
    session.proto.lose()


def test_a_password_goes_over_tls_only_and_the_capabilities_are_asked_again(
    reactor: Any, secure: Any
) -> None:
    wanted, said = secure(Policy(mechanisms=("PLAIN",)), Policy(mechanisms=("PLAIN",)))
    session = run(reactor, connect(reactor, wanted))
    assert session.layer.tls and session.mechanism == "PLAIN" and session.within_imap
    assert verbs(said) == [b"CAPABILITY", b"STARTTLS", b"CAPABILITY", b"AUTHENTICATE"]
    assert "STARTTLS" not in session.capabilities
    session.proto.lose()


def test_an_imapd_that_refuses_starttls_gets_no_password(reactor: Any, secure: Any, listen: Any) -> None:
    answers = {
        b"C01 CAPABILITY": b"* CAPABILITY AUTH=PLAIN STARTTLS X-REPLICATION\r\nC01 OK Completed",
        b"S01 STARTTLS": b"S01 NO not today",
    }
    said: list[bytes] = []
    with pytest.raises(CannotConnect) as caught:
        run(reactor, connect(reactor, settings(1, listen(imapd(answers, said)), policy=Policy())))
    assert "the server refuses STARTTLS: NO not today" in caught.value.address["imap"]
    assert not any(b"AUTHENTICATE" in line for line in said)


@pytest.mark.covers("imapd.conf", "sync_try_imap")
def test_what_somebody_in_the_middle_says_ahead_of_the_handshake_ends_it(reactor: Any, secure: Any) -> None:
    """Otherwise it would be taken for something that the imapd has said under TLS."""
    injected = b"* CAPABILITY IMAP4rev1 AUTH=PLAIN X-REPLICATION\r\n"
    wanted, said = secure(Policy(), Policy(minimum_layer=2), injected=injected)
    with pytest.raises(CannotConnect) as caught:
        run(reactor, connect(reactor, wanted))
    assert "ahead of the TLS handshake" in caught.value.address["imap"]
    assert verbs(said) == [b"CAPABILITY", b"STARTTLS"]


def test_an_imapd_with_a_certificate_of_a_stranger_gets_no_password(
    reactor: Any, secure: Any, tmp_path: Path
) -> None:
    wanted, said = secure(Policy(), Policy(minimum_layer=2))
    stranger = issue(tmp_path, "stranger", ca=True)
    with pytest.raises(CannotConnect) as caught:
        run(reactor, connect(reactor, replace(wanted, tls=ClientTLSSettings(ca_file=str(stranger.cert)))))
    assert "an authority that is not known here" in caught.value.address["imap"]
    assert verbs(said) == [b"CAPABILITY", b"STARTTLS"]


def test_an_imapd_that_does_not_know_the_password_is_not_believed(reactor: Any, listen: Any) -> None:
    """SCRAM proves the server too: an OK without the proof is no login."""
    answers = {
        b"C01 CAPABILITY": b"* CAPABILITY AUTH=SCRAM-SHA-256 X-REPLICATION\r\nC01 OK Completed",
        b"A01 AUTHENTICATE SCRAM-SHA-256": b"+ \r\nA01 OK Success",
    }
    said: list[bytes] = []
    with pytest.raises(CannotConnect) as caught:
        run(reactor, connect(reactor, settings(1, listen(imapd(answers, said)), policy=Policy())))
    assert "SCRAM-SHA-256" in caught.value.address["imap"]


def test_a_challenge_that_is_no_base64_is_declined(reactor: Any, listen: Any) -> None:
    answers = {
        b"C01 CAPABILITY": b"* CAPABILITY AUTH=SCRAM-SHA-256 X-REPLICATION\r\nC01 OK Completed",
        b"A01 AUTHENTICATE SCRAM-SHA-256": b"+ \r\n+ !!!",
        b"*": b"A01 BAD cancelled",
    }
    said: list[bytes] = []
    with pytest.raises(CannotConnect) as caught:
        run(reactor, connect(reactor, settings(1, listen(imapd(answers, said)), policy=Policy())))
    assert b"*" in said and said[-1] == b"Q01 LOGOUT"
    assert "SCRAM-SHA-256" in caught.value.address["imap"]


# -- configuration


@pytest.mark.parametrize(
    ("lines", "imap_port"),
    [
        ("sync_host: one.test\n", None),
        ("sync_host: one.test\nsync_try_imap: yes\n", 143),
        ("sync_host: one.test\nsync_try_imap: yes\nsync_port: 2007\n", 2007),
        ("sync_host: one.test:2008\nsync_try_imap: yes\nsync_port: 2007\n", 2008),
        ("sync_host: one.test\nnorth_sync_try_imap: yes\n", 143),
        ("sync_host: one.test\nsync_try_imap: yes\nnorth_sync_try_imap: no\n", None),
        ("sync_host: one.test/noauth\nsync_try_imap: yes\n", None),
        ("sync_host: /run/csync\nsync_try_imap: yes\n", None),
    ],
)
def test_imap_is_tried_where_the_configuration_says_so(
    tmp_path: Path, lines: str, imap_port: int | None
) -> None:
    path = tmp_path / "imapd.conf"
    usual = f"configdirectory: {tmp_path}\ndefaultpartition: default\npartition-default: {tmp_path}\n"
    path.write_text(usual + lines)
    assert ClientSettings.from_config(Config.load(path), "north").imap_port == imap_port
