"""The transfer of one file, and the sender's half of it.

Over TCP, behind the greeting (`cyrus_sync.shipping.greeting`), all of it encrypted; lines end in LF:

    sender                                   receiver
    HEADER <length> <proof "header" header> + header
                                             WAIT …  (the file is being brought to disk; repeated)
                                             GO <proof "go" header>
    size octets
                                             DONE <proof "done" header>
                        or, at any time:     HAVE <proof "have" header>     it came earlier
                                             NO <reason>

The header (JSON) holds the order with its class, the destinations that this transfer serves, the host
that is meant, and size and digest (`cyrus_sync.shipping.digest`) of the data. The sender deletes nothing on a
word that carries no proof.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectError

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import TLSFailed
from cyrus_sync.shipping.contact import find_port, why
from cyrus_sync.shipping.digest import check as check_digest
from cyrus_sync.shipping.errors import BadOrder, CannotReach, Refused, ShippingError
from cyrus_sync.shipping.greeting import Proofs, encrypt, greet
from cyrus_sync.shipping.loop import wait_for
from cyrus_sync.shipping.order import LONGEST_ORDER, Order
from cyrus_sync.shipping.sending import send_part
from cyrus_sync.shipping.site import Site
from cyrus_sync.shipping.talk import Broken, Talk

LONGEST_HEADER = 4 * LONGEST_ORDER
SILENCE = 120.0
"""Seconds without a sign of the other side after which a transfer is given up."""

_CONNECT = 20.0
_TRIES = 3
"""How often a connection is made that breaks off before the greeting is over."""


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


def send_file(site: Site, host: str, header: Header, data: int) -> None:
    """Bring the open file `data` to `host`. Returns when the receiver has it on disk.

    `CannotReach` if it does not answer, `Refused` if it says no, or the conversation breaks: then the
    same may be tried again, the receiver knows what it has."""
    wait_for(lambda reactor: _send(reactor, site, host, header, data))


async def _send(reactor: Any, site: Site, host: str, header: Header, data: int) -> None:
    encoded = header.encode()
    if len(encoded) > LONGEST_HEADER:
        raise ShippingError("the shipping order is too long to be sent")
    meeting = await find_port(reactor, site, host)
    try:
        talk, proofs = await _introduced(reactor, site, host, meeting.address)
        try:
            listener = _Receiver(talk, host, proofs, encoded)
            talk.say(f"HEADER {len(encoded)} {proofs.make('header', encoded)}")
            talk.say(encoded)
            if await listener.verdict("go", "have") == "go":
                send_part(talk, data, header.size)
                await listener.verdict("done")  # or no, in the middle of it
        finally:
            await talk.lose()
    except TLSFailed as error:
        raise Refused(f"{host}: {error}") from None
    except ConnectError as error:
        raise CannotReach(f"{host}: the transfer broke off: {why(error)}") from None
    except OSError as error:
        raise CannotReach(f"{host}: the transfer broke off: {reason(error) or 'no answer'}") from None


async def _introduced(reactor: Any, site: Site, host: str, address: tuple[str, int]) -> tuple[Talk, Proofs]:
    """A connection on which both sides have proved who they are.

    A host that strangers press lets connections give way that have proved nothing, and ours is one of them
    until then. So one that breaks off is made anew, a few times.
    """
    tries = _TRIES
    while True:
        tries -= 1
        talk = Talk(reactor)
        try:
            await connectProtocol(HostnameEndpoint(reactor, *address, timeout=_CONNECT), talk)
            talk.be_patient(SILENCE)
            return talk, await encrypt(talk, site, host, await greet(talk, site, host))
        except Broken:
            await talk.lose()
            if not tries:
                raise
        except BaseException:
            await talk.lose()
            raise


@dataclass(frozen=True, slots=True)
class _Receiver:
    """What the receiver of a header says."""

    talk: Talk
    host: str
    proofs: Proofs
    header: bytes

    async def verdict(self, *awaited: str) -> str:
        """The next word that decides something. `Refused` for NO, and for a word without its proof."""
        while True:
            word, _, rest = (await self.talk.line()).partition(" ")
            if word == "WAIT":
                continue
            if word == "NO":
                raise Refused(f"{self.host} refused: {rest[:500]}")
            label = word.lower()
            if label in awaited and self.proofs.hold(rest, label, self.header):
                return label
            raise Refused(f"{self.host} answered something that carries no valid proof")
