"""The transfer of one file, and the sender's half of it.

Over TCP, behind the greeting (`cyrus_sync.shipping.greeting`), all of it encrypted; lines end in LF:

    sender                                   receiver
    HEADER <length> <proof "header" header> + header
                                             WAIT …  (the file is being brought to disk; repeated)
                                             GO <proof "go" header>
                        or:                  FROM <proof "from" header offset> <offset>   (it has so much)
    size octets, or those from the offset on
                                             DONE <proof "done" header>
                        or, at any time:     HAVE <proof "have" header>     it came earlier
                                             NO <reason>

The header (JSON) holds the order with its class, the destinations that this transfer serves, the host
that is meant, and size and digest (`cyrus_sync.shipping.digest`) of the data. The sender deletes nothing on a
word that carries no proof.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from cyrus_sync.common.errors import TLSFailed
from cyrus_sync.common.numbers import decimal
from cyrus_sync.shipping.call import SILENCE, Call, Conversation, ended
from cyrus_sync.shipping.contact import meet, why
from cyrus_sync.shipping.digest import check as check_digest
from cyrus_sync.shipping.errors import BadOrder, Broken, CannotReach, Refused, ShippingError
from cyrus_sync.shipping.greeting import TLS, Greeted, Proofs, greet, start_tls
from cyrus_sync.shipping.order import LONGEST_ORDER, Order
from cyrus_sync.shipping.site import Site

LONGEST_HEADER = 4 * LONGEST_ORDER
_CONNECT = 20.0
_TRIES = 3
"""How often a connection is made that breaks off before the greeting is over."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What the sender announces, and `order` as the next host is to take it over."""

    order: Order
    destinations: tuple[str, ...]
    to: str
    sender: str
    size: int
    digest: str
    resumes: bool = True
    """Whether the sender may be asked to begin further on."""

    def encode(self) -> bytes:
        return json.dumps(
            {
                "order": self.order.text().decode("utf-8", "surrogateescape"),
                "destinations": list(self.destinations),
                "to": self.to,
                "sender": self.sender,
                "size": self.size,
                "digest": self.digest,
                "resume": self.resumes,
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
                resumes=found.get("resume") is True,
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


def send_file(site: Site, host: str, header: Announcement, data: int) -> None:
    """Bring the open file `data` to `host`. Returns when the receiver has it on disk.

    `CannotReach` if it does not answer, `Refused` if it says no, or the conversation breaks: then the
    same may be tried again, the receiver knows what it has."""
    encoded = header.encode()
    if len(encoded) > LONGEST_HEADER:
        raise ShippingError("the shipping order is too long to be sent")

    async def bring(talk: Conversation, proofs: Proofs, send: Callable[[int], None]) -> None:
        listener = _Receiver(talk, host, proofs, encoded)
        talk.say(f"HEADER {len(encoded)} {proofs.make('header', encoded)}")
        talk.say(encoded)
        label, start = await listener.verdict("go", "from", "have")
        if label != "have":
            send(min(start, header.size))
            await listener.verdict("done")  # or no, in the middle of it

    meeting = meet(site, host)
    try:
        call, greeted = _introduced(site, host, meeting.address)
        with call:
            if greeted.layer == TLS:
                from cyrus_sync.shipping.sending import send_under_tls  # which needs a reactor

                send_under_tls(
                    call, lambda talk: start_tls(talk, site, host, greeted), bring, (data, header.size)
                )
            else:
                greeted.sealed(call, client=True)
                ended(bring(call, greeted.proofs, lambda start: call.send_part(data, header.size, start)))
    except TLSFailed as error:
        raise Refused(f"{host}: {error}") from None
    except OSError as error:
        raise CannotReach(f"{host}: the transfer broke off: {why(error)}") from None


def _introduced(site: Site, host: str, address: tuple[str, int]) -> tuple[Call, Greeted]:
    """A connection on which both sides have proved who they are.

    A host that strangers press lets connections give way that have proved nothing, and ours is one of them
    until then. So one that breaks off is made anew, a few times.
    """
    tries = _TRIES
    while True:
        tries -= 1
        call = Call.to(address, _CONNECT)
        try:
            call.be_patient(SILENCE)
            return call, ended(greet(call, site, host))
        except BaseException as error:
            call.close()
            if not (isinstance(error, Broken) and tries):
                raise


def from_offset(header: bytes, offset: int) -> bytes:
    """What the proof of FROM is made over."""
    return header + f" {offset}".encode()


@dataclass(frozen=True, slots=True)
class _Receiver:
    """What the receiver of a header says."""

    talk: Conversation
    host: str
    proofs: Proofs
    header: bytes

    async def verdict(self, *awaited: str) -> tuple[str, int]:
        """The next word that decides something, and where to begin. `Refused` for NO, and for a word without
        its proof."""
        while True:
            word, _, rest = (await self.talk.line()).partition(" ")
            if word == "WAIT":
                continue
            if word == "NO":
                raise Refused(f"{self.host} refused: {rest[:500]}")
            label, (shown, _, offset) = word.lower(), rest.partition(" ")
            start = decimal(offset, 1 << 62) if label == "from" else 0
            said = self.header if label != "from" else from_offset(self.header, start or 0)
            if label in awaited and start is not None and self.proofs.hold(shown, label, said):
                return label, start
            raise Refused(f"{self.host} answered something that carries no valid proof")
