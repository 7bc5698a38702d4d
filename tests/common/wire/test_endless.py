"""A server that goes on talking, or drips, and never comes to an end: each step of connecting has its time
whatever is said meanwhile, and its bound."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.protocols.basic import LineOnlyReceiver

from cyrus_sync.common.errors import CannotConnect, CompressionRefused, CyrusSyncError, ProtocolError
from cyrus_sync.common.wire.client import connect
from cyrus_sync.common.wire.policy import Policy
from cyrus_sync.common.wire.replica import WireReplica
from cyrus_sync.common.wire.sasl.client import Credentials
from cyrus_sync.common.wire.settings import ClientSettings
from tests.common.wire.kit import run, spin, use_for_tls
from tests.common.wire.pair import ConnectionPair
from tests.deadlines import scaled
from tests.reactors import make_reactor

STEP = 0.4
"""Seconds that a step has in these tests; the server says something ten times in that time."""

GREETING = b"* SASL PLAIN\r\n* STARTTLS\r\n* COMPRESS DEFLATE\r\n* OK x Cyrus sync server 3.6.1\r\n"
IMAP = b"* OK x Cyrus IMAP 3.6.1 server ready\r\n"
CAPABILITIES = b"* CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN X-REPLICATION\r\nC01 OK Completed\r\n"
TLS_RECORD = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03"
"""The beginning of a large handshake message."""


class Dripping(LineOnlyReceiver):
    """Answers lines that begin as one of `said`; where that is a pair it goes on with the second for ever."""

    def __init__(self, reactor: Any, said: dict[bytes, Any], calls: list[LoopingCall]) -> None:
        self._reactor = reactor
        self._said = said
        self._calls = calls

    def connectionMade(self) -> None:
        self._answer(self._said[b""])

    def lineReceived(self, line: bytes) -> None:
        for begin, answer in self._said.items():
            if begin and line.startswith(begin):
                self._answer(answer)

    def rawDataReceived(self, data: bytes) -> None:
        """What comes is not looked at."""

    def _answer(self, answer: Any) -> None:
        first, drip = answer if isinstance(answer, tuple) else (answer, b"")
        self.transport.write(first)
        if drip:
            call = LoopingCall(self.transport.write, drip)
            call.clock = self._reactor
            self._calls.append(call)
            call.start(STEP / 10)


@pytest.fixture
def reactor(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = make_reactor()
    use_for_tls(monkeypatch, made)
    return made


@pytest.fixture
def listen(reactor: Any) -> Iterator[Callable[[dict[bytes, Any]], int]]:
    ports: list[Any] = []
    calls: list[LoopingCall] = []

    def listen(said: dict[bytes, Any]) -> int:
        made = Factory.forProtocol(lambda: Dripping(reactor, said, calls))  # type: ignore[arg-type]
        ports.append(reactor.listenTCP(0, made, interface="127.0.0.1"))
        return int(ports[-1].getHost().port)

    yield listen
    for call in calls:
        if call.running:
            call.stop()
    for port in ports:
        run(reactor, port.stopListening())


def settings(port: int, **more: Any) -> ClientSettings:
    usual = ClientSettings(
        f"127.0.0.1:{port}",
        "127.0.0.1",
        port,
        credentials=Credentials("cyrus", "s3cret"),
        policy=Policy(allow_plaintext=True, mechanisms=("PLAIN",)),
        timeout=STEP,
    )
    return replace(usual, **more)


@pytest.mark.parametrize(
    ("said", "more", "step"),
    [
        ({b"": (b"", b"* X\r\n")}, {}, "waiting for the greeting"),
        ({b"": (b"", b"x")}, {}, "waiting for the greeting"),
        ({b"": GREETING, b"AUTH": (b"", b"* X ()\r\n")}, {}, "logging in with PLAIN"),
        ({b"": GREETING, b"AUTH": (b"+ ", b"A")}, {}, "logging in with PLAIN"),
        (
            {b"": GREETING, b"AUTH": b"OK\r\n", b"COMPRESS": (b"", b"* X ()\r\n")},
            {"compress": True},
            "waiting for the answer to COMPRESS",
        ),
        (
            {b"": GREETING, b"STARTTLS": (b"", b"* X ()\r\n")},
            {"policy": Policy()},
            "waiting for the answer to STARTTLS",
        ),
        ({b"": (TLS_RECORD, b"\0")}, {"immediate_tls": True}, "negotiating TLS"),
    ],
)
def test_data_does_not_put_off_the_end_of_a_step(
    reactor: Any, listen: Any, said: dict[bytes, Any], more: dict[str, Any], step: str
) -> None:
    began = reactor.seconds()
    # What a handshake of TLS says does not reach us, so that is silence.
    why = "no answer from .* for" if step == "negotiating TLS" else "does not come to an end within"
    with pytest.raises(CannotConnect, match=f"{why} .* seconds .while {step}"):
        run(reactor, connect(reactor, settings(listen(said), **more)))
    assert reactor.seconds() - began < scaled(10 * STEP)


@pytest.mark.parametrize(
    ("said", "step"),
    [
        ({b"": (b"", b"* OK x\r")}, "waiting for the greeting"),
        ({b"": IMAP, b"C01": (b"", b"* OK still here\r\n")}, "waiting for the capabilities"),
        ({b"": IMAP, b"C01": (b"", b"* CAPABILITY X\r\n")}, "waiting for the capabilities"),
        ({b"": IMAP, b"C01": CAPABILITIES, b"A01": (b"", b"* OK still here\r\n")}, "logging in with PLAIN"),
    ],
)
def test_nor_does_it_within_imap(reactor: Any, listen: Any, said: dict[bytes, Any], step: str) -> None:
    with pytest.raises(CyrusSyncError) as caught:
        run(reactor, connect(reactor, settings(1, imap_port=listen(said))))
    assert f"does not come to an end within {STEP:g} seconds (while {step})" in caught.value.address["imap"]


@pytest.mark.parametrize("line", [b"* X%d " + b"y" * 1000 + b"\r\n", b"* X%d\r\n", b"y" * 1000])
def test_a_greeting_that_comes_as_fast_as_it_can_takes_no_memory(
    reactor: Any, listen: Any, line: bytes
) -> None:
    flood = b"".join(line % n if b"%d" in line else line for n in range(2000))
    port = listen({b"": (flood, flood * 4)})
    tracemalloc.start()
    try:
        with pytest.raises(CannotConnect, match="too long"):
            run(reactor, connect(reactor, settings(port, timeout=scaled(10.0))))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024 * 1024


def test_a_bye_in_place_of_the_greeting_is_a_refusal_with_its_reason(reactor: Any, listen: Any) -> None:
    port = listen({b"": b"* BYE too many connections, try again later\r\n"})
    with pytest.raises(CannotConnect, match=r"the server refuses: .*BYE too many connections, try again"):
        run(reactor, connect(reactor, settings(port)))


def test_no_deadline_is_left_when_the_session_stands(reactor: Any, listen: Any) -> None:
    said = {b"": GREETING, b"AUTH": b"OK\r\n", b"COMPRESS": b"NO\r\n"}
    session = run(reactor, connect(reactor, settings(listen(said), compress=True)))
    until = reactor.seconds() + 2 * STEP
    spin(reactor, lambda: reactor.seconds() > until)
    assert session.proto.alive
    session.proto.abort()
    with pytest.raises(CompressionRefused):
        run(reactor, connect(reactor, settings(listen(said), compress=True, require_compression=True)))


def test_a_replica_that_names_the_same_users_again_and_again_is_left() -> None:
    pair = ConnectionPair(lambda event: b"* XUSERS (alice bob)\r\nOK success\r\n")
    failures: list[Any] = []
    WireReplica(pair.client).get_users().addErrback(failures.append)
    pair.run()
    assert failures[0].check(ProtocolError) and "XUSERS without end" in failures[0].getErrorMessage()


def test_an_answer_that_drips_behind_the_login_comes_to_an_end(reactor: Any, listen: Any) -> None:
    said = {b"": GREETING, b"AUTH": b"OK\r\n", b"GET": (b"", b"* X ()\r\n")}
    session = run(reactor, connect(reactor, settings(listen(said))))
    replica = WireReplica(session.proto, timeout=STEP)
    with pytest.raises(CyrusSyncError, match="does not come to an end"):
        run(reactor, replica.get_users())
