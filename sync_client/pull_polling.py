"""`Polling`: what a rolling pull is to look at comes into its log, as the server tells of it and by polls.

A poll is of everybody, and may be of ten thousand. Their lines come into the log in portions, the next one
when a pull of nearly all of the last one has begun: each run reads the log and writes back what is left, and
whoever the server tells of would wait for that. Whom a poll has not come to is in memory alone: a client that
begins polls everybody anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from cyrus_sync.common.names import Owner, login_of
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.sync_client.machine import RollingState
from cyrus_sync.sync_client.pull_log import PullLog
from cyrus_sync.sync_client.report import log

if TYPE_CHECKING:
    from cyrus_sync.pull.changes import Change
    from cyrus_sync.pull.watcher import Watcher
    from cyrus_sync.sync_client.rolling import Rolling

PORTION = 200
"""Users whose lines a poll writes at once."""

NEARLY = 50
"""So many of them are left when the next ones come: nobody is to wait for the last of a portion."""

_SOON_SECONDS = 60.0
"""Until everybody is looked at where that failed."""

_IDLE_SECONDS = 1.0


class Portions:
    """Whom a poll has still to look at."""

    def __init__(self) -> None:
        self._waiting: dict[str, None] = {}
        """In this order, and not in the log."""
        self._in_log: set[str] = set()
        """Nobody has begun to look at them, as far as is known."""

    @property
    def left(self) -> int:
        return len(self._waiting) + len(self._in_log)

    def poll(self, userids: Collection[str]) -> None:
        """Everybody, anew. Whom the poll before has not come to is first, so that everybody has his turn
        however often it begins."""
        wanted = dict.fromkeys(userids)
        left = [userid for userid in self._waiting if userid in wanted]
        new = [userid for userid in wanted if userid not in self._in_log]
        self._waiting = dict.fromkeys([*left, *new])

    def begun(self, userid: str) -> None:
        """Somebody looks at him now."""
        self._in_log.discard(userid)

    def none_in_log(self) -> None:
        """Who is left of a portion is set aside, or is no user."""
        self._in_log.clear()

    def take(self, is_aside: Callable[[Owner], bool]) -> list[str]:
        """The next portion; nobody as long as there is enough of the last one, those who are set aside not
        counted."""
        if not self._waiting:
            return []
        if len(self._in_log) > NEARLY:
            going = sum(not is_aside(Owner("user", userid)) for userid in self._in_log)
            if going > NEARLY:
                return []
        portion = list(self._waiting)[:PORTION]
        for userid in portion:
            del self._waiting[userid]
        self._in_log.update(portion)
        return portion

    def put_back(self, portion: Sequence[str]) -> None:
        """It could not be written."""
        self._in_log.difference_update(portion)
        self._waiting = dict.fromkeys([*portion, *self._waiting])


class Polling:
    """Who there is, and a line for everybody: now, and every so often; soon, where that failed or something
    of which the server has told was lost. Who there is may take long to say: what the server tells of those
    who are known does not wait for that. All of it belongs to the reactor's thread."""

    def __init__(
        self, reactor: Reactor, asking: ThreadRunner, writing: ThreadRunner, work: PullLog, seconds: int
    ) -> None:
        self._reactor = reactor
        self._asking = asking
        self._writing = writing
        self._work = work
        self._seconds = seconds
        self._told: list[Change] = []
        """What waits while lines are written."""
        self._is_writing = False
        self._portions = Portions()
        self._is_feeding = False
        self._watcher: Watcher | None = None
        self._soon: Any = None
        self._is_aside: Callable[[Owner], bool] = lambda owner: False

    @property
    def left(self) -> int:
        """Users at whom the present poll has not begun to look."""
        return self._portions.left

    def begin(
        self,
        watcher: Watcher | None,
        rolling: Rolling | None = None,
        is_aside: Callable[[Owner], bool] = lambda owner: False,
    ) -> None:
        """`watcher` is told who there is to watch; `rolling` works on the log, but not for who `is_aside`."""
        self._watcher, self._is_aside = watcher, is_aside
        self._often(self.look, self._seconds, now=True)
        if rolling is not None:
            self._often(lambda: self._if_idle(rolling), _IDLE_SECONDS, now=False)

    def _often(self, act: Any, seconds: float, *, now: bool) -> None:
        ticker = LoopingCall(act)
        ticker.clock = cast(Any, self._reactor)
        ticker.start(seconds, now=now)
        self._reactor.addSystemEventTrigger(
            "before", "shutdown", lambda: ticker.stop() if ticker.running else None
        )

    # -- what the server tells

    def changed(self, changes: Sequence[Change]) -> None:
        """The server has told of these."""
        self._told += changes
        if not self._is_writing:
            self._write()

    def _write(self) -> None:
        """All that has been told meanwhile at once."""
        if not self._told:
            return
        changes, self._told = self._told, []
        self._is_writing = True

        def lost(failure: Failure) -> None:
            log.error("what the server told is lost, so everybody is looked at soon: %s", failure.value)
            self._look_soon()

        def written(strangers: list[Change]) -> None:
            if strangers:
                self._asking.run(self._work.of_strangers, strangers).addErrback(lost)

        def goes_on(_: object) -> None:
            self._is_writing = False
            self._write()

        self._writing.run(self._work.changed, changes).addCallbacks(written, lost).addBoth(goes_on)

    # -- everybody

    def look(self) -> Deferred[Any]:
        """Begin a poll."""

        def found(userids: list[str]) -> None:
            if not userids:
                log.warning("nobody to pull: imap_users names nobody, and there is nobody here")
                self._look_soon()
            else:
                self._portions.poll(self._work.to_poll(userids))
                self._feed()
            if self._watcher is not None:
                self._watcher.set_users(map(login_of, userids))

        def failed(failure: Failure) -> None:
            log.error("who is to be pulled cannot be found out: %s", failure.value)
            self._look_soon()

        return self._asking.run(self._work.poll).addCallbacks(found, failed)

    def _look_soon(self) -> None:
        if self._soon is None or not self._soon.active():
            self._soon = self._reactor.callLater(min(_SOON_SECONDS, self._seconds), self.look)

    # -- in portions

    def begun(self, owner: Owner) -> None:
        """Somebody looks at all of `owner` now."""
        if owner.kind == "user":
            self._portions.begun(owner.name)
            self._feed()

    def _if_idle(self, rolling: Rolling) -> None:
        """Where nothing is left in the log, nobody will look at who is set aside before it is time."""
        if (
            self.left
            and not self._is_feeding
            and rolling.state is RollingState.IDLE
            and not rolling.source.pending()
        ):
            self._portions.none_in_log()
            self._feed()

    def _feed(self) -> None:
        if self._is_feeding:
            return
        portion = self._portions.take(self._is_aside)
        if not portion:
            return
        self._is_feeding = True

        def again(_: object = None) -> None:
            self._is_feeding = False
            self._feed()

        def failed(failure: Failure) -> None:
            log.error("lines of a poll cannot be written, trying again: %s", failure.value)
            self._portions.put_back(portion)
            self._reactor.callLater(_SOON_SECONDS, again)

        self._writing.run(self._work.whole, portion).addCallbacks(again, failed)
