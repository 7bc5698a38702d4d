"""`Exporter`: a daemon's figures, told over HTTP and written into a file, beside its work.

Nothing here stops that work: an address that cannot be had is tried again, a file that cannot be written is
complained of once. The numbers are looked at in the reactor's thread, which takes microseconds. The rest
(disks, files, encoding) is done in a thread, at most once a second however many ask.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from cyrus_sync.common.listening import CANNOT, Address, describe, listen, why_not
from cyrus_sync.common.metrics.settings import MetricsSettings
from cyrus_sync.common.metrics.sheet import Sheet, encoded, plain_text
from cyrus_sync.common.metrics.textfile import write_text_file
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.threads import Threads

_log = logging.getLogger(__name__)

FILE_SECONDS = 15.0
"""Between two versions of the file, and two tries to write it."""

TRY_AGAIN_SECONDS = 60.0
"""Until an address that could not be had is tried again."""

FRESH_SECONDS = 1.0
"""So long one sheet is told to all who ask."""

SOCKET_MODE = 0o660
"""Of a UNIX socket: nothing that is told is a secret from our own group, to which a proxy may belong."""

Fill = Callable[[Sheet], None]
"""Puts figures on a sheet. Called in a thread; may block."""

Look = Callable[[], Fill]
"""Copies what belongs to the reactor's thread, in it, and says how to put that on a sheet."""


class Exporter:
    """The figures of one program. `begin` once, `end` when the program ends."""

    def __init__(
        self,
        reactor: Reactor,
        threads: Threads,
        settings: MetricsSettings,
        look: Look,
        program: str,
        **labels: str,
    ) -> None:
        """`labels`: those of all figures."""
        self._reactor = reactor
        self._threads = threads
        self._settings = settings
        self._look = look
        self._program = program
        self._labels = labels
        self._ports: list[Any] = []
        self._timers: list[Any] = []
        self._sheet: Deferred[Sheet] | None = None
        self._made = float("-inf")
        self._complained = False
        self._ended = False
        self._writing = LoopingCall(self._write)
        self._writing.clock = cast(Any, reactor)

    def begin(self) -> None:
        """Listen, and write the file now and then."""
        for address in self._settings.listen:
            self._listen(address)
        if self._settings.file is not None:
            self._writing.start(FILE_SECONDS, now=True)

    def end(self) -> None:
        """Listen no more, and write the last state into the file. Blocks for that moment."""
        if self._ended:
            return
        self._ended = True
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        for port in self._ports:
            port.stopListening()
        if self._writing.running:
            self._writing.stop()
        if self._settings.file is not None:
            self._write_text(self._settings.file, self._filled(self._look()))

    @property
    def where(self) -> list[str]:
        """What is listened on, for people."""
        return [describe(port) for port in self._ports]

    def sheet(self) -> Deferred[Sheet]:
        """The figures of this second."""
        now = self._reactor.seconds()
        if self._sheet is None or now - self._made >= FRESH_SECONDS:
            self._made = now
            self._sheet = self._threads.run(self._filled, self._look())
        mine: Deferred[Sheet] = Deferred()

        def both(result: Sheet | Failure) -> Sheet | Failure:
            mine.callback(result)
            return result

        self._sheet.addBoth(both)
        self._sheet.addErrback(lambda _failure: None)
        return mine

    def told(self, accept: str) -> Deferred[tuple[bytes, str]]:
        """The same as text in the form that an Accept header asks for, and the type of that."""
        return self.sheet().addCallback(lambda sheet: self._threads.run(encoded, sheet, accept))

    def _filled(self, fill: Fill) -> Sheet:
        sheet = Sheet(self._program, **self._labels)
        fill(sheet)
        return sheet

    # -- over HTTP

    def _listen(self, address: Address) -> None:
        from cyrus_sync.common.metrics.pages import site  # what only who listens needs

        if self._ended:
            return
        try:
            port = listen(self._reactor, address, site(self), mode=SOCKET_MODE)
        except CANNOT as error:
            _log.error(
                "sync_metrics_listen: cannot listen on %s: %s; trying again in %d s",
                *(address, why_not(error), TRY_AGAIN_SECONDS),
            )
            self._timers = [timer for timer in self._timers if timer.active()]
            self._timers.append(self._reactor.callLater(TRY_AGAIN_SECONDS, self._listen, address))
        else:
            self._ports.append(port)
            _log.info("metrics: listening on %s", describe(port))

    # -- in a file

    def _write(self) -> Deferred[Any]:
        path = self._settings.file
        if path is None:
            return succeed(None)
        written = self.sheet().addCallback(lambda sheet: self._threads.run(self._write_text, path, sheet))
        return written.addErrback(lambda failure: _log.error("metrics: %s", failure.getTraceback()))

    def _write_text(self, path: Path, sheet: Sheet) -> None:
        try:
            write_text_file(path, plain_text(sheet))
        except OSError as error:
            if not self._complained:
                self._complained = True
                _log.error("sync_metrics_file: cannot write %s: %s", path, error.strerror)
        else:
            self._complained = False
