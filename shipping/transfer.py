"""The transfer of one file, and the sender's half of it.

Over TCP, lines end in LF; C and S are the nonces of the two sides:

    sender                                   receiver
    SHIP1 HELLO <C>
                                             SHIP1 CHALLENGE <S> <proof "receiver" C S>
    SHIP1 HEADER <length> <proof "sender" C S header> + header
                                             WAIT …  (others are being served; repeated)
                                             GO <proof "go" C S header>
    size bytes
                                             DONE <proof "done" C S header>
                        or, at any time:     HAVE <proof "have" C S header>     it came earlier
                                             NO <reason>

The header (JSON) holds the order with its class, the destinations that this transfer serves, the host
that is meant, and size and digest (`shipping.digest`) of the data. Whoever has not the key learns
nothing but a nonce; a recorded conversation is worth nothing because both nonces are new each time; and the
sender deletes nothing on a word that carries no proof.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import dataclass
from typing import Any, Self

from cyrus_sync.common.commands import reason
from cyrus_sync.shipping.contact import meet
from cyrus_sync.shipping.digest import check as check_digest
from cyrus_sync.shipping.errors import BadOrder, CannotReach, Refused, ShippingError
from cyrus_sync.shipping.key import proof, proves
from cyrus_sync.shipping.order import LONGEST_ORDER, Order
from cyrus_sync.shipping.site import Site

LONGEST_HEADER = 4 * LONGEST_ORDER
SILENCE = 120.0
"""Seconds without a byte from the other side after which a transfer is given up."""

_LONGEST_LINE = 1024
_SEND_BLOCK = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Header:
    """What the sender announces, and `order` as the next host is to take it over."""

    order: Order
    destinations: tuple[str, ...]
    to: str
    sender: str
    size: int
    digest: str

    def encode(self) -> bytes:
        return json.dumps(
            {
                "order": self.order.text().decode("utf-8", "surrogateescape"),
                "destinations": list(self.destinations),
                "to": self.to,
                "sender": self.sender,
                "size": self.size,
                "digest": self.digest,
            }
        ).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """`BadOrder` for anything but a header."""
        try:
            found: Any = json.loads(data)
            order = Order.parse(found["order"].encode("utf-8", "surrogateescape"))
            header = cls(
                order=order,
                destinations=tuple(found["destinations"]),
                to=found["to"],
                sender=found["sender"],
                size=found["size"],
                digest=check_digest(found["digest"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadOrder(f"a header that cannot be read: {error}") from None
        texts = (*header.destinations, header.to, header.sender)
        sound = (
            all(isinstance(text, str) for text in texts)
            and type(header.size) is int
            and 0 <= header.size < 1 << 62
            and header.destinations
            and set(header.destinations) <= set(order.destinations)
        )
        if not sound:
            raise BadOrder("a header that does not fit its order")
        return header


@dataclass(frozen=True, slots=True)
class Proofs:
    """The proofs of one conversation."""

    key: bytes
    client: str
    server: str

    def make(self, label: str, header: bytes = b"") -> str:
        return proof(self.key, label, self.client.encode(), self.server.encode(), header)

    def hold(self, shown: str, label: str, header: bytes = b"") -> bool:
        return proves(self.key, shown, label, self.client.encode(), self.server.encode(), header)


def send_file(site: Site, host: str, header: Header, data: int) -> None:
    """Bring the open file `data` to `host`. Returns when the receiver has it on disk.

    `CannotReach` if it does not answer, `Refused` if it says no, or the conversation breaks: then the
    same may be tried again, the receiver knows what it has."""
    meeting = meet(site, host)
    try:
        with socket.socket(meeting.family, socket.SOCK_STREAM) as sock:
            sock.settimeout(min(SILENCE, 20.0))
            sock.connect(meeting.address)
            sock.settimeout(SILENCE)
            _converse(site.key, host, header, data, sock)
    except OSError as error:
        raise CannotReach(f"{host}: the transfer broke off: {reason(error) or 'no answer'}") from None


def _converse(key: bytes, host: str, header: Header, data: int, sock: socket.socket) -> None:
    client = secrets.token_hex(32)
    sock.sendall(f"SHIP1 HELLO {client}\n".encode())
    reader = _Lines(sock)
    words = reader.line().split()
    if len(words) != 4 or words[:2] != ["SHIP1", "CHALLENGE"] or words[2] == client:
        raise Refused(f"{host}: what answers there is no shipping_server")
    proofs = Proofs(key, client, words[2])
    if not proofs.hold(words[3], "receiver"):
        raise Refused(f"{host} does not have our family key; nothing was sent")
    encoded = header.encode()
    if len(encoded) > LONGEST_HEADER:
        raise ShippingError("the shipping order is too long to be sent")
    sock.sendall(f"SHIP1 HEADER {len(encoded)} {proofs.make('sender', encoded)}\n".encode() + encoded)
    if reader.verdict(host, proofs, encoded, ("go", "have")) == "have":
        return
    try:
        _send_body(sock, data, header.size)
    except (BrokenPipeError, ConnectionResetError):
        # The receiver has said no in the middle: the reason is waiting to be read.
        reader.verdict(host, proofs, encoded, ("done",))
        raise
    reader.verdict(host, proofs, encoded, ("done",))


def _send_body(sock: socket.socket, data: int, size: int) -> None:
    with os.fdopen(os.dup(data), "rb", buffering=0) as file:
        offset = 0
        while offset < size:
            sent = sock.sendfile(file, offset, min(_SEND_BLOCK, size - offset))
            if not sent:
                raise Refused("the data file has become shorter while it was sent")
            offset += sent


class _Lines:
    """Reads the receiver's lines."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._held = b""

    def line(self) -> str:
        while b"\n" not in self._held:
            more = self._sock.recv(_LONGEST_LINE)
            if not more or len(self._held) > _LONGEST_LINE:
                raise ConnectionError("the receiver has closed the connection")
            self._held += more
        line, _, self._held = self._held.partition(b"\n")
        return line.decode("utf-8", "replace")

    def verdict(self, host: str, proofs: Proofs, header: bytes, awaited: tuple[str, ...]) -> str:
        """The next word that decides something. `Refused` for NO, and for a word without its proof."""
        while True:
            word, _, rest = self.line().partition(" ")
            if word == "WAIT":
                continue
            if word == "NO":
                raise Refused(f"{host} refused: {rest[:500]}")
            label = word.lower()
            if label in awaited and proofs.hold(rest, label, header):
                return label
            raise Refused(f"{host} answered something that carries no valid proof")
