"""The sender's half of a transfer, step by step, so that a test can do each of them wrong."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

from blake3 import blake3

from cyrus_sync.shipping.contact import meet
from cyrus_sync.shipping.greeting import Proofs
from cyrus_sync.shipping.order import Order
from cyrus_sync.shipping.sealing import KeyPair, Opener, Sealer
from cyrus_sync.shipping.transfer import Announcement
from tests.deadlines import scaled
from tests.shipping.kit import KEY, Host


def header_for(receiver: Host, data: bytes, name: str = "packet", **changes: object) -> Announcement:
    order = Order(
        data_path=name, origin="127.0.0.9", destinations=(receiver.name,), created=1, expires=0,
        original_path="/src/packet",
    )  # fmt: skip
    values: dict[str, object] = {
        "order": order,
        "destinations": order.destinations,
        "to": receiver.name,
        "sender": "127.0.0.9",
        "size": len(data),
        "digest": f"blake3:{blake3(data).hexdigest()}",
    }
    return Announcement(**{**values, **changes})  # type: ignore[arg-type]


def next_line(sock: socket.socket, held: bytes, opener: Opener | None) -> tuple[str, bytes]:
    """The next line, opened by `opener` if there is one, and what is held behind it.

    `held` is what came before. The line is "" if the connection was closed."""
    while b"\n" not in held:
        try:
            more = sock.recv(1 << 16)
        except ConnectionResetError:
            more = b""
        if not more:
            return "", held
        held += b"".join(opener.feed(more)) if opener else more
    line, _, held = held.partition(b"\n")
    return line.decode(), held


class Conversation:
    """A connection to the transfer port of a host. What is said after the greeting is sealed."""

    def __init__(self, sender: Host, receiver: Host, key: str = KEY) -> None:
        meeting = meet(sender.site(), receiver.name)
        self.port = meeting.address[1]
        self.key = bytes.fromhex(key)
        self.sock = socket.create_connection((receiver.name, self.port), timeout=scaled(20))
        self.sent = b""
        """In clear, then as it was sealed."""
        self._held = b""
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None
        self._header: bytes | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        octets = self._sealer.seal(data) if self._sealer else data
        self.sent += octets
        self.sock.sendall(octets)

    def hello(self) -> Proofs:
        self.pair = KeyPair()
        self.send(f"SHIP2 HELLO {self.pair.public}\n".encode())
        words = self.line().split()
        self.proofs = Proofs(self.key, self.pair.public, words[2])
        self.layer, self.challenge = words[3], words[4]
        return self.proofs

    def prove(self) -> None:
        self.send(f"SHIP2 PROOF {self.proofs.make('client', self.layer.encode())}\n".encode())

    def announce(self, header: Announcement | bytes, shown: str | None = None) -> bytes:
        """Prove ourselves, and say a header when the receiver is ready, which is when we listen next."""
        encoded = header if isinstance(header, bytes) else header.encode()
        self.prove()
        shown = shown or self.proofs.make("header", encoded)
        self._header = f"HEADER {len(encoded)} {shown}\n".encode() + encoded
        return encoded

    def say_instead(self, octets: bytes) -> None:
        """Of the header, sealed."""
        self._header = octets

    def line(self) -> str:
        """The next line; "" if the connection was closed."""
        while True:
            line = self._line()
            if line != "READY" or self._header is None:
                return line
            header, self._header = self._header, None
            sending, receiving = self.pair.keys(self.key, self.proofs.client, self.proofs.server)
            self._sealer, self._opener = Sealer(sending), Opener(receiving)
            self.send(header)

    def _line(self) -> str:
        line, self._held = next_line(self.sock, self._held, self._opener)
        return line

    def word(self) -> str:
        return self.line().partition(" ")[0]
