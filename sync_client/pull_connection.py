"""An IMAP server as the rolling loop sees it: connected to, asked for one user after the other.

Every user is pulled on a connection of his own (`pull.puller`), so the one that stands here is none: it says
that the server can be reached. MAILBOX is a folder alone, which is enough for most events. SUB is the list of
all folders, and the messages of those that have changed. Rights, annotations and scripts are asked for by
lines like USER alone, which polling writes.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed

from cyrus_sync.common.errors import AuthenticationFailed, CannotConnect, CyrusSyncError
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.sync_client.connection import EngineConnection
from cyrus_sync.sync_client.engine.errors import GaveWay
from cyrus_sync.sync_client.turn import Turn

if TYPE_CHECKING:
    from cyrus_sync.pull.folder import Pulled
    from cyrus_sync.pull.puller import Puller
    from cyrus_sync.pull.settings import ImapSettings


class UserTrouble(CyrusSyncError):
    """One user could not be pulled, or not all of him. The server is well."""

    text = "the user cannot be pulled"


class PullEngine:
    """`connection.EngineVerbs`."""

    def __init__(
        self,
        puller: Puller,
        threads: ThreadRunner,
        turn: Turn,
        stop: threading.Event,
        pulled: Callable[[Pulled], object],
    ) -> None:
        """`stop` ends what is under way; `pulled` hears of each user who was pulled."""
        self._puller = puller
        self._threads = threads
        self._turn = turn
        self._stop = stop
        self._pulled = pulled

    async def _pull(self, owner: Owner, *, thorough: bool, names: Sequence[str] = ()) -> None:
        userid = owner.name if owner.kind == "user" else self._puller.login_for(owner)
        if not userid:
            return  # the round over everybody, which comes first, will find somebody who sees it
        if self._turn.is_wanted():
            raise GaveWay()
        try:
            pulled: Pulled = await self._threads.run(
                self._puller.pull, userid, names=names, thorough=thorough, stop=self._stop
            )
        except AuthenticationFailed as error:  # this user alone is meant
            raise UserTrouble(error.message).at(**error.address) from error
        except CyrusSyncError as error:
            if self._stop.is_set():  # nothing is wrong with him: the rest of him waits in the log
                raise GaveWay() from error
            raise
        self._pulled(pulled)
        if pulled.troubles:
            more = f" (and {len(pulled.troubles) - 1} more)" if len(pulled.troubles) > 1 else ""
            raise UserTrouble(f"{pulled.troubles[0]}{more}").at(user=userid)

    async def user(self, userid: str) -> None:
        await self._pull(Owner("user", userid), thorough=True)

    async def mailboxes(self, names: Sequence[str]) -> None:
        for owner in dict.fromkeys(map(owner_of, names)):
            theirs = [name for name in names if owner_of(name) == owner]
            await self._pull(owner, thorough=False, names=theirs)

    async def meta(self, userid: str) -> None:
        await self._pull(Owner("user", userid), thorough=True)

    async def unuser(self, userid: str) -> None:
        await self._pull(Owner("user", userid), thorough=True)

    async def sub(self, userid: str, mailbox: str) -> None:
        await self._pull(Owner("user", userid), thorough=False)

    async def seen(self, userid: str, uniqueid: str) -> None:
        await self._pull(Owner("user", userid), thorough=False)

    async def quota(self, root: str) -> None:
        await self._pull(owner_of(root), thorough=True)

    async def annotation(self, mailbox: str) -> None:
        await self._pull(owner_of(mailbox), thorough=True)

    async def unmailbox(self, name: str) -> None:
        await self._pull(owner_of(name), thorough=False)

    async def agreeing(self, here: Mapping[str, bytes] | None = None) -> Collection[str]:
        return ()

    async def alone(self, prefix: str, here: Collection[str]) -> Any:
        return None


class PullConnection:
    """`connection.EngineConnection`."""

    def __init__(self, engine: PullEngine) -> None:
        self.engine = engine

    def restart(self) -> Deferred[None]:
        return succeed(None)

    def noop(self) -> Deferred[None]:
        return succeed(None)

    def tell(self, waiting: int, owners: Sequence[str]) -> None:
        """Nobody there wants to know."""

    def on_lost(self, lost: Callable[[Exception], None]) -> None:
        """It is never lost: a pull that fails says that the server is gone."""

    def close(self) -> Deferred[None]:
        return succeed(None)


class PullConnector:
    """`connection.Connector`: whether the server can be reached."""

    def __init__(self, settings: ImapSettings, engine: PullEngine, threads: ThreadRunner) -> None:
        self._settings = settings
        self._engine = engine
        self._threads = threads

    @property
    def server(self) -> str:
        return self._settings.server

    def connect(self) -> Deferred[EngineConnection]:
        return self._threads.run(self._try).addCallback(lambda _: PullConnection(self._engine))

    def _try(self) -> None:
        """In a thread."""
        settings = self._settings
        if settings.host.startswith("/"):
            return
        try:
            socket.create_connection((settings.host, settings.port), min(settings.timeout, 30)).close()
        except OSError as error:
            reason = error.strerror or str(error)
            raise CannotConnect(f"Can not connect to server '{settings.server}': {reason}") from None
