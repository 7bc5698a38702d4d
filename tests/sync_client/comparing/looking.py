"""A comparison within this process: what it finds of owners, and how long it would have waited."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.stores.master import NativeMaster
from cyrus_sync.sync_client.comparing.advice import Terms
from cyrus_sync.sync_client.comparing.comparer import Comparer, Depth, Limits, Options
from cyrus_sync.sync_client.comparing.findings import OwnerFindings
from tests.sync_client.engine.lines import InlineThreads
from tests.sync_client.engine.world import World, finish


@dataclass
class Looking:
    """A comparison of a world's two ends."""

    world: World
    depth: Depth = Depth.CRCS
    capabilities: frozenset[str] = frozenset()
    of_cyrus: bool = False
    settles: bool = False
    found: list[OwnerFindings] = field(default_factory=list)
    failed: list[tuple[Owner, CyrusSyncError]] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)
    meanwhile: Callable[[], object] = lambda: None
    """What happens while it waits."""
    options: dict[str, Any] = field(default_factory=dict)

    def comparer(self) -> Comparer:
        line = self.world.connect()
        line.replica.capabilities |= self.capabilities
        options = Options(
            depth=self.depth,
            terms=self.terms,
            tell=self._tell,
            fail=self._fail,
            owner_turn=lambda: self._wait(0),
            octets_turn=lambda _: self._wait(0),
            pause=self._wait,
            names=NAMES,
            **self.options,
        )
        return Comparer(NativeMaster(self.world.master), line, InlineThreads(), options, self.limits)

    def terms(self, ours: bool) -> Terms:
        return Terms(
            (), "master.example", "replica.example", self.of_cyrus, ours, _external, settles=self.settles
        )

    def user(self, userid: str = "alice") -> OwnerFindings:
        """What is found of a user."""
        finish(self.comparer().user(userid))
        return self.found[-1]

    async def _tell(self, findings: OwnerFindings) -> None:
        self.found.append(findings)

    async def _fail(self, owner: Owner, error: CyrusSyncError) -> None:
        self.failed.append((owner, error))

    async def _wait(self, seconds: float) -> None:
        if seconds:
            self.waited.append(seconds)
            self.meanwhile()


Wait = Callable[[float], Awaitable[None]]
NAMES = Namespace()
_external = NAMES.external
