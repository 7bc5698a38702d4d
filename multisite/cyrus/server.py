"""`OwnServer`: the csync server of the Cyrus whose spool is read, by which its mail is changed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from cyrus_sync.common.config import Config
from cyrus_sync.common.master import Master, Settlement
from cyrus_sync.common.names import Owner
from cyrus_sync.common.synclog.writer import ActionLog
from cyrus_sync.common.wire.settings import ClientSettings
from cyrus_sync.csync.line import Line, Session, Work
from cyrus_sync.csync.settling import Settling
from cyrus_sync.multisite.cyrus.loop import line_to
from cyrus_sync.multisite.errors import OnlyRead

T = TypeVar("T")


class OwnServer:
    """Nothing is connected before something is to be changed. Where `cyrus_csync` names no server every
    change is refused: `OnlyRead`. All other methods raise `csync.line.LineDown` too, where it cannot be
    reached."""

    def __init__(self, config: Config, master: Master, clock: Callable[[], float] = time.time) -> None:
        """`master` reads the spool. Raises `ConfigError`."""
        self.partition = config.defaultpartition
        self._settings = ClientSettings.of_own_server(config)
        self._actions = ActionLog.from_config(config)
        self._master = master
        self._clock = clock
        self.busy: set[str] = set()
        """Mailboxes (uniqueids) that were changed in the moment in which they were to be."""
        self._stack = contextlib.ExitStack()
        self._settling: Settling | None = None

    def check(self) -> None:
        """Raises `OnlyRead` where nothing can be changed."""
        if self._settings is None:
            raise OnlyRead

    def seconds(self) -> int:
        """The time."""
        return int(self._clock())

    def log(self, lines: list[tuple[str, ...]]) -> None:
        """Write lines of the action log. To be done before a change, as a crash may come behind it; and
        behind it, as the first line may have been read before there was anything to see."""
        self._actions.write(lines)

    def call(self, work: Work[T]) -> T:
        """One verb."""
        return self._line().call(work)

    def alone(self) -> AbstractContextManager[Session]:
        """A connection on which messages can be staged."""
        return self._line().alone()

    def settle(self, owner: Owner, settlement: Settlement) -> None:
        """As `common.master.Master.settle`."""
        self._line()
        assert self._settling is not None
        self._settling.settle(self._master, owner, settlement)

    def _line(self) -> Line:
        if self._settling is None:
            self.check()
            assert self._settings is not None
            self._settling = Settling(self._stack.enter_context(line_to(self._settings)), self._actions)
        return self._settling.line

    def close(self) -> None:
        """Hang up."""
        self._settling = None
        self._stack.close()
