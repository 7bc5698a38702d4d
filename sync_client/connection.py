"""What a run needs of a connection: the seam between the loops and the wire.

`EngineConnection` is one connection with an engine on it; `Connector` makes them. The real ones are in
`sync_client.connecting`; tests drive the loops with fakes that only write down what was called.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from cyrus_sync.sync_client.work import Item, Kind


class EngineVerbs(Protocol):
    """The work that one connection can do. Each raises `CyrusSyncError` with its address."""

    async def user(self, userid: str) -> Any: ...

    async def meta(self, userid: str) -> Any: ...

    async def agreeing(self, here: Mapping[str, bytes] | None = None) -> Collection[str]: ...

    async def alone(self, prefix: str, here: Collection[str]) -> Any: ...

    async def mailboxes(self, names: Sequence[str]) -> Any: ...

    async def quota(self, root: str) -> Any: ...

    async def annotation(self, mailbox: str) -> Any: ...

    async def seen(self, userid: str, uniqueid: str) -> Any: ...

    async def sub(self, userid: str, mailbox: str) -> Any: ...

    async def unmailbox(self, name: str) -> Any: ...

    async def unuser(self, userid: str) -> Any: ...


class EngineConnection(Protocol):
    """One connection, logged in."""

    @property
    def engine(self) -> EngineVerbs: ...

    def restart(self) -> Deferred[None]:
        """RESTART: the replica forgets what is staged. Takes effect in the order of the calls."""

    def noop(self) -> Deferred[None]: ...

    def tell(self, waiting: int, owners: Sequence[str]) -> None:
        """Tell the replica that at least so many owners have changes here that it has not, and who they are;
        where it keeps such words. Nobody waits for it."""

    def on_lost(self, lost: Callable[[Exception], None]) -> None:
        """Have `lost` called once when the connection ends other than by `close`."""

    def close(self) -> Deferred[None]:
        """EXIT and disconnect. Fires when the connection is gone, never fails."""


class Connector(Protocol):
    """One attempt to connect to one server."""

    @property
    def server(self) -> str: ...

    def connect(self) -> Deferred[EngineConnection]:
        """Raises `CannotConnect` and its kin. Cancelling it gives the attempt up."""


async def perform(engine: EngineVerbs, item: Item) -> None:
    """Do one item."""
    match item.kind:
        case Kind.MAILBOXES:
            await engine.mailboxes(item.args)
        case Kind.QUOTA:
            await engine.quota(*item.args)
        case Kind.ANNOTATION:
            await engine.annotation(*item.args)
        case Kind.SEEN:
            await engine.seen(*item.args)
        case Kind.SUB:
            await engine.sub(*item.args)
        case Kind.UNMAILBOX:
            await engine.unmailbox(*item.args)
        case Kind.META:
            await engine.meta(*item.args)
        case Kind.USER:
            await engine.user(*item.args)
        case Kind.UNUSER:
            await engine.unuser(*item.args)
