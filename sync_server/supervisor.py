"""`sync_workers`: several processes behind one listener, so that a replica uses all processors.

The supervisor has the ports. It accepts each connection and hands it to the worker that has the fewest from
that address, then the fewest at all (`SCM_RIGHTS`, over a socket that each of the two has one end of); so two
clients are served by two processes, and limits that each worker holds for its share hold for all. It imports
no reactor and opens no store, and a worker is a fork of it.

* A worker that ends is replaced. One that does so again and again is begun anew after a time that doubles, up
  to half a minute; the others serve meanwhile.
* SIGHUP reads imapd.conf again and begins new workers. When all of them are ready the old ones are told to
  stop: they answer what they have read, and say BYE. A file with a mistake, or workers that do not become
  ready, change nothing.
* Workers whose supervisor is gone stop as at SIGTERM.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import field
from typing import Any

import sdnotify

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.config import Config
from cyrus_sync.common.descriptors import raise_soft_limit
from cyrus_sync.common.errors import EX_OK, EX_SOFTWARE, ConfigError, CyrusSyncError
from cyrus_sync.common.listening import CANNOT, Address, bind, why_not
from cyrus_sync.common.wire.guessing import origin
from cyrus_sync.sync_server.settings import ServerSettings

log = logging.getLogger("sync_server")

NUMBER = struct.Struct("!Q")
READY = b"R"
GONE = b"G"
"""What a worker tells: that it is ready, and (with the number) that a connection has ended."""

LONGEST_PAUSE = 30.0
"""Seconds until a worker that has ended several times is begun anew, at most."""

SOUND_AFTER = 60.0
"""Seconds after which a worker that ends is no longer one that ends again and again."""

PATIENCE = 45.0
"""Seconds that workers have to stop before they are killed. They cut off what is not done after 30."""

_ACCEPT_AGAIN = frozenset({errno.EAGAIN, errno.ECONNABORTED, errno.EPROTO, errno.EINTR})

Load = Callable[[], tuple[Config, ServerSettings]]
Work = Callable[[Config, ServerSettings, "Share"], int]


@dataclass(frozen=True, slots=True)
class Share:
    """What a worker is of the whole: its number, from 1, of how many, and its end of the socket."""

    number: int
    workers: int
    control: socket.socket


@dataclass(eq=False, slots=True)
class _Worker:
    pid: int
    number: int
    control: socket.socket
    begun: float
    generation: int
    ready: bool = False
    stopping: bool = False
    connections: dict[int, str] = field(default_factory=dict)
    addresses: Counter[str] = field(default_factory=Counter)


class Supervisor:
    """`run` once, in a process that has no threads and no reactor."""

    def __init__(self, load: Load, work: Work) -> None:
        """`load` reads imapd.conf; `work` is a worker's life, called in its process."""
        self._load = load
        self._work = work
        self._config, self._settings = load()
        self._selector = selectors.DefaultSelector()
        self._listeners: list[socket.socket] = []
        self._accepting = False
        self._workers: list[_Worker] = []
        self._due: list[tuple[float, int]] = []
        """When a worker of which number is to be begun."""
        self._ends: Counter[int] = Counter()
        self._generation = 0
        self._before = self._config, self._settings, self._generation
        """What counts again if new workers do not become ready."""
        self._was_ready = False
        self._numbers = 0
        self._stopping = False
        self._kill_at = 0.0
        self._status = EX_OK
        self._signals: list[int] = []
        self._systemd = sdnotify.SystemdNotifier()

    def run(self) -> int:
        """Serve until a signal; the exit status. Raises `ConfigError` where an address cannot be had."""
        raise_soft_limit()
        self._open(self._settings.listen)
        try:
            self._watch_signals()
            for number in range(1, self._settings.workers + 1):
                self._begin(number)
            while self._workers or (self._due and not self._stopping):
                self._turn()
        finally:
            self._close_listeners()
        log.info("stopped")
        return self._status

    # -- listening

    def _open(self, addresses: tuple[Address, ...]) -> None:
        for address in addresses:
            try:
                listener = bind(address)
            except CANNOT as error:
                self._close_listeners()
                raise ConfigError(f"sync_listen: cannot listen on {address}: {why_not(error)}") from None
            listener.setblocking(False)
            self._listeners.append(listener)
            log.info("listening on %s", address)

    def _close_listeners(self) -> None:
        self._accept(False)
        for listener in self._listeners:
            path = listener.getsockname() if listener.family == socket.AF_UNIX else ""
            listener.close()
            if path:
                with contextlib.suppress(OSError):
                    os.unlink(path)  # noqa: PTH108 (a str, as the socket has it)
        self._listeners.clear()

    def _accept(self, wanted: bool) -> None:
        """Take connections, or leave them in the queue."""
        if wanted == self._accepting:
            return
        self._accepting = wanted
        for listener in self._listeners:
            if wanted:
                self._selector.register(listener, selectors.EVENT_READ, self._accept_one)
            else:
                self._selector.unregister(listener)

    def _accept_one(self, listener: socket.socket) -> None:
        try:
            connection, peer = listener.accept()
        except OSError as error:
            if error.errno not in _ACCEPT_AGAIN:
                log.error("cannot accept a connection: %s", error.strerror)
                time.sleep(0.1)
            return
        with connection:
            self._dispatch(connection, _origin(connection, peer))

    def _dispatch(self, connection: socket.socket, address: str) -> None:
        self._numbers += 1
        able = [one for one in self._workers if one.ready and not one.stopping]
        for worker in sorted(
            able, key=lambda one: (one.addresses[address], len(one.connections), one.number)
        ):
            try:
                socket.send_fds(
                    worker.control, [NUMBER.pack(self._numbers)], [connection.fileno()], socket.MSG_DONTWAIT
                )
            except OSError:
                continue  # it is about to end, or takes nothing: the next one
            worker.connections[self._numbers] = address
            worker.addresses[address] += 1
            return
        log.error("no worker takes a connection [client=%s]", address or "unix socket")

    # -- workers

    def _begin(self, number: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if not pid:
            self._be_worker(Share(number, self._settings.workers, theirs), ours)
        theirs.close()
        worker = _Worker(pid, number, ours, time.monotonic(), self._generation)
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, lambda _: self._hear(worker))
        log.info("worker %d is process %d", number, pid)

    def _be_worker(self, share: Share, other_end: socket.socket) -> None:
        status = EX_SOFTWARE
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            self._selector.close()
            other_end.close()
            for worker in self._workers:
                worker.control.close()
            for listener in self._listeners:
                listener.close()
            os.environ.pop("NOTIFY_SOCKET", None)
            status = self._work(self._config, self._settings, share)
        except CyrusSyncError as error:
            log.critical("worker %d: %s", share.number, error)
            status = error.exit_status
        except BaseException:
            log.critical("internal error", exc_info=True)
        finally:
            logging.shutdown()
            os._exit(status)

    def _hear(self, worker: _Worker) -> None:
        try:
            told = worker.control.recv(64, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            told = b""
        if not told:
            self._selector.unregister(worker.control)
        elif told == READY:
            worker.ready = True
            self._became_ready()
        elif told[:1] == GONE:
            address = worker.connections.pop(NUMBER.unpack(told[1:])[0], None)
            if address is not None:
                worker.addresses[address] -= 1
                if not worker.addresses[address]:
                    del worker.addresses[address]

    def _became_ready(self) -> None:
        present = [one for one in self._workers if one.generation == self._generation]
        if self._stopping or sum(one.ready for one in present) < self._settings.workers:
            self._accept(not self._stopping and any(one.ready and not one.stopping for one in self._workers))
            return
        for old in self._workers:
            if old.generation != self._generation and not old.stopping:
                self._stop(old)
        self._accept(True)
        if not self._was_ready:
            log.info("ready: %d workers", self._settings.workers)
        self._was_ready = True
        where = ", ".join(map(str, self._settings.listen))
        self._systemd.notify(f"READY=1\nSTATUS=listening on {where}, {self._settings.workers} workers")

    def _stop(self, worker: _Worker) -> None:
        worker.stopping = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGTERM)

    def _reap(self) -> None:
        for worker in list(self._workers):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, status: int) -> None:
        self._workers.remove(worker)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.control)
        worker.control.close()
        if worker.stopping or self._stopping:
            return
        text = f"signal {-status}" if status < 0 else f"exit status {status}"
        log.error("worker %d (process %d) has ended: %s", worker.number, worker.pid, text)
        if not worker.ready and worker.generation != 0 and self._give_the_new_up(worker.generation):
            return
        if worker.generation != self._generation:
            return  # others are about to take its place
        if not self._was_ready and not worker.ready and status > 0:
            self._status = status  # the same will happen to every other one
            self._stop_all()
            return
        if worker.ready and time.monotonic() - worker.begun > SOUND_AFTER:
            self._ends[worker.number] = 0
        self._ends[worker.number] += 1
        again = self._ends[worker.number] - 1
        pause = min(2.0 ** (again - 1), LONGEST_PAUSE) if again else 0.0
        self._due.append((time.monotonic() + pause, worker.number))
        self._accept(any(one.ready and not one.stopping for one in self._workers))

    # -- signals

    def _watch_signals(self) -> None:
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda got, _frame: self._signals.append(got))
        self._selector.register(reading, selectors.EVENT_READ, self._drain)

    @staticmethod
    def _drain(reading: Any) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(reading, 4096)

    def _turn(self) -> None:
        now = time.monotonic()
        for due, number in list(self._due):
            if due <= now and not self._stopping:
                self._due.remove((due, number))
                self._begin(number)
        soon = min((due for due, _ in self._due), default=now + 3600)
        if self._stopping:
            soon = min(soon, max(self._kill_at, now + 0.5))
        for key, _ in self._selector.select(max(0.0, soon - now)):
            key.data(key.fileobj)
        signals, self._signals = self._signals, []
        for number in signals:
            if number == signal.SIGHUP:
                self._reload()
            elif number != signal.SIGCHLD:
                log.info("%s: stopping, %d workers", signal.Signals(number).name, len(self._workers))
                self._stop_all()
        self._reap()
        if self._stopping and time.monotonic() > self._kill_at:
            for worker in self._workers:
                log.warning("worker %d is killed: still busy %g s after the signal", worker.number, PATIENCE)
                os.kill(worker.pid, signal.SIGKILL)

    def _stop_all(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._kill_at = time.monotonic() + PATIENCE
        self._systemd.notify("STOPPING=1")
        self._close_listeners()
        for worker in self._workers:
            self._stop(worker)

    # -- reading imapd.conf again

    def _reload(self) -> None:
        if self._stopping:
            return
        try:
            config, settings = self._load()
        except CyrusSyncError as error:
            log.error("SIGHUP: going on with what was read before: %s", error)
            return
        if settings.listen != self._settings.listen:
            log.warning("SIGHUP: sync_listen has changed: that needs a restart")
        self._systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._before = self._config, self._settings, self._generation
        self._config, self._settings = config, settings
        self._generation += 1
        self._due.clear()
        log.info("SIGHUP: %d new workers begin", settings.workers)
        for number in range(1, settings.workers + 1):
            self._begin(number)

    def _give_the_new_up(self, generation: int) -> bool:
        """A worker of a new generation does not become ready: the old ones stay. False if there are none."""
        old = [one for one in self._workers if one.generation != generation and not one.stopping]
        if not old or generation != self._generation:
            return False
        log.error("SIGHUP: the new workers do not become ready: going on with the old ones")
        self._config, self._settings, self._generation = self._before
        for worker in self._workers:
            if worker.generation == generation:
                self._stop(worker)
        self._systemd.notify("READY=1")
        return True


def _origin(connection: socket.socket, peer: Any) -> str:
    if connection.family == socket.AF_UNIX:
        return ""
    host = f"[{peer[0]}]" if ":" in peer[0] else peer[0]
    return origin(f"{host}:{peer[1]}")
