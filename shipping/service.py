"""The receiving side of a host: contact service and transfers (``shipping_server -receiver``).

One process listens, on the contact port for first contacts (`cyrus_sync.shipping.contact`) and questions
(`cyrus_sync.shipping.question`) and, from the first contact on, on a transfer port (of the range MIN to MAX,
if it is set) for files (`cyrus_sync.shipping.transfer`); those modules begin with what is said. Strangers get
no further than the greeting: only a connection that has proved the family key is given to a child process,
which takes the file; ten children at most, the others are told to wait. So a thousand silent connections
cost a thousand timers and nothing else; `cyrus_sync.shipping.strangers` says who of them gives way.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import resource
import signal
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThreadPool

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.metrics.settings import MetricsSettings
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.shipping import children, contact, question
from cyrus_sync.shipping.aftermath import Aftermath
from cyrus_sync.shipping.children import MAX_CHILDREN
from cyrus_sync.shipping.figures import Received, ShippingFigures
from cyrus_sync.shipping.greeting import NO_KEY, challenge
from cyrus_sync.shipping.listening import Endpoint, bind, tcp
from cyrus_sync.shipping.loop import own_reactor
from cyrus_sync.shipping.receive import arrivals, job_of
from cyrus_sync.shipping.site import Site
from cyrus_sync.shipping.strangers import Questions, SpokenOf, Strangers, most_strangers
from cyrus_sync.shipping.talk import Talk
from cyrus_sync.shipping.workers import ChildDied, Workers

HANDSHAKE = 10.0
"""Seconds that a connection has to prove the key."""

_WAIT_EVERY = 10.0
_NO_PORT_TRIES = 3
_HOUR = 3600.0

Serve = Callable[[Talk], Coroutine[Any, Any, None]]


class Service:
    """Everything that listens."""

    def __init__(self, site: Site, reactor: Any) -> None:
        self.site = site
        self._reactor = reactor
        self._slots = DeferredSemaphore(MAX_CHILDREN)
        self._workers = Workers(reactor, lambda: children.start(site))
        self._aftermath = Aftermath(site, reactor)
        self._strangers: Strangers[Talk] = Strangers()
        self._spoken_of = SpokenOf()
        self._ports: list[Any] = []
        self._working: set[Deferred[None]] = set()
        self._idle: Deferred[None] | None = None
        self._received = Received()

    def start(self) -> None:
        """Listen. `ShippingError` without a key, `ConfigError` for an address that cannot be listened on, or
        for certificates that cannot be used."""
        site, reactor = self.site, self._reactor
        site.key  # noqa: B018 - say now that it is missing, not at the first contact
        if site.server_tls:
            from cyrus_sync.common.wire.tls import ServerTLS

            ServerTLS(site.server_tls)
        for bay in site.all_bays():
            bay.ready()
        _raise_file_limit()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._strangers.most = most_strangers(limit, len(os.listdir("/proc/self/fd")))  # noqa: PTH208
        for endpoint in [bind(text, site.contact_port) for text in site.listen]:
            with contextlib.closing(endpoint):
                transfers = _TransferPort(self, endpoint)
                self.listen(endpoint.family, endpoint.contact, functools.partial(self._contact, transfers))
                datagrams = _Contacts(self, transfers)
                number = endpoint.datagrams.fileno()
                self._ports.append(reactor.adoptDatagramPort(number, endpoint.family, datagrams))
        self._workers.keep_one()
        house = LoopingCall(lambda: self.work(self._aftermath.keep_house()))
        house.clock = reactor
        house.start(_HOUR)
        reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(self._end()))

    def renew(self) -> None:
        """Read the configuration anew. The addresses that it listens on stay as they are."""
        before = self.site.listen, self.site.contact_port
        try:
            self.site.renew()
            self.site.key  # noqa: B018 - say now if it is missing
        except CyrusSyncError as error:
            self.site.log.error(f"the configuration stays as it was: {error}")
            return
        self.site.log.info(f"read {self.site.config_path} and {self.site.conf.path} again")
        if before != (self.site.listen, self.site.contact_port):
            self.site.log.error("multisite_listen and multisite_contact_port count from the next start on")

    def listen(self, family: int, sock: Any, serve: Serve) -> int:
        """Have `serve` talk to whoever connects to a listening socket; its port."""

        def made(talk: Talk) -> None:
            self._strangers.make_room(talk.peer)
            self._strangers.add(talk, talk.peer)
            talk.until(HANDSHAKE)
            self.work(self._guarded(serve(talk), talk))

        factory = Factory.forProtocol(lambda: Talk(self._reactor, made))
        factory.noisy = False
        port = self._reactor.adoptStreamPort(sock.fileno(), family, factory)
        self._ports.append(port)
        return int(port.getHost().port)

    def work(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it, and stop no sooner than it is done."""
        working = Deferred.fromCoroutine(work)
        self._working.add(working)
        working.addBoth(self._done, working)

    def received(self) -> Received:
        """What has come so far, and who stands at the door now."""
        return replace(self._received, strangers=len(self._strangers))

    def _done(self, result: Any, working: Deferred[None]) -> None:
        self._working.discard(working)
        if result is not None:
            self.site.log.error(f"something went wrong: {result.value!r}")
        if not self._working and self._idle is not None:
            idle, self._idle = self._idle, None
            idle.callback(None)

    async def _end(self) -> None:
        """Let the running transfers end, and what follows them."""
        for port in self._ports:
            await port.stopListening()
        for talk in self._strangers:
            talk.give_way()
        if self._working:
            self._idle = Deferred()
            await self._idle
        self._workers.end()
        self._aftermath.end()

    async def _guarded(self, work: Coroutine[Any, Any, None], talk: Talk) -> None:
        try:
            await work
        except (OSError, ValueError, CyrusSyncError):
            pass  # a stranger who said nothing, nonsense, or went away
        except Exception as error:
            self.site.log.error(f"a connection failed: {error!r}")
        finally:
            self._strangers.drop(talk)
            await talk.lose()

    # -- contact

    async def _contact(self, transfers: _TransferPort, talk: Talk) -> None:
        line = await talk.line(contact.LONGEST_LINE)
        if nonce := contact.answer_to(self.site.key, line.encode()):
            talk.say(contact.answer(self.site.key, nonce, await transfers.number()))
            return
        if contact.has_other_key(self.site.key, line) or question.has_other_key(self.site.key, line):
            self.note_other_key(talk.peer)
            talk.say(f"NO {contact.OTHER_KEY}")
            return
        asked = await question.hear(self.site.key, talk, line)
        if asked is None:
            return
        self._strangers.drop(talk)
        self.site.log.info(f"asked by {talk.peer}: {asked!r}")
        talk.until(question.PATIENCE)
        pool = self._reactor.getThreadPool()
        talk.say(await deferToThreadPool(self._reactor, pool, question.answer, self.site, asked))

    def note_other_key(self, address: str) -> None:
        """Somebody there speaks as a sender does, and has not our key. Said now and then."""
        if self._spoken_of.is_new(address, self._reactor.seconds()):
            self.site.log.error(f"{address} asks to send a file, and {NO_KEY}")

    # -- transfers

    async def transfer(self, talk: Talk) -> None:
        """Greet, and give the connection to a child."""
        greeted = await challenge(talk, self.site, await talk.line(contact.LONGEST_LINE))
        if greeted is None:
            return
        talk.until(None)
        self._strangers.drop(talk)
        await self._slot(talk)
        try:
            if not talk.alive:
                return
            connection = talk.detach(self._reactor)
            try:
                said = self._workers.do(job_of(greeted), connection)
            finally:
                os.close(connection)
            arrived = list(arrivals(await said))
        except (ChildDied, OSError) as error:
            self.site.log.error(f"the child that took a file from {talk.peer} has failed: {error}")
            self._received.failures += 1
            return
        finally:
            self._slots.release()
        for one in arrived:
            self._received.files += 1
            self._received.returned += one.order.returning
            await self._aftermath.follow(one)

    async def _slot(self, talk: Talk) -> None:
        """Wait until there are fewer than ten children at work."""
        still_here = LoopingCall(talk.say, "WAIT others are being served")
        still_here.clock = self._reactor
        still_here.start(_WAIT_EVERY, now=False)
        try:
            await self._slots.acquire()
        finally:
            still_here.stop()


class _TransferPort:
    """Where an endpoint takes files. It is listened on from the first contact on."""

    def __init__(self, service: Service, endpoint: Endpoint) -> None:
        self._service = service
        self._family, self._host = endpoint.family, endpoint.host
        self._opening = DeferredLock()
        self._number = 0

    async def number(self) -> int:
        """The port; 0 if none of the range is free."""
        await self._opening.acquire()
        try:
            for tried in range(_NO_PORT_TRIES):
                if self._number or self._open():
                    return self._number
                if tried < _NO_PORT_TRIES - 1:
                    await deferLater(self._service._reactor, 1.0)
        finally:
            self._opening.release()
        self._service.site.log.error("no port from CLEARCASE_MIN_PORT to CLEARCASE_MAX_PORT is free")
        return 0

    def _open(self) -> bool:
        conf = self._service.site.conf
        wanted = range(conf.min_port, conf.max_port + 1) if conf.min_port and conf.max_port else range(1)
        for port in wanted:
            try:
                with tcp(self._family, self._host, port) as sock:
                    self._number = self._service.listen(self._family, sock, self._service.transfer)
                    return True
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
        return False


class _Contacts(DatagramProtocol):
    """First contacts by UDP."""

    transport: Any

    def __init__(self, service: Service, transfers: _TransferPort) -> None:
        self._service = service
        self._transfers = transfers
        self._questions = Questions()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        service = self._service
        nonce = contact.answer_to(service.site.key, datagram[: contact.LONGEST_LINE])
        if not nonce and contact.has_other_key(service.site.key, datagram.decode("ascii", "replace")):
            service.note_other_key(str(addr[0]))
        if nonce and self._questions.is_answered(str(addr[0]), nonce, service._reactor.seconds()):
            service.work(self._answer(nonce, addr))

    async def _answer(self, nonce: str, addr: Any) -> None:
        reply = contact.answer(self._service.site.key, nonce, await self._transfers.number())
        if self.transport is not None:
            with contextlib.suppress(OSError):
                self.transport.write(reply, addr)


def serve(site: Site, ready: Callable[[], None] = lambda: None) -> None:
    """Run the service until SIGTERM or SIGINT; SIGHUP has it read its configuration anew. `ready` is called
    when it listens."""
    with own_reactor() as reactor:
        service = Service(site, reactor)
        service.start()
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(service.renew))
        _tell_figures(service, reactor)
        reactor.callWhenRunning(ready)
        reactor.run()


def _tell_figures(service: Service, reactor: Any) -> None:
    """To whoever watches, if imapd.conf says so."""
    metrics = MetricsSettings.from_config(service.site.config, "shipping")
    if not metrics:
        return
    from cyrus_sync.common.metrics.exporter import Exporter

    figures = ShippingFigures(service.site, service.received)
    exporter = Exporter(reactor, ThreadRunner(reactor, 2), metrics, figures.look, "shipping_server")
    exporter.begin()
    reactor.addSystemEventTrigger("before", "shutdown", exporter.end)


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
