"""The receiving side of a host: contact service and transfers (``shipping_server -receiver``).

One process listens, on the contact port for first contacts (`shipping.contact`) and questions
(`shipping.question`) and, from the first contact on, on a transfer port (of the range MIN to MAX,
if it is set) for files (`shipping.transfer`); those modules begin with what is said. Strangers get
no further than the greeting: only a connection that has proved the family key is given to a child process,
which takes the file; ten children at most, the others are told to wait. So a thousand silent connections
cost a thousand timers and nothing else; `shipping.strangers` says who of them gives way.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import gc
import json
import os
import resource
import secrets
import signal
import socket
from collections.abc import Callable, Collection, Coroutine, Iterator
from pathlib import Path
from typing import Any

from cyrus_sync.common.files import write_all
from cyrus_sync.common.numbers import decimal
from cyrus_sync.shipping import contact, question
from cyrus_sync.shipping.arrival import recover
from cyrus_sync.shipping.children import MAX_CHILDREN, fork
from cyrus_sync.shipping.completing import Arrived
from cyrus_sync.shipping.handler import (
    handler_command,
    imports_by_itself,
    is_to_import,
    packets_wait,
    run_handler,
    run_import,
)
from cyrus_sync.shipping.listening import Endpoint, bind, tcp
from cyrus_sync.shipping.order import Order
from cyrus_sync.shipping.receive import receive
from cyrus_sync.shipping.returns import welcome_home
from cyrus_sync.shipping.site import Site
from cyrus_sync.shipping.strangers import Strangers, most_strangers
from cyrus_sync.shipping.streams import read_exactly, read_line, readable
from cyrus_sync.shipping.transfer import LONGEST_HEADER, Proofs

HANDSHAKE = 10.0
"""Seconds that a connection has to prove the key."""

_WAIT_EVERY = 10.0
_NO_PORT_TRIES = 3
_DAY = 86400.0


class Service:
    """Everything that listens. `ready` is called when it does."""

    def __init__(self, site: Site, ready: Callable[[], None] = lambda: None) -> None:
        self.site = site
        self._ready = ready
        self._slots = asyncio.Semaphore(MAX_CHILDREN)
        self._handlers = asyncio.Semaphore(MAX_CHILDREN)
        self._importing = asyncio.Lock()
        self._import_is_due = False
        self._strangers = Strangers()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._working: set[asyncio.Task[None]] = set()
        self._listeners: set[asyncio.Task[Any]] = set()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then let the running transfers end."""
        self.site.key  # noqa: B018 - say now that it is missing, not at the first contact
        for bay in self.site.all_bays():
            bay.ready()
        _raise_file_limit()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._strangers.most = most_strangers(limit, len(os.listdir("/proc/self/fd")))  # noqa: PTH208
        endpoints = [bind(text, self.site.contact_port) for text in self.site.listen]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        for endpoint in endpoints:
            self._listen(self._accept(endpoint.contact, self._contact, endpoint))
            self._listen(self._datagrams(endpoint))
        self._listen(self._keep_house())
        self._ready()
        await self._stop.wait()
        await _end([*self._listeners, *self._strangers, *self._tasks])
        # Not earlier: the loop still has the numbers of these sockets until whoever waits on them has ended.
        # It would take a new pipe that gets one of the numbers for what it watches already, and never look.
        for endpoint in endpoints:
            for sock in (endpoint.contact, endpoint.datagrams, endpoint.transfers):
                if sock is not None:
                    sock.close()
        while self._working:
            await asyncio.wait(set(self._working))

    # -- listening

    def _listen(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._listeners.add(task)
        task.add_done_callback(self._listener_ended)

    def _listener_ended(self, task: asyncio.Task[None]) -> None:
        self._listeners.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.site.log.complain(f"a listener has failed: {error!r}")
            self._stop.set()

    async def _accept(
        self,
        listener: socket.socket,
        serve: Callable[[Endpoint, socket.socket], Coroutine[Any, Any, None]],
        endpoint: Endpoint,
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, peer = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno not in (
                    errno.EMFILE,
                    errno.ENFILE,
                    errno.ENOBUFS,
                    errno.ENOMEM,
                    errno.ECONNABORTED,
                ):
                    raise
                await asyncio.sleep(0.1)
                continue
            sock.setblocking(False)
            address = str(peer[0])
            self._strangers.make_room(address)
            task = asyncio.ensure_future(self._guarded(serve(endpoint, sock), sock))
            self._strangers.add(task, address)
            self._working.add(task)
            task.add_done_callback(self._ended)
            # Here, too: one that gives way before it has begun comes to no `finally` of its own.
            task.add_done_callback(functools.partial(_close, sock))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._strangers.drop(task)
        self._working.discard(task)

    async def _guarded(self, work: Coroutine[Any, Any, None], sock: socket.socket) -> None:
        try:
            await work
        except (TimeoutError, ConnectionError, OSError, ValueError, asyncio.CancelledError):
            pass  # a stranger who said nothing, nonsense, or went away
        except Exception as error:
            self.site.log.error(f"a connection failed: {error!r}")
        finally:
            sock.close()

    # -- contact

    async def _datagrams(self, endpoint: Endpoint) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                line, peer = await loop.sock_recvfrom(endpoint.datagrams, contact.LONGEST_LINE)
            except OSError:
                continue  # an ICMP error for an earlier answer
            nonce = contact.answer_to(self.site.key, line)
            if nonce:
                task = asyncio.ensure_future(self._answer_datagram(endpoint, nonce, peer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _answer_datagram(self, endpoint: Endpoint, nonce: str, peer: Any) -> None:
        reply = contact.answer(self.site.key, nonce, await self._transfer_port(endpoint))
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendto(endpoint.datagrams, reply, peer)

    async def _contact(self, endpoint: Endpoint, sock: socket.socket) -> None:
        asked = None
        async with asyncio.timeout(HANDSHAKE):
            line = await read_line(sock, contact.LONGEST_LINE)
            if nonce := contact.answer_to(self.site.key, line):
                reply = contact.answer(self.site.key, nonce, await self._transfer_port(endpoint))
                await asyncio.get_running_loop().sock_sendall(sock, reply)
            elif nonce := question.nonce_of(self.site.key, line):
                asked = await question.hear(self.site.key, sock, nonce)
        if asked:
            self._no_stranger()
            self.site.log.info(f"asked by {sock.getpeername()[0]}: {asked.text!r}")
            await question.answer(self.site, sock, asked)

    def _no_stranger(self) -> None:
        """The connection that is being served has proved the key, and gives way to nobody."""
        if task := asyncio.current_task():
            self._strangers.drop(task)

    async def _transfer_port(self, endpoint: Endpoint) -> int:
        """The port on which the endpoint takes files; 0 if none of the range is free."""
        async with endpoint.opening:
            tries = 0
            while endpoint.transfers is None:
                for port in self._ports():
                    try:
                        endpoint.transfers = tcp(endpoint.family, endpoint.host, port)
                        break
                    except OSError as error:
                        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                            raise
                else:
                    tries += 1
                    if tries == _NO_PORT_TRIES:
                        self.site.log.error("no port from CLEARCASE_MIN_PORT to CLEARCASE_MAX_PORT is free")
                        return 0
                    await asyncio.sleep(1.0)
                    continue
                self._listen(self._accept(endpoint.transfers, self._transfer, endpoint))
            return int(endpoint.transfers.getsockname()[1])

    def _ports(self) -> range:
        conf = self.site.conf
        return range(conf.min_port, conf.max_port + 1) if conf.min_port and conf.max_port else range(1)

    # -- transfers

    async def _transfer(self, endpoint: Endpoint, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        key = self.site.key
        async with asyncio.timeout(HANDSHAKE):
            words = (await read_line(sock, 200)).decode("ascii", "replace").split()
            if len(words) != 3 or words[:2] != ["SHIP1", "HELLO"] or len(words[2]) != 64:
                return
            proofs = Proofs(key, words[2], secrets.token_hex(32))
            challenge = f"SHIP1 CHALLENGE {proofs.server} {proofs.make('receiver')}\n"
            await loop.sock_sendall(sock, challenge.encode())
            words = (await read_line(sock, 200)).decode("ascii", "replace").split()
            if len(words) != 4 or words[:2] != ["SHIP1", "HEADER"]:
                return
            length = decimal(words[2], LONGEST_HEADER)
            if length is None:
                return
            header = await read_exactly(sock, length)
        if not proofs.hold(words[3], "sender", header):
            peer = sock.getpeername()[0]
            self.site.log.error(f"a sender at {peer} does not have our family key; nothing was taken")
            await loop.sock_sendall(sock, b"NO the family key is not ours\n")
            return
        self._no_stranger()
        await self._wait_for_slot(sock)
        try:
            arrived = await self._in_child(
                lambda reply: self._receive_in_child(sock, proofs, header, reply), sock
            )
        finally:
            self._slots.release()
        for one in _decode_arrived(arrived):
            await self._after(one)

    async def _wait_for_slot(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        got = asyncio.ensure_future(self._slots.acquire())
        try:
            while not got.done():
                await asyncio.wait({got}, timeout=_WAIT_EVERY)
                if not got.done():
                    await loop.sock_sendall(sock, b"WAIT others are being served\n")
        except BaseException:
            if not got.cancel():
                self._slots.release()
            raise

    def _receive_in_child(self, sock: socket.socket, proofs: Proofs, header: bytes, reply: int) -> int:
        sock.setblocking(True)
        for arrived in receive(self.site, sock, proofs, header):
            with contextlib.suppress(BrokenPipeError):  # the service was killed meanwhile
                write_all(reply, memoryview(_encode_arrived(arrived)))
        return 0

    async def _after(self, arrived: Arrived) -> None:
        """What follows an arrival, in a child of its own: mail, and the receipt handler or an import."""
        if imports_by_itself(self.site) and is_to_import(self.site, arrived):
            await self._import()
        if not arrived.order.returning and handler_command(self.site, arrived) is None:
            return
        async with self._handlers:
            await self._in_child(lambda _reply: self._after_in_child(arrived))

    async def _import(self) -> None:
        """One import after the other; one that has not begun will find all that has come until it does."""
        if self._import_is_due:
            return
        self._import_is_due = True
        async with self._importing:
            self._import_is_due = False
            await self._in_child(lambda _reply: self._import_in_child())

    def _import_in_child(self) -> int:
        run_import(self.site)
        return 0

    def _after_in_child(self, arrived: Arrived) -> int:
        if arrived.order.returning:
            if arrived.here:
                welcome_home(self.site, arrived.order, arrived.here)
        else:
            run_handler(self.site, arrived)
        return 0

    async def _in_child(self, job: Callable[[int], int], sock: socket.socket | None = None) -> bytes:
        """Run `job` in a child process that has no other connection open; what it writes to the pipe."""
        reading, writing = os.pipe()
        keep = {0, 1, 2, writing, *([sock.fileno()] if sock else [])}

        def alone() -> int:
            gc.disable()  # nothing may close a number that stands for another file by now
            for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
                if number not in keep:
                    with contextlib.suppress(OSError):
                        os.close(number)
            return job(writing)

        pid = fork(alone)
        os.close(writing)
        if sock:
            sock.close()
        os.set_blocking(reading, False)
        descriptor = os.pidfd_open(pid)
        said = b""
        try:
            # Read first: a child that has more to say than a pipe holds does not end before it is heard.
            while True:
                await readable(reading)
                more = os.read(reading, 1 << 16)
                if not more:
                    break
                said += more
            await readable(descriptor)
        finally:
            os.close(descriptor)
            os.close(reading)
        os.waitpid(pid, 0)  # noqa: ASYNC222 (its descriptor was readable: it is over)
        return said

    async def _keep_house(self) -> None:
        begins = True
        while True:
            for arrived in recover(self.site):
                await self._after(arrived)
            if begins and imports_by_itself(self.site) and packets_wait(self.site):
                await self._import()  # they came just before the service stopped
            begins = False
            await asyncio.sleep(_DAY)


def serve(site: Site, ready: Callable[[], None] = lambda: None) -> None:
    """Run the service until it is told to stop."""

    async def main() -> None:
        await Service(site, ready).run()

    asyncio.run(main())


def _close(sock: socket.socket, _task: asyncio.Task[None]) -> None:
    sock.close()


async def _end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel, and wait until all have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _encode_arrived(arrived: Arrived) -> bytes:
    order = arrived.order.text().decode("utf-8", "surrogateescape")
    paths = [os.fsdecode(path) if path else None for path in (arrived.here, arrived.order_path)]
    return json.dumps([order, *paths]).encode("ascii") + b"\n"


def _decode_arrived(data: bytes) -> Iterator[Arrived]:
    for line in data.splitlines():
        order, here, order_path = json.loads(line)
        yield Arrived(
            Order.parse(order.encode("utf-8", "surrogateescape")),
            Path(here) if here else None,
            Path(order_path) if order_path else None,
        )


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
