"""Receive mode: the child process that takes one file from a sender who has proved to be of the family.

Data goes to a temporary name in the bay and is digested on the way; only what has the announced size and
digest is kept. The sender is told DONE after everything is on disk under its final name.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

from cyrus_sync.common.commands import reason
from cyrus_sync.common.directory import Directory, Tampered, Unfinished
from cyrus_sync.common.files import begin_writing_back, write_all
from cyrus_sync.shipping.arrival import Plan, plan, settle
from cyrus_sync.shipping.completing import Arrived, complete
from cyrus_sync.shipping.digest import algorithm, digest_flow
from cyrus_sync.shipping.errors import Refused, ShippingError
from cyrus_sync.shipping.ledger import Ledger
from cyrus_sync.shipping.names import check_host
from cyrus_sync.shipping.site import Site
from cyrus_sync.shipping.transfer import SILENCE, Header, Proofs

_WAIT_EVERY = 10.0
_WRITE_BACK = 32 * 1024 * 1024
_DRAINED = 64 * 1024 * 1024


def receive(site: Site, sock: socket.socket, proofs: Proofs, encoded: bytes) -> list[Arrived]:
    """Serve one transfer on a blocking socket. What has arrived by it: also what a killed one had left half
    done. Errors are told to the sender and logged here."""
    found: list[Arrived] = []
    sock.settimeout(SILENCE)
    peer = _peer(sock)
    try:
        header = Header.decode(encoded)
        check_host(header.sender)
        with Ledger.open(site.home / "received", header.order, header.digest) as ledger:
            for arrival in list(ledger.arrivals):
                if not arrival.done and (completed := complete(ledger, arrival)):
                    site.log.info(f"completed the arrival of {completed.here or completed.order_path}")
                    found.append(completed)
            chosen = plan(site, header, ledger.accepted())
            if chosen is None:
                _say(sock, f"HAVE {proofs.make('have', encoded)}")
                site.log.info(f"received already: {header.order.data_name} from {header.sender}")
                return found
            _say(sock, f"GO {proofs.make('go', encoded)}")
            with chosen.bay.open(chosen.part) as directory:
                landed = _take(sock, header, chosen, directory)
                try:
                    arrived = settle(site, ledger, header, chosen, landed)
                except BaseException:
                    if not ledger.arrivals or ledger.arrivals[-1].done:
                        landed.discard()
                    raise
                finally:
                    landed.close()
        found.append(arrived)
        where = " and ".join(str(p) for p in (arrived.here, arrived.order_path) if p)
        site.log.info(
            f"received {header.order.data_name} ({header.size} bytes) from {header.sender} ({peer}): {where}"
        )
        _say(sock, f"DONE {proofs.make('done', encoded)}")
    except (ShippingError, Tampered) as error:
        site.log.error(f"refused a file from {peer}: {error}")
        _refuse(sock, str(error))
    except OSError as error:
        site.log.error(f"a transfer from {peer} failed: {reason(error)}")
        _refuse(sock, f"it cannot be stored: {error.strerror or error}")
    return found


def _take(sock: socket.socket, header: Header, chosen: Plan, directory: Directory) -> Unfinished:
    """Write the body to a temporary file with the bay's owner and mode; `Refused` if it is not what was
    announced."""
    landed = directory.new_file()
    try:
        name = algorithm(header.digest)
        count, digest = digest_flow(sock.recv_into, _writer(landed.descriptor), header.size, name)
        if count != header.size:
            raise Refused(f"the data ended {header.size - count} bytes too early")
        if digest != header.digest:
            raise Refused(
                f"what came is not what was announced ({name}): the data file was changed or damaged"
            )
        chosen.bay.adopt(landed.descriptor)
        _sync(sock, landed.descriptor)
    except BaseException:
        landed.discard()
        landed.close()
        raise
    return landed


def _sync(sock: socket.socket, descriptor: int) -> None:
    """fsync, which can take minutes for a large file: the sender hears that there is still somebody here."""
    failures: list[OSError] = []

    def sync() -> None:
        try:
            os.fsync(descriptor)
        except OSError as error:
            failures.append(error)

    worker = threading.Thread(target=sync)
    worker.start()
    try:
        worker.join(_WAIT_EVERY)
        while worker.is_alive():
            _say(sock, "WAIT the file is being brought to disk")
            worker.join(_WAIT_EVERY)
    finally:
        worker.join()
    if failures:
        raise failures[0]


def _writer(descriptor: int) -> Callable[[memoryview], None]:
    """Writes blocks one after the other; the disk is at work meanwhile, not only at the end."""
    written = begun = 0

    def write(block: memoryview) -> None:
        nonlocal written, begun
        write_all(descriptor, block)
        written += len(block)
        if written - begun >= _WRITE_BACK:
            begin_writing_back(descriptor, begun, written - begun)
            begun = written

    return write


def _say(sock: socket.socket, line: str) -> None:
    sock.sendall(line.encode("utf-8", "replace") + b"\n")


def _refuse(sock: socket.socket, reason: str) -> None:
    """Tell why, and read on for a moment so that the sender, who may be writing, sees it."""
    text = "".join(c if c.isprintable() else "?" for c in reason)[:500]
    try:
        sock.settimeout(5.0)
        _say(sock, f"NO {text}")
        sock.shutdown(socket.SHUT_WR)
        drained = 0
        while drained < _DRAINED and (more := sock.recv(1 << 20)):
            drained += len(more)
    except OSError:
        pass


def _peer(sock: socket.socket) -> str:
    try:
        return str(sock.getpeername()[0])
    except OSError:
        return "a peer that has gone"
