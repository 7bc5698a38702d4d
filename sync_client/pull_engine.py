"""`PullEngine`: the lines of the rolling loop's log, carried out at an IMAP server.

MAILBOX is a folder alone, which is enough for most events. SUB is the list of
all folders, and the messages of those that have changed. Rights, annotations and scripts are asked for by
lines like USER alone, which polling writes.

There are so many pulls at a time and no more, some of the places for what the server tells of alone. What it
has not told of waits: whole users, whom a poll names, or the beginning of a watch (SUB).

Who has much to bring holds up nobody else. When a run is to end for what is new, or after a while, a pull
that takes long goes on in its thread, and its line goes back to the log; whichever run does that line next
waits for it. It counts for the line only if nothing was told of its owner after it had begun.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import AuthenticationFailed, ConnectionLost, CyrusSyncError
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.sync_client.engine.errors import GaveWay, LeftOut, OwnersTrouble
from cyrus_sync.sync_client.turn import Turn
from cyrus_sync.sync_client.work import Item, Kind

if TYPE_CHECKING:
    from cyrus_sync.pull.pulled import Pulled
    from cyrus_sync.pull.puller import Puller

GRACE_SECONDS = 0.5
"""So much longer a run that is to end waits for a pull."""

LONG_SECONDS = 3.0
"""So long a run waits for a pull in any case: what has failed in it is tried again in the next one only."""

_WELL_SECONDS = 60.0
"""So long after somebody was pulled the server is taken to be well."""

_NAMED = 20
"""Things that an error names of those that were left out."""


class UserTrouble(OwnersTrouble):
    """One user could not be pulled, or not all of him. The server is well."""

    text = "the user cannot be pulled"


class LoginRefused(CyrusSyncError):
    """One user could not log in, and nobody else has lately: it may be everybody's trouble."""

    text = "the user cannot log in"


class Told:
    """How often something was told of an owner. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: dict[Owner, int] = {}
        self._urgent: set[Owner] = set()

    def note(self, owners: Collection[Owner], *, urgent: bool = True) -> None:
        """Something is to be looked at; `urgent`: the server has told of it. To be called before it is in the
        log."""
        with self._lock:
            for owner in owners:
                self._times[owner] = self._times.get(owner, 0) + 1
            if urgent:
                self._urgent.update(owners)

    def is_urgent(self, owner: Owner) -> bool:
        """Whether the server has told of him, and nobody has looked since."""
        with self._lock:
            return owner in self._urgent

    def looks(self, owner: Owner) -> None:
        """Somebody does now."""
        with self._lock:
            self._urgent.discard(owner)

    def times(self, owner: Owner) -> int:
        with self._lock:
            return self._times.get(owner, 0)


class _What(NamedTuple):
    """What of an owner is pulled: these mailboxes, or all. `told` says how often he had been told of when it
    began."""

    owner: Owner
    names: tuple[str, ...]
    thorough: bool
    told: int
    can_wait: bool = False

    def covers(self, other: _What) -> bool:
        """Whether what was to be seen for `other` has been seen."""
        names = not self.names or (bool(other.names) and set(self.names).issuperset(other.names))
        return names and self.thorough >= other.thorough and self.told == other.told


@dataclass(slots=True)
class _UnderWay:
    """A pull in a thread; `over` holds whoever waits for its end."""

    what: _What
    began: float
    over: list[Deferred[None]]
    result: Pulled | Failure | None = None


class PullEngine:
    """`connection.EngineVerbs`. All of it belongs to the reactor's thread."""

    def __init__(
        self,
        puller: Puller,
        threads: ThreadRunner,
        turn: Turn,
        stop: threading.Event,
        pulled: Callable[[Pulled], object],
        *,
        width: int,
        is_pulled: Callable[[str], bool] = lambda userid: True,
        told: Told | None = None,
        begins: Callable[[Owner], object] | None = None,
        most_whole: int = 1,
        once: bool = False,
    ) -> None:
        """`stop` ends what is under way; `pulled` hears of each user who was pulled. `is_pulled` says whether
        one's own mail is wanted: it is asked, in a thread, of imap_shared_user, who may be there for shared
        folders alone. `told` is kept by who writes the log. `begins` hears of whom a look at everything
        begins. `width` pulls there are at a time, one in each of `threads`; `most_whole` of them of whole
        users: the others are for what the server tells of. `once`: there is no next run."""
        self._puller = puller
        self._threads = threads
        self._turn = turn
        self._stop = stop
        self._pulled = pulled
        self._is_pulled = is_pulled
        self._told = told or Told()
        self._begins = begins
        self._width = width
        self._whole = most_whole
        self._once = once
        self._waiting: list[Deferred[None]] = []
        self._waiting_whole: list[Deferred[None]] = []
        self._served = float("-inf")
        """When somebody could log in last."""
        self._under_way: dict[str, _UnderWay] = {}
        """By userid."""
        self._left: dict[Owner, _UnderWay] = {}
        """Pulls that have outlived their run."""
        self._since: dict[Owner, int] = {}
        self._numbers = itertools.count()

    def rank(self, item: Item) -> tuple[bool, int]:
        """Who has waited for longest goes first, over all runs; but whole users after what the server tells
        of."""
        return self._is_untold(item), self._since.setdefault(item.owner, next(self._numbers))

    def can_wait(self, item: Item) -> bool:
        """Whether the next run will do: while all places are taken, and for what the server has not told
        of."""
        return self._is_full or self._is_untold(item)

    def _is_untold(self, item: Item) -> bool:
        """Whether a whole user is asked for, and the server has told nothing of him: a line that it has told
        of is merged into that of a poll."""
        return item.kind >= Kind.SUB and not self._told.is_urgent(item.owner)

    @property
    def _is_full(self) -> bool:
        return len(self._under_way) >= self._width

    # -- one pull

    async def _pull(self, owner: Owner, *, thorough: bool, names: Sequence[str] = ()) -> None:
        userid = owner.name if owner.kind == "user" else self._puller.login_for(owner)
        if not userid:
            raise UserTrouble("nobody is known yet who sees these shared folders").at(mailbox=owner.name)
        way = await self._one_that_counts(userid, owner, thorough, tuple(names))
        self._since.pop(owner, None)
        if isinstance(way.result, Failure):
            raise self._trouble(way)
        assert way.result is not None
        if way.result.troubles:
            raise _left_out(way.result)

    async def _one_that_counts(
        self, userid: str, owner: Owner, thorough: bool, names: tuple[str, ...]
    ) -> _UnderWay:
        """A pull that is over: one that an earlier run has left, or else a new one."""
        left = self._left.get(owner)
        if left is not None:
            await self._over(left)
            del self._left[owner]
            if left.what.covers(_What(owner, names, thorough, self._told.times(owner))):
                return left
        can_wait = not names and not self._told.is_urgent(owner)
        while True:
            if (other := self._under_way.get(userid)) is not None:  # for shared folders, that may be
                await self._over(other)
            elif self._is_full or (can_wait and not self._whole):
                waiting = self._waiting_whole if can_wait else self._waiting
                waiting.append(free := Deferred[None]())
                await self._or_give_way(free, waiting)
            else:
                break
        if can_wait and self._turn.is_wanted():
            raise GaveWay()
        way = self._begin(userid, _What(owner, names, thorough, self._told.times(owner), can_wait))
        try:
            await self._over(way, GRACE_SECONDS)
        except GaveWay:
            self._left[owner] = way
            raise
        return way

    def _begin(self, userid: str, what: _What) -> _UnderWay:
        way = self._under_way[userid] = _UnderWay(what, time.monotonic(), [])
        self._whole -= what.can_wait
        if not what.names:
            self._told.looks(what.owner)
        if what.thorough and self._begins is not None:
            self._begins(what.owner)

        def ended(result: Any) -> None:
            way.result = result
            del self._under_way[userid]
            self._whole += what.can_wait
            if not isinstance(result, Failure):
                self._served = time.monotonic()
            self._fill()
            for waiting in [*way.over]:
                if not waiting.called:
                    waiting.callback(None)
            if not isinstance(result, Failure):
                self._pulled(result)

        self._threads.run(self._pull_now, userid, what).addBoth(ended)
        return way

    def _fill(self) -> None:
        """Let those begin who wait for a place, as long as there is one."""
        while not self._is_full and (self._waiting or (self._whole and self._waiting_whole)):
            (self._waiting or self._waiting_whole).pop(0).callback(None)

    def _pull_now(self, userid: str, what: _What) -> Pulled:
        """In a thread."""
        own = what.owner.kind == "user" and (userid != self._puller.shared_user or self._is_pulled(userid))
        return self._puller.pull(userid, names=what.names, thorough=what.thorough, own=own, stop=self._stop)

    def _trouble(self, way: _UnderWay) -> Exception:
        """What the failure of a pull means for the run."""
        assert isinstance(way.result, Failure)
        error = way.result.value
        if isinstance(error, AuthenticationFailed):
            well = time.monotonic() - self._served < _WELL_SECONDS
            return (UserTrouble if well else LoginRefused)(error.message).at(**error.address)
        if isinstance(error, CyrusSyncError) and self._stop.is_set():
            return GaveWay()  # nothing is wrong with him: the rest of him waits in the log
        if isinstance(error, ConnectionLost) and self._served > way.began:  # others are served meanwhile
            return UserTrouble(error.message).at(**error.address)
        return error if isinstance(error, Exception) else GaveWay()

    # -- waiting

    async def _over(self, way: _UnderWay, grace: float = 0.0) -> None:
        """Wait for its end; `GaveWay` where the run is to end before, and so many seconds have gone by."""
        if way.result is None:
            way.over.append(over := Deferred[None]())
            await self._or_give_way(over, way.over, grace)

    async def _or_give_way(
        self, wanted: Deferred[None], waiting: list[Deferred[None]], grace: float = 0.0
    ) -> None:
        """Wait for `wanted`, one of those that are `waiting`."""

        def give_way() -> None:
            if not wanted.called:
                waiting.remove(wanted)
                wanted.errback(GaveWay())

        def asked() -> None:
            if grace:
                self._threads.reactor.callLater(grace, give_way)
            else:
                give_way()

        if self._turn.is_wanted():
            asked()
        else:
            self._turn.asked.append(asked)
        if not wanted.called and not self._once:
            timer = self._threads.reactor.callLater(LONG_SECONDS, give_way)
            wanted.addBoth(lambda result: (timer.active() and timer.cancel(), result)[1])
        await wanted

    # -- the verbs

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


def _left_out(pulled: Pulled) -> LeftOut:
    """What was left out of a pull, by the folder that it was left out of."""
    failures: list[tuple[str, CyrusSyncError]] = []
    for trouble in pulled.troubles[:_NAMED]:
        what, _, why = trouble.partition(": ")
        failures.append((what, UserTrouble(why or trouble).at(user=pulled.userid, mailbox=what)))
    if len(pulled.troubles) > _NAMED:
        more = UserTrouble(f"{len(pulled.troubles) - _NAMED} more things were left out")
        failures.append(("and more", more.at(user=pulled.userid)))
    return LeftOut(failures)
