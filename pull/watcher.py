"""`Watcher`: a connection of each of many users on which the IMAP server tells what changes (`pull.watch`).

Connections are made in a few threads, and wait in the reactor's. One that is lost is made again, later each
time; each begins with a look at all of its user, for nobody told what changed meanwhile. Whoever finds no
place is named, and looked at by polling alone."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cyrus_sync.common.errors import AuthenticationFailed, CannotConnect, CyrusSyncError
from cyrus_sync.common.reactor import Reactor, Timer
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.pull.changes import Change
from cyrus_sync.pull.settings import ImapSettings
from cyrus_sync.pull.watch import IDLE, Begun, Watch, begin

THREADS = 4
"""That connect at the same time."""

REISSUE_SECONDS = 25 * 60.0
"""After so long without a command one is sent (RFC 2177: at least every 29 minutes)."""

ANSWER_SECONDS = 60.0
LOOK_SECONDS = 15.0
LIST_SECONDS = 60.0
"""So long after the server has told something of a user, all of him is looked at: a Dovecot does not tell of
each folder that is made or renamed, and IDLE of the INBOX alone."""
GATHER_SECONDS = 0.02
LONGEST_PAUSE = 300.0
NAMED = 20
"""Users whom one line names."""

SAY_SECONDS = 1.0
"""So long what is to be said of single users is gathered: where it is said of all, that is one line."""

_LOSSES = 3
"""Connections of a user that are lost in a row, none of which has lasted, until that is said."""

_NOT_WATCHED = "is not watched, trying again"
_CUT_OFF = "is cut off again and again, and watched anew each time"
_WATCHED_AGAIN = "is watched again"


@dataclass(slots=True)
class _User:
    """`failures` in a row, and how many of them were `losses` of a connection; `told`: it was said that he is
    not watched, `cut_off`: that he is not for long."""

    watch: Watch | None = None
    connecting: bool = False
    failures: int = 0
    losses: int = 0
    told: bool = False
    cut_off: bool = False
    timer: Any = None


@dataclass(slots=True)
class Watcher:
    """In the reactor's thread. `changed` hears what servers tell, several at once; `say` hears what an
    administrator should know. `most`: connections that there may be."""

    reactor: Reactor
    settings: ImapSettings
    directory: Path
    most: int
    changed: Callable[[Sequence[Change]], object]
    say: Callable[[str], None]
    begin: Callable[[ImapSettings, str, str, Path], Begun] = begin
    events: int = 0
    left_out: int = 0
    """Users who found no place."""
    _unplaced: frozenset[str] = frozenset()
    _users: dict[str, _User] = field(default_factory=dict)
    _queue: deque[str] = field(default_factory=deque)
    _connecting: int = 0
    _gathered: dict[Change, None] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)
    _unreachable: bool = False
    _ended: bool = False
    _threads: ThreadRunner = field(init=False)
    _timers: dict[str, Timer] = field(default_factory=dict)
    _to_list: dict[str, float] = field(default_factory=dict)
    """Whose folders are to be listed, and from when on."""
    _to_say: dict[str, dict[str, str]] = field(default_factory=dict)
    """What is to be said, of whom, and why."""

    def __post_init__(self) -> None:
        self._threads = ThreadRunner(self.reactor, THREADS, "watch")
        self._look()

    @property
    def watched(self) -> int:
        """Users of whom the server tells."""
        return sum(user.watch is not None for user in self._users.values())

    def set_users(self, logins: Iterable[str]) -> None:
        """From now on these are watched, the first of them if they are too many."""
        wanted = list(dict.fromkeys(logins))
        rest = wanted[self.most :]
        if rest and self._unplaced != frozenset(rest):
            names = ", ".join(rest[:NAMED]) + (f" and {len(rest) - NAMED} more" if len(rest) > NAMED else "")
            self.say(
                f"imap_watch_connections is {self.most}: {len(rest)} of {len(wanted)} users are looked at"
                f" every imap_poll alone: {names}"
            )
        self.left_out, self._unplaced = len(rest), frozenset(rest)
        kept = dict.fromkeys(wanted[: self.most])
        for login in [login for login in self._users if login not in kept]:
            self._forget(login)
        for login in kept:
            if login not in self._users:
                self._users[login] = _User()
                self._queue.append(login)
        self._connect()

    def end(self) -> None:
        """Hang up everywhere."""
        self._ended = True
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        for login in list(self._users):
            self._forget(login)

    # -- connecting

    def _connect(self) -> None:
        while self._queue and self._connecting < THREADS and not self._ended:
            login = self._queue.popleft()
            user = self._users.get(login)
            if user is None or user.connecting or user.watch is not None:
                continue
            user.connecting = True
            self._connecting += 1
            made: Deferred[Begun] = self._threads.run(self._begun, login)
            made.addCallbacks(self._begins, self._failed, (login, user), errbackArgs=(login, user))
            made.addErrback(lambda failure: self.say(f"unexpected failure: {failure.getTraceback()}"))

    def _begun(self, login: str) -> Begun:
        """In a thread."""
        return self.begin(self.settings, login, self.settings.password_of(login), self.directory)

    def _begins(self, begun: Begun, login: str, user: _User) -> None:
        self._connecting -= 1
        user.connecting = False
        if self._ended or self._users.get(login) is not user:
            begun.sock.close()
            self._connect()
            return
        if begun.way == IDLE:
            why = f"refuses NOTIFY ({begun.refusal})" if begun.refusal else "offers no NOTIFY"
            self._say_once(
                f"the IMAP server {why}: of INBOXes it tells at once (IDLE), other folders are"
                " looked at every imap_poll"
            )
        if user.told:
            self._say_of(login, _WATCHED_AGAIN)
        self._unreachable = user.told = False
        user.watch = Watch(self.reactor, login, begun, self._heard, self._lost)
        user.watch.start()
        self._gather(Change(login, told=False))  # whatever has changed until now
        self._connect()

    def _failed(self, failure: Failure, login: str, user: _User) -> None:
        self._connecting -= 1
        user.connecting = False
        if self._users.get(login) is user and not self._ended:
            error = failure.value
            reason = error.message if isinstance(error, CyrusSyncError) else repr(error)
            if isinstance(error, CannotConnect) and not isinstance(error, AuthenticationFailed):
                if not self._unreachable:  # everybody's trouble: said once
                    self._unreachable = True
                    self.say(f"nobody can be watched, trying again: {reason}")
            elif not user.told:
                user.told = True
                self._say_of(login, _NOT_WATCHED, reason)
            self._later(login, user)
        self._connect()

    def _lost(self, watch: Watch, reason: str) -> None:
        user = self._users.get(watch.login)
        if user is None or user.watch is not watch:
            return
        user.watch = None
        self._lasts(watch, user)
        user.losses += 1
        if user.losses >= _LOSSES and not user.cut_off:
            user.cut_off = True
            self._say_of(watch.login, _CUT_OFF, reason)
        self._later(watch.login, user)

    def _lasts(self, watch: Watch, user: _User) -> None:
        """Whether it does is seen after a while only."""
        if self.reactor.seconds() - watch.since > LONGEST_PAUSE:
            user.failures = user.losses = 0
            if user.cut_off:
                user.cut_off = False
                self._say_of(watch.login, _WATCHED_AGAIN)

    def _later(self, login: str, user: _User) -> None:
        """Try again, and not all at the same moment."""
        pause = min(LONGEST_PAUSE, 2.0**user.failures) * (0.5 + random.random() / 2)
        user.failures = min(user.failures + 1, 16)

        def due() -> None:
            user.timer = None
            self._queue.append(login)
            self._connect()

        user.timer = self.reactor.callLater(pause, due)

    def _forget(self, login: str) -> None:
        user = self._users.pop(login)
        if user.timer is not None:
            user.timer.cancel()
        if user.watch is not None:
            user.watch.end()

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.say(text)

    def _say_of(self, login: str, what: str, reason: str = "") -> None:
        if not self._to_say:
            self._timers["say"] = self.reactor.callLater(SAY_SECONDS, self._say_now)
        self._to_say.setdefault(what, {})[login] = reason

    def _say_now(self) -> None:
        told, self._to_say = self._to_say, {}
        for what, reasons in told.items():
            by_name = sorted(reasons.items())  # not by whose connection was the quickest to fail
            users = [f"{login} ({reason})" if reason else login for login, reason in by_name]
            if len(users) == 1:
                (login, reason), *_ = reasons.items()
                self.say(f"{login} {what}" + (f": {reason}" if reason else ""))
            else:
                more = f" and {len(users) - NAMED} more" if len(users) > NAMED else ""
                what = what.replace("is ", "are ", 1)
                self.say(f"{len(users)} users {what}: {', '.join(users[:NAMED])}{more}")

    # -- what is told

    def _heard(self, change: Change) -> None:
        self.events += 1
        if change.folders:
            self._to_list.setdefault(change.login, self.reactor.seconds() + LIST_SECONDS)
        self._gather(change)

    def _gather(self, change: Change) -> None:
        if not self._gathered:
            self._timers["gather"] = self.reactor.callLater(GATHER_SECONDS, self._pass_on)
        self._gathered[change] = None

    def _pass_on(self) -> None:
        changes, self._gathered = list(self._gathered), {}
        self.changed(changes)

    # -- keeping them alive

    def _look(self) -> None:
        """Ask those who have not said anything for long, and give up those who do not answer."""
        now = self.reactor.seconds()
        for login in [login for login, due in self._to_list.items() if due <= now]:
            del self._to_list[login]
            self._gather(Change(login, told=False))
        for user in list(self._users.values()):
            watch = user.watch
            if watch is None:
                continue
            self._lasts(watch, user)
            if watch.is_asking:
                if now - watch.asked > ANSWER_SECONDS:
                    watch.give_up("no answer in time")
            elif now - watch.asked > REISSUE_SECONDS:
                watch.ask()
        self._timers["look"] = self.reactor.callLater(LOOK_SECONDS, self._look)
