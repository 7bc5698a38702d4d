"""The Twisted side of a connection: order, back-pressure, time limits, switch-overs."""

from __future__ import annotations

import contextlib
import socket
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from cyrus_sync.common.errors import ConnectionLost, ProtocolViolation, TLSFailed
from cyrus_sync.common.protocol.events import ConnectionClosed
from cyrus_sync.common.wire import deflate
from cyrus_sync.common.wire.deflate import Deflater, Inflater
from cyrus_sync.common.wire.tls import ClientTLS, ClientTLSSettings
from cyrus_sync.common.wire.transport import HOLD_BYTES, TURN_BYTES, CsyncProtocol
from tests.common.wire.kit import Lines, Recorder, run, spin
from tests.deadlines import scaled
from tests.reactors import make_reactor


class Wire(StringTransport):
    """A transport in memory that can be aborted and tells about TLS."""

    def __init__(self) -> None:
        super().__init__()
        self.tls: Any = None
        self.pieces: list[bytes] = []
        self.aborting = False

    def abortConnection(self) -> None:
        self.aborting = True

    def write(self, data: bytes) -> None:
        self.pieces.append(data)
        super().write(data)

    def startTLS(self, context: Any, normal: bool) -> None:
        self.tls = context


def make(server: bool = True, hold: bool = False) -> tuple[CsyncProtocol, Wire, Recorder, Clock]:
    clock = Clock()
    proto = CsyncProtocol(Lines(), clock, server=server)
    handler, wire = Recorder(hold), Wire()
    proto.makeConnection(wire)
    proto.set_event_handler(handler)
    return proto, wire, handler, clock


def test_events_come_in_order_and_wait_until_there_is_a_handler() -> None:
    proto = CsyncProtocol(Lines(), Clock(), server=True)
    proto.makeConnection(Wire())
    proto.dataReceived(b"one\ntwo\nth")
    handler = Recorder()
    proto.set_event_handler(handler)
    proto.dataReceived(b"ree\n")
    assert handler.events == [b"one", b"two", b"three"]


def test_no_event_is_delivered_while_the_handler_is_busy() -> None:
    proto, _, handler, _ = make(hold=True)
    proto.dataReceived(b"one\ntwo\n")
    assert handler.events == [b"one"]
    handler.held[0].callback(None)
    assert handler.events == [b"one", b"two"]


def test_reading_stops_when_a_busy_handler_has_enough_behind_it_and_goes_on_afterwards() -> None:
    proto, wire, handler, _ = make(hold=True)
    proto.dataReceived(b"one\n")
    proto.dataReceived(b"x" * (HOLD_BYTES - 10))
    assert wire.producerState == "producing"
    proto.dataReceived(b"x" * 20)
    assert wire.producerState == "paused"
    handler.held[0].callback(None)
    assert wire.producerState == "producing"


def test_a_paused_protocol_holds_its_events_until_it_is_resumed() -> None:
    proto, _, handler, _ = make()
    proto.pause()
    proto.dataReceived(b"one\n")
    assert handler.events == []
    proto.resume()
    assert handler.events == [b"one"]


def test_a_server_takes_no_commands_while_its_answers_go_unread() -> None:
    proto, wire, handler, _ = make(server=True)
    proto.pauseProducing()
    proto.dataReceived(b"one\n" + b"x" * HOLD_BYTES)
    assert handler.events == []
    assert wire.producerState == "paused"
    proto.resumeProducing()
    assert handler.events == [b"one"]
    assert wire.producerState == "producing"


def test_a_client_reads_answers_although_its_own_writes_go_unread() -> None:
    proto, _, handler, _ = make(server=False)
    proto.pauseProducing()
    proto.dataReceived(b"one\n")
    assert handler.events == [b"one"]


def test_drained_fires_when_the_peer_has_taken_what_was_written() -> None:
    proto, _, _, _ = make()
    assert proto.drained().called
    proto.pauseProducing()
    waiting = proto.drained()
    assert not waiting.called
    proto.resumeProducing()
    assert waiting.called


def test_drained_fails_when_the_connection_is_lost() -> None:
    proto, _, _, _ = make()
    proto.pauseProducing()
    failures: list[Any] = []
    proto.drained().addErrback(failures.append)
    proto.connectionLost()
    proto.drained().addErrback(failures.append)
    assert [f.check(ConnectionLost) for f in failures] == [ConnectionLost, ConnectionLost]


def test_what_is_written_for_the_events_of_one_read_goes_out_in_one_piece() -> None:
    proto, wire, handler, _ = make()
    handler.on_event = lambda event: proto.write(b"OK " + event + b"\r\n")
    proto.dataReceived(b"one\ntwo\n")
    assert wire.pieces == [b"OK one\r\nOK two\r\n"]


def test_a_flood_of_one_connection_lets_the_others_have_their_turn() -> None:
    proto, _, handler, clock = make()
    proto.pause()
    for _ in range(40):
        proto.dataReceived(b"x" * 65535 + b"\n")
    proto.resume()
    assert 0 < len(handler.events) <= TURN_BYTES // 65536 + 1
    for _ in range(10):
        clock.advance(0)
    assert len(handler.events) == 40


def test_an_error_in_the_handler_drops_the_connection_and_is_told() -> None:
    proto, wire, handler, _ = make(server=False)

    def fail(_: Any) -> None:
        raise ProtocolViolation("nonsense")

    handler.on_event = fail
    proto.dataReceived(b"one\ntwo\n")
    assert wire.aborting
    assert handler.events == [b"one"]
    proto.connectionLost()
    assert handler.lost[0].check(ProtocolViolation)


def test_a_failed_deferred_of_the_handler_drops_the_connection_and_is_told() -> None:
    proto, wire, handler, _ = make(hold=True)
    proto.dataReceived(b"one\ntwo\n")
    handler.held[0].errback(ProtocolViolation("nonsense"))
    assert wire.aborting
    proto.connectionLost()
    assert handler.lost[0].check(ProtocolViolation)


# -- time


def test_a_silent_peer_is_dropped_after_the_timeout_and_not_before() -> None:
    proto, wire, handler, clock = make()
    proto.set_timeout(30)
    clock.advance(29)
    proto.dataReceived(b"x")
    clock.advance(29)
    assert not wire.disconnecting
    clock.advance(1)
    assert wire.disconnecting
    proto.connectionLost()
    assert handler.lost[0].check(ConnectionLost)
    assert "30 seconds" in str(handler.lost[0].value)


def test_a_peer_that_only_drips_is_dropped_when_it_does_not_come_to_an_end() -> None:
    proto, wire, handler, clock = make()
    proto.set_timeout(30, progress_due=True)
    for _ in range(7):
        proto.dataReceived(b"x")
        clock.advance(16)
        assert not wire.disconnecting
    proto.progress()
    for _ in range(7):
        proto.dataReceived(b"y" * 1024 * 30)
        clock.advance(20)
        assert not wire.disconnecting, "what comes in quantity is no drip"
    for _ in range(20):
        proto.dataReceived(b"z")
        clock.advance(20)
    assert wire.disconnecting
    proto.connectionLost()
    assert "does not come to an end" in str(handler.lost[0].value)


def test_a_server_waits_for_a_client_that_says_little_for_ever() -> None:
    proto, wire, _, clock = make()
    proto.set_timeout(30)
    for _ in range(100):
        proto.dataReceived(b"NOOP\n")
        clock.advance(29)
    assert not wire.disconnecting


def test_time_that_the_handler_takes_is_not_the_peers_silence() -> None:
    proto, wire, handler, clock = make(hold=True)
    proto.set_timeout(30)
    proto.dataReceived(b"one\n")
    clock.pump([20] * 10)
    assert not wire.disconnecting
    handler.held[0].callback(None)
    clock.advance(29)
    assert not wire.disconnecting
    clock.advance(2)
    assert wire.disconnecting


def test_a_peer_that_never_reads_is_dropped_after_the_timeout() -> None:
    proto, wire, _, clock = make()
    proto.set_timeout(30)
    proto.pauseProducing()
    clock.advance(31)
    assert wire.aborting


def test_a_peer_that_never_reads_is_dropped_although_the_handler_waits_for_it() -> None:
    proto, wire, handler, clock = make(hold=True)
    proto.set_timeout(30)
    proto.dataReceived(b"GET\n")
    assert len(handler.held) == 1
    proto.pauseProducing()
    clock.advance(31)
    assert wire.aborting


def test_no_timer_is_left_when_the_connection_is_gone() -> None:
    proto, _, _, clock = make()
    proto.set_timeout(30)
    proto.lose()
    proto.connectionLost()
    assert clock.getDelayedCalls() == []


def test_a_closing_connection_does_not_wait_for_ever_for_a_peer_that_does_not_read() -> None:
    proto, wire, _, clock = make()
    proto.lose()
    assert not wire.aborting
    clock.advance(11)
    assert wire.aborting


# -- deflate


@pytest.mark.covers("Commands of the session", "COMPRESS")
def test_deflate_begins_behind_the_event_that_agreed_it_in_both_directions() -> None:
    proto, wire, handler, _ = make()

    def compress(event: bytes) -> None:
        if event == b"COMPRESS":
            proto.write(b"OK\n")
            proto.start_deflate()
        else:
            proto.write(b"got " + event)

    handler.on_event = compress
    proto.dataReceived(b"COMPRESS\n" + Deflater().compress(b"one\n"))
    assert handler.events == [b"COMPRESS", b"one"]
    assert wire.pieces[0] == b"OK\n"
    assert wire.pieces[1].endswith(b"\0\0\xff\xff")
    assert zlib.decompressobj(-15).decompress(wire.pieces[1]) == b"got one"


def test_a_bomb_is_inflated_in_bounded_slices_and_only_as_the_handler_asks_for_more() -> None:
    proto, _, handler, _ = make(hold=True)
    proto.start_deflate()
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = stream.compress(b"one\n" + bytes(200_000_000)) + stream.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 250_000
    for at in range(0, len(bomb), 4096):
        proto.dataReceived(bomb[at : at + 4096])
    lines = proto.connection
    assert isinstance(lines, Lines)
    assert lines.given <= 256 * 1024
    handler.held[0].callback(None)
    assert lines.given <= 3 * TURN_BYTES
    assert lines.largest <= 256 * 1024


def test_a_damaged_compressed_stream_ends_the_connection() -> None:
    proto, wire, handler, _ = make()
    proto.start_deflate()
    proto.dataReceived(b"\xff\xff\xff\xff")
    assert wire.aborting
    proto.connectionLost()
    assert handler.lost[0].check(ProtocolViolation)


def test_a_compressed_stream_that_was_ended_takes_nothing_more() -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    inflater = Inflater()
    inflater.feed(stream.compress(b"one\n") + stream.flush(zlib.Z_FINISH))
    assert inflater.take(100) == b"one\n"
    inflater.feed(b"more")
    with pytest.raises(ProtocolViolation):
        inflater.take(100)


@pytest.mark.parametrize("implementation", ["isal", "zlib"])
@pytest.mark.parametrize("limit", [1, 7, 1000, 100_000])
def test_slices_of_any_size_give_the_whole_stream(
    monkeypatch: pytest.MonkeyPatch, implementation: str, limit: int
) -> None:
    if implementation == "zlib":
        monkeypatch.setattr(deflate, "_implementation", zlib)
    inflater, deflater = Inflater(), Deflater()
    data = b"".join(b"%d abc abc abc " % i for i in range(500)) + bytes(3000)
    for at in range(0, len(data), 611):
        inflater.feed(deflater.compress(data[at : at + 611]))
    got = b""
    while piece := inflater.take(limit):
        assert len(piece) <= limit
        got += piece
    assert got == data
    assert inflater.pending == 0


@given(st.lists(st.binary(min_size=1, max_size=3000), min_size=1, max_size=20))
def test_zlib_and_we_read_one_another_s_streams(pieces: list[bytes]) -> None:
    ours, theirs = Deflater(), zlib.compressobj(6, zlib.DEFLATED, -15)
    reader, inflater = zlib.decompressobj(-15), Inflater()
    for piece in pieces:
        assert reader.decompress(ours.compress(piece)) == piece
        inflater.feed(theirs.compress(piece) + theirs.flush(zlib.Z_SYNC_FLUSH))
        assert inflater.take(10_000) == piece
        assert inflater.take(10_000) == b""


@given(st.binary(max_size=300))
def test_arbitrary_bytes_inflate_to_something_bounded_or_are_refused(data: bytes) -> None:
    inflater = Inflater()
    inflater.feed(data)
    with contextlib.suppress(ProtocolViolation):
        while piece := inflater.take(1000):
            assert len(piece) <= 1000


# -- TLS switch-over (handshakes are tested in test_tls)


def test_plain_text_sent_ahead_of_the_tls_handshake_ends_the_connection() -> None:
    proto, wire, handler, _ = make()
    failures: list[Any] = []

    def start(event: bytes) -> None:
        proto.start_tls(ClientTLS(ClientTLSSettings(verify=False), "x")).addErrback(failures.append)

    handler.on_event = start
    proto.dataReceived(b"STARTTLS\nAUTHENTICATE PLAIN injected\n")
    assert handler.events == [b"STARTTLS"]
    assert failures[0].check(ProtocolViolation)
    assert wire.tls is None
    assert wire.aborting


def test_plain_text_that_is_here_and_not_looked_at_ends_it_too() -> None:
    """It came while the handler was busy, in a piece of its own: the grammar has not been given it."""
    proto, wire, handler, _ = make(hold=True)
    failures: list[Any] = []
    proto.dataReceived(b"STARTTLS\n")
    proto.dataReceived(b"AUTHENTICATE PLAIN injected\n")
    assert proto.connection.buffered == 0
    proto.start_tls(ClientTLS(ClientTLSSettings(verify=False), "x")).addErrback(failures.append)
    assert failures[0].check(ProtocolViolation)
    assert wire.tls is None and wire.aborting
    handler.held[0].callback(None)
    assert handler.events == [b"STARTTLS"]


def test_tls_under_compression_is_refused() -> None:
    proto, wire, _, _ = make()
    proto.start_deflate()
    failures: list[Any] = []
    proto.start_tls(ClientTLS(ClientTLSSettings(verify=False), "x")).addErrback(failures.append)
    assert failures[0].check(TLSFailed)
    assert wire.tls is None


# -- real sockets


class ServerFactory(Factory):
    """Gives each connection a `CsyncProtocol` with a fresh handler; all are kept in `made`."""

    def __init__(self, reactor: Any, handler: Any = Recorder) -> None:
        self.reactor = reactor
        self.handler = handler
        self.made: list[tuple[CsyncProtocol, Any]] = []

    def buildProtocol(self, addr: Any) -> CsyncProtocol:
        handler = self.handler()
        proto = CsyncProtocol(Lines(), self.reactor, server=True)
        proto.set_event_handler(handler)
        self.made.append((proto, handler))
        return proto


def test_what_came_before_a_half_close_is_carried_out_and_answered() -> None:
    reactor = make_reactor()
    factory = ServerFactory(reactor, lambda: Recorder(hold=True))
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    with socket.create_connection(("127.0.0.1", port.getHost().port)) as client:
        client.sendall(b"one\ntwo\n")
        client.shutdown(socket.SHUT_WR)
        spin(reactor, lambda: bool(factory.made and factory.made[0][1].held))
        proto, handler = factory.made[0]
        for n in range(3):
            spin(reactor, lambda n=n: len(handler.held) > n)
            if n < 2:
                proto.write(b"OK %d\r\n" % n)
            handler.held[n].callback(None)
        spin(reactor, lambda: bool(handler.lost))
        assert handler.events == [b"one", b"two", ConnectionClosed(True)]
        client.settimeout(scaled(5))
        assert client.recv(100) == b"OK 0\r\nOK 1\r\n"
        assert client.recv(100) == b""
    run(reactor, port.stopListening())


def test_a_peer_that_hangs_up_in_the_middle_is_told_to_the_handler() -> None:
    reactor = make_reactor()
    factory = ServerFactory(reactor)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    with socket.create_connection(("127.0.0.1", port.getHost().port)) as client:
        client.sendall(b"half a li")
    spin(reactor, lambda: bool(factory.made and factory.made[0][1].lost))
    assert factory.made[0][1].events == [ConnectionClosed(False)]
    run(reactor, port.stopListening())


def test_a_client_that_only_writes_cannot_make_the_server_hold_its_answers() -> None:
    reactor = make_reactor()
    factory = ServerFactory(reactor)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    client = socket.create_connection(("127.0.0.1", port.getHost().port))
    client.setblocking(False)
    answered = 0

    def answer(_: bytes) -> Deferred[None] | None:
        nonlocal answered
        answered += 1
        factory.made[0][0].write(bytes(100_000))
        return None

    spin(reactor, lambda: bool(factory.made))
    factory.made[0][1].on_event = answer
    sent = 0
    for _ in range(300):
        with contextlib.suppress(BlockingIOError):
            sent += client.send(b"GET\n" * 10_000)
        reactor.iterate(0)
    assert answered < 500, "answers are bounded by socket buffers, not by the commands sent"
    assert sent < 50_000_000
    client.close()
    spin(reactor, lambda: bool(factory.made[0][1].lost))
    run(reactor, port.stopListening())
