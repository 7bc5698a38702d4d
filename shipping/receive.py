"""Receive mode: a child takes one file from a sender who has proved to be of the family.

Data goes to a temporary name in the bay and is digested on the way; only what has the announced size and
digest is kept. The sender is told DONE after everything is on disk under its final name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool

from cyrus_sync.common.commands import reason
from cyrus_sync.common.directory import Directory, Tampered, Unfinished
from cyrus_sync.common.errors import TLSFailed
from cyrus_sync.common.files import named
from cyrus_sync.common.numbers import decimal
from cyrus_sync.shipping.arrival import Plan, partial_name, plan, settle
from cyrus_sync.shipping.call import SILENCE
from cyrus_sync.shipping.completing import Arrived, complete
from cyrus_sync.shipping.digest import algorithm
from cyrus_sync.shipping.errors import Broken, Refused, ShippingError
from cyrus_sync.shipping.greeting import Greeted, Proofs, encrypt_as_server
from cyrus_sync.shipping.landing import Landing
from cyrus_sync.shipping.ledger import Ledger
from cyrus_sync.shipping.loop import wait_for
from cyrus_sync.shipping.names import check_host
from cyrus_sync.shipping.order import Order
from cyrus_sync.shipping.site import Site
from cyrus_sync.shipping.talk import Talk, adopt
from cyrus_sync.shipping.transfer import LONGEST_HEADER, Announcement, from_offset

WORTH_KEEPING = 1 << 20
"""Octets of a file that was cut off from which on it is not sent from its beginning again."""

_WAIT_EVERY = 10.0


# -- the job, as the service gives it to a child


def job_of(greeted: Greeted) -> dict[str, Any]:
    """The job to take a file; with it goes the connection. It is answered with what `arrivals` reads."""
    return {
        "family": greeted.proofs.key.hex(),
        "client": greeted.proofs.client,
        "server": greeted.proofs.server,
        "layer": greeted.layer,
        "keys": [key.hex() for key in greeted.keys],
    }


def receive_job(site: Site, job: dict[str, Any], connection: int) -> list[Any]:
    """Do it, by what the configuration says now. `ConfigError`."""
    site.renew()
    to_server, to_client = (bytes.fromhex(key) for key in job["keys"])
    # The key with which the two have greeted, whatever is in its file now. A service of the release before,
    # which runs on after an upgrade, does not tell it.
    family = job.get("family")
    proofs = Proofs(bytes.fromhex(family) if family else site.key, job["client"], job["server"])
    greeted = Greeted(proofs, job["layer"], (to_server, to_client))
    return [_said(arrived) for arrived in receive(site, connection, greeted)]


def _said(arrived: Arrived) -> list[str | None]:
    order = arrived.order.text().decode("utf-8", "surrogateescape")
    return [order, *(os.fsdecode(path) if path else None for path in (arrived.here, arrived.order_path))]


def arrivals(said: list[Any]) -> Iterator[Arrived]:
    """What a child has said of the files that have arrived."""
    for order, here, order_path in said:
        yield Arrived(
            Order.parse(order.encode("utf-8", "surrogateescape")),
            Path(here) if here else None,
            Path(order_path) if order_path else None,
        )


# -- the transfer


def receive(site: Site, connection: int, greeted: Greeted) -> list[Arrived]:
    """Serve one transfer on a connected socket. What has arrived by it: also what a killed one had left half
    done. Errors are told to the sender and logged here."""
    found: list[Arrived] = []
    wait_for(lambda reactor: _receive(reactor, site, connection, greeted, found))
    return found


async def _receive(reactor: Any, site: Site, connection: int, greeted: Greeted, found: list[Arrived]) -> None:
    talk = Talk(reactor)
    peer = "a peer that has gone"
    try:
        adopt(reactor, os.dup(connection), talk)
        peer = talk.peer
        talk.be_patient(SILENCE)
        proofs = await encrypt_as_server(talk, site.server_tls, greeted)
        encoded = await _header(talk, proofs)
        await _Transfer(reactor, site, talk, proofs, encoded, found).run(peer)
    except (ShippingError, Tampered, TLSFailed) as error:
        site.log.error(f"refused a file from {peer}: {error}")
        await talk.refuse(str(error))
    except Broken as error:
        site.log.error(f"a transfer from {peer} broke off: {error}")
        await talk.refuse(f"the transfer broke off: {error}")
    except OSError as error:
        site.log.error(f"a transfer from {peer} failed: {reason(error)}")
        await talk.refuse(f"it cannot be stored: {reason(error)}")
    finally:
        await talk.lose()


async def _header(talk: Talk, proofs: Proofs) -> bytes:
    words = (await talk.line()).split()
    length = decimal(words[1], LONGEST_HEADER) if len(words) == 3 and words[0] == "HEADER" else None
    if length is None:
        raise Refused("what was said is not the header of a file")
    header = await talk.exactly(length)
    if not proofs.hold(words[2], "header", header):
        raise Refused("the header of the file was not proved: somebody has changed it")
    return header


@dataclass(frozen=True, slots=True)
class _Transfer:
    """One file, from its header on. `found` gets what has arrived."""

    reactor: Any
    site: Site
    talk: Talk
    proofs: Proofs
    encoded: bytes
    found: list[Arrived]

    async def run(self, peer: str) -> None:
        site, header = self.site, Announcement.decode(self.encoded)
        check_host(header.sender)
        with Ledger.open(site.home / "received", header.order, header.digest) as ledger:
            for arrival in list(ledger.arrivals):
                if not arrival.done and (completed := complete(ledger, arrival)):
                    site.log.info(f"completed the arrival of {completed.here or completed.order_path}")
                    self.found.append(completed)
            chosen = plan(site, header, ledger.accepted())
            if chosen is None:
                self._say("HAVE")
                site.log.info(f"received already: {header.order.data_name} from {header.sender}")
                return
            with chosen.bay.open(chosen.part) as directory:
                landed = await self._take(header, chosen, directory)
                try:
                    arrived = settle(site, ledger, header, chosen, landed)
                except BaseException:
                    if not ledger.arrivals or ledger.arrivals[-1].done:
                        landed.discard()
                    raise
                finally:
                    landed.close()
        self.found.append(arrived)
        where = " and ".join(str(p) for p in (arrived.here, arrived.order_path) if p)
        site.log.info(
            f"received {header.order.data_name} ({header.size} bytes) from {header.sender} ({peer}): {where}"
        )
        self._say("DONE")

    def _say(self, word: str) -> None:
        self.talk.say(f"{word} {self.proofs.make(word.lower(), self.encoded)}")

    async def _take(self, header: Announcement, chosen: Plan, directory: Directory) -> Unfinished:
        """Write the body to a temporary file with the bay's owner and mode; `Refused` if it is not what was
        announced. What has come of a body that was cut off stays for the next time."""
        landed = directory.unfinished(partial_name(header))
        try:
            with named(directory.path):
                await self._fill(landed, header)
                chosen.bay.adopt(landed.descriptor)
                await sync(self.reactor, self.talk, landed.descriptor)
        except BaseException as error:
            if not isinstance(error, Broken) or os.fstat(landed.descriptor).st_size < WORTH_KEEPING:
                landed.discard()
            landed.close()
            raise
        return landed

    async def _fill(self, landed: Unfinished, header: Announcement) -> None:
        start, name = self._begun(landed, header), algorithm(header.digest)
        if start:
            self.site.log.info(f"goes on with {header.order.data_name} from {header.sender} at byte {start}")
            shown = self.proofs.make("from", from_offset(self.encoded, start))
            self.talk.say(f"FROM {shown} {start}")
        else:
            self._say("GO")
        count, digest = await self._land(landed.descriptor, header.size, name, start)
        if count != header.size:
            raise Broken(f"the data ended {header.size - count} bytes too early")
        if digest != header.digest:
            raise Refused(
                f"what came is not what was announced ({name}): the data file was changed or damaged"
            )

    @staticmethod
    def _begun(landed: Unfinished, header: Announcement) -> int:
        """How many octets of the file are there already."""
        there = os.fstat(landed.descriptor).st_size
        if header.resumes and WORTH_KEEPING <= there <= header.size:
            return there
        os.ftruncate(landed.descriptor, 0)
        return 0

    async def _land(self, descriptor: int, size: int, name: str, start: int) -> tuple[int, str]:
        """Write what comes; how many octets there are then, and their digest."""
        landing = Landing(descriptor, size, name, self.talk.open_piece, start=start)
        broken: Broken | None = None
        try:
            await self.talk.body(size - start, landing.put)
        except Broken as error:
            broken = error
        finally:
            count, digest = landing.end()
        if broken is not None and self.talk.timed_out:
            raise broken
        return count, digest


async def sync(reactor: Any, talk: Talk, descriptor: int) -> None:
    """fsync, which can take minutes for a large file: the sender hears that there is still somebody here."""
    talk.be_patient(None)
    still_here = LoopingCall(talk.say, "WAIT the file is being brought to disk")
    still_here.clock = reactor
    still_here.start(_WAIT_EVERY, now=False)
    try:
        await deferToThreadPool(reactor, reactor.getThreadPool(), os.fsync, descriptor)
    finally:
        still_here.stop()
