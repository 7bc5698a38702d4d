"""`Engine`: one replica brought up to date from one master.

One engine belongs to one connection. Its methods may run at the same time; each raises a
`CyrusSyncError` that says where it happened. An error that is no `ReplyError` but a `PeerError` means
that the connection is of no more use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from cyrus_sync.common.errors import PeerError, ReplyError
from cyrus_sync.common.master import Master
from cyrus_sync.common.replica import Replica
from cyrus_sync.common.threads import Threads
from cyrus_sync.sync_client.engine import quotas, removal, seen, subscriptions
from cyrus_sync.sync_client.engine.agreeing import agreeing
from cyrus_sync.sync_client.engine.all_users import sync_all_users, sync_users
from cyrus_sync.sync_client.engine.alone import tell_of_users
from cyrus_sync.sync_client.engine.annotations import sync_annotations
from cyrus_sync.sync_client.engine.concurrency import all_of, start
from cyrus_sync.sync_client.engine.context import EngineContext
from cyrus_sync.sync_client.engine.mailboxes import sync_mailboxes, sync_script_mailbox
from cyrus_sync.sync_client.engine.meta import sync_meta
from cyrus_sync.sync_client.engine.options import Options
from cyrus_sync.sync_client.engine.user import sync_user


class Engine:
    """The client algorithm over a `Master` and a `Replica`."""

    def __init__(
        self, master: Master, replica: Replica, threads: Threads, options: Options | None = None
    ) -> None:
        self.context = EngineContext(master, replica, threads, options or Options())

    async def user(self, userid: str) -> None:
        """USER: everything of one user. `FoldersFailed` names the mailboxes that failed."""
        with self._explaining():
            await sync_user(self.context, userid)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """An error that ends the connection tells whether the next try knows better."""
        try:
            yield
        except PeerError as error:
            if not isinstance(error, ReplyError) and self.context.options.left_out.take_news():
                error.explained = True
            raise

    async def users(self, userids: Sequence[str]) -> None:
        """Several users, many in flight. `UsersFailed` names those that failed."""
        await sync_users(self.context, userids)

    async def all_users(self, prefix: str = "", done: set[str] | None = None) -> None:
        """Every user, and every shared mailbox singly; `done` lets a new engine go on after this one."""
        await sync_all_users(self.context, prefix, done)

    async def agreeing(self, here: Mapping[str, bytes] | None = None) -> Collection[str]:
        """The users of whom nothing has to be done, as the replica tells in a few answers; `here`: the
        digests of those of the master; None: they are looked at now."""
        return await agreeing(self.context, here)

    async def alone(self, prefix: str, here: Collection[str]) -> None:
        """Tell of users whom only the replica has, where it lists them; `here`: those of the master."""
        await tell_of_users(self.context, prefix, here)

    async def mailboxes(self, names: Sequence[str]) -> None:
        """MAILBOX lines: a group of names, asked for in one request. `FoldersFailed` as above."""
        with self._explaining():
            await sync_mailboxes(self.context, names)

    async def meta(self, userid: str) -> None:
        """META: \\Seen, subscriptions and Sieve, also where the scripts are messages of ``#sieve``: whoever
        asks for META (``-s``, a line SIEVE of the log) means them."""
        with self._explaining():
            await all_of(
                [
                    start(sync_meta(self.context, userid)),
                    start(sync_script_mailbox(self.context, userid)),
                ]
            )

    async def quota(self, root: str) -> None:
        """QUOTA: the limits of one quota root."""
        await quotas.quota(self.context, root)

    async def annotation(self, mailbox: str) -> None:
        """ANNOTATION: those of a mailbox, or of the server for ""."""
        await sync_annotations(self.context, mailbox)

    async def seen(self, userid: str, uniqueid: str) -> None:
        """SEEN: one record of a user's seen database."""
        await seen.seen(self.context, userid, uniqueid)

    async def sub(self, userid: str, mailbox: str) -> None:
        """SUB or UNSUB: one subscription, as it is now."""
        await subscriptions.sub(self.context, userid, mailbox)

    async def unmailbox(self, name: str) -> None:
        """UNMAILBOX: delete a mailbox that has a tombstone here."""
        await removal.unmailbox(self.context, name)

    async def unuser(self, userid: str) -> None:
        """UNUSER: remove a user who has no INBOX here. Who is here again is done as a whole: what he had
        before is to go there too. Of his mailboxes one may have become another user's: it is renamed
        first, if the log has not said so."""
        try:
            done = await removal.unuser(self.context, userid)
        except removal.NotRenamed as error:
            await sync_mailboxes(self.context, error.names)
            done = await removal.unuser(self.context, userid)
        if not done:
            await sync_user(self.context, userid)

    async def restart(self) -> None:
        """RESTART as soon as nothing relies on what is staged, and wait for its answer."""
        self.context.stage.restart()
        await self.context.stage.restarted()
