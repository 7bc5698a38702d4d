"""Being woken by the log itself: inotify on the channel's directory.

A writer opens the log, locks it, writes: the write is what wakes us (its creation alone would find an
empty file), or a file that is moved there. Where inotify is not to be had (no more watches, another
system) the loop's own look once a second is all there is, and changes wait that much longer.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from cyrus_sync.common.commands import reason
from cyrus_sync.common.reactor import Reactor

_log = logging.getLogger(__name__)


class Watch(Protocol):
    """Something that calls back when a file is written to."""

    def start(self, changed: Callable[[], None]) -> None: ...

    def stop(self) -> None: ...


class NoWatch:
    """Nothing wakes us but the clock."""

    def start(self, changed: Callable[[], None]) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""


class FileWatch:
    """Watches `path`, which need not exist, through its directory, which must."""

    def __init__(self, reactor: Reactor, path: Path) -> None:
        self._reactor = reactor
        self._path = path
        self._notifier: Any = None

    def start(self, changed: Callable[[], None]) -> None:
        from twisted.internet import inotify
        from twisted.python._inotify import INotifyError
        from twisted.python.filepath import FilePath

        name = os.fsencode(self._path.name)
        try:
            self._notifier = inotify.INotify(self._reactor)
            self._notifier.startReading()
            self._notifier.watch(
                FilePath(str(self._path.parent)),
                inotify.IN_MODIFY | inotify.IN_MOVED_TO,
                callbacks=[lambda _ignored, path, _mask: changed() if path.basename() == name else None],
            )
        except (OSError, INotifyError) as error:
            _log.warning("no inotify on %s (%s): looking once a second", self._path.parent, reason(error))
            self.stop()

    def stop(self) -> None:
        if self._notifier is not None:
            notifier, self._notifier = self._notifier, None
            notifier.stopReading()
            notifier.connectionLost(None)
