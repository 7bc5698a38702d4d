"""The sender's half of a transfer, step by step, so that a test can do each of them wrong."""

from __future__ import annotations

import secrets
import socket
from types import TracebackType
from typing import Self

from blake3 import blake3

from cyrus_sync.shipping.contact import meet
from cyrus_sync.shipping.order import Order
from cyrus_sync.shipping.transfer import Header, Proofs
from tests.deadlines import scaled
from tests.shipping.kit import KEY, Host


def header_for(receiver: Host, data: bytes, name: str = "packet", **changes: object) -> Header:
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
    return Header(**{**values, **changes})  # type: ignore[arg-type]


class Conversation:
    """A connection to the transfer port of a host."""

    def __init__(self, sender: Host, receiver: Host, key: str = KEY) -> None:
        meeting = meet(sender.site(), receiver.name)
        self.port = int(meeting.address[1])
        self.key = bytes.fromhex(key)
        self.sock = socket.create_connection((receiver.name, self.port), timeout=scaled(20))
        self.file = self.sock.makefile("rb")
        self.sent = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sent += data
        self.sock.sendall(data)

    def hello(self) -> Proofs:
        client = secrets.token_hex(32)
        self.send(f"SHIP1 HELLO {client}\n".encode())
        words = self.line().split()
        self.proofs = Proofs(self.key, client, words[2])
        self.challenge = words[3]
        return self.proofs

    def announce(self, header: Header | bytes) -> bytes:
        encoded = header if isinstance(header, bytes) else header.encode()
        self.send(f"SHIP1 HEADER {len(encoded)} {self.proofs.make('sender', encoded)}\n".encode() + encoded)
        return encoded

    def line(self) -> str:
        """The next line; "" if the connection was closed."""
        try:
            return self.file.readline().decode().rstrip("\n")
        except ConnectionResetError:
            return ""

    def word(self) -> str:
        return self.line().partition(" ")[0]
