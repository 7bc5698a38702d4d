"""A master that is read as a store, and changed by a csync server that serves the same store; in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import succeed

from cyrus_sync.common.master import Master, Settlement
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.master import NativeMaster
from cyrus_sync.common.stores.replica import StoreReplica
from cyrus_sync.common.synclog.writer import ActionLog
from cyrus_sync.common.wire.dialect import Dialect
from cyrus_sync.csync.asking import Asking
from cyrus_sync.csync.line import LineDown
from cyrus_sync.csync.master import CsyncMaster
from cyrus_sync.csync.settling import Settling
from tests.sync_client.engine.world import World, finish


class ServerLine:
    """What `Line` is to a `Settling`: everything is answered at once. `fails` says before and after every
    question whether the line breaks now; `between` is called before each change."""

    server = "own.test"

    def __init__(self, world: World) -> None:
        self._world = world
        self.fails = Random(0)
        self.chance = 0.0
        self.asked: list[str] = []
        self.between: list[Any] = []
        self.swallows = False
        """Changes are answered OK, and not made."""

    @contextmanager
    def alone(self) -> Iterator[ServerSession]:
        yield ServerSession(self, self._world.session_at(self._world.master))

    def close(self) -> None:
        """Nothing is open."""


class ServerSession:
    """One connection."""

    def __init__(self, line: ServerLine, replica: StoreReplica) -> None:
        self._line = line
        self._replica = _Noting(line, replica)

    def call(self, work: Any) -> Any:
        self._break()
        answer = finish(work(self._replica))
        self._break()
        return answer

    def _break(self) -> None:
        if self._line.fails.random() < self._line.chance:
            raise LineDown("cut")


class _Noting:
    """A replica whose verbs are noted."""

    dialect = Dialect()

    def __init__(self, line: ServerLine, replica: StoreReplica) -> None:
        self._line = line
        self._replica = replica

    def __getattr__(self, name: str) -> Any:
        if name == "mailbox" and self._line.between:
            self._line.between.pop(0)()
        self._line.asked.append(name)
        if name == "mailbox" and self._line.swallows:
            return lambda update: succeed(None)
        return getattr(self._replica, name)


class WholeLine(ServerLine):
    """What `Asking` asks, too: all on one connection after the other."""

    def call(self, work: Any) -> Any:
        with self.alone() as session:
            return session.call(work)


class AskingWorld(World):
    """Engines have a `CsyncMaster` for their master."""

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(directory, **options)
        self.own = WholeLine(self)
        self.asking = Asking(self.own, self.own)  # type: ignore[arg-type]
        self.settling = Settling(self.own, ActionLog([]), self.clock)  # type: ignore[arg-type]

    def as_master(self) -> Master:
        return CsyncMaster(self.asking, self.settling)


class ThroughServer(NativeMaster):
    """Reads a store itself; a csync server changes it."""

    def __init__(self, world: SettlingWorld) -> None:
        super().__init__(world.master)
        self._settling = world.settling

    def settle(self, owner: Owner, settlement: Settlement) -> Sequence[int]:
        return self._settling.settle(self, owner, settlement)


class SettlingWorld(World):
    """Engines have a `ThroughServer` for their master."""

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(directory, **options)
        self.own = ServerLine(self)
        self.settling = Settling(self.own, ActionLog([]), self.clock)  # type: ignore[arg-type]

    def as_master(self) -> Master:
        return ThroughServer(self)
