"""`Puller`: all of one user, from the IMAP server into our store."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

from cyrus_sync.common.errors import (
    AuthenticationFailed,
    CannotConnect,
    CyrusSyncError,
    MailboxLocked,
    ReplyError,
)
from cyrus_sync.common.files import make_directories
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import Owner, login_of, owner_of
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.pull.about import About
from cyrus_sync.pull.answers import load_lexer
from cyrus_sync.pull.errors import HungUp, ServerTrouble
from cyrus_sync.pull.folder import FolderPull
from cyrus_sync.pull.folders import Folder
from cyrus_sync.pull.limits import Limits
from cyrus_sync.pull.listing import Lister, Listing
from cyrus_sync.pull.memory import Memory
from cyrus_sync.pull.places import Place, Places
from cyrus_sync.pull.pulled import Pulled
from cyrus_sync.pull.renames import follow_names
from cyrus_sync.pull.scripts import pull_scripts
from cyrus_sync.pull.seen import SeenElsewhere
from cyrus_sync.pull.session import Session, sieve_of
from cyrus_sync.pull.sessions import Sessions
from cyrus_sync.pull.settings import ImapSettings

_Done = TypeVar("_Done")

_BUSY_SECONDS = 0.5
"""So long an event of a shared folder waits where somebody else is at the folders of that owner. That may
take hours, and many others wait for the thread and the connection."""

_SPARE = 1000
"""Contents that are remembered of messages that are gone: they may come again."""


class Puller:
    """Pulls users, one connection each, which stays open for `keep` seconds more (`sweep` ends it then,
    `close` all of them). `directory` holds what is remembered between pulls, and large messages on their way;
    `say` hears once what is worth knowing of the server. Several threads may pull at once, each another
    user."""

    def __init__(
        self,
        settings: ImapSettings,
        store: MailStore,
        *,
        directory: Path,
        delayed: bool = True,
        say: Callable[[str], None] = lambda text: None,
        keep: float = 0,
    ) -> None:
        load_lexer()
        self._settings = settings
        self._store = store
        self._directory = directory
        self._delayed = delayed
        self._say = say
        self._said: set[str] = set()
        self._lock = threading.Lock()
        self._shared_locks: dict[Owner, threading.Lock] = {}
        self._shared_done: set[Owner] = set()
        self._shared_missed: set[Owner] = set()
        """Somebody was at them when it was another's turn."""
        self._pulling: set[str] = set()
        self.places = Places()
        self.sessions = Sessions(settings, directory, keep)

    def begin_round(self) -> None:
        """From now on shared folders are looked at again, by the first user who sees them."""
        with self._lock:
            self._shared_done.clear()

    def pull(
        self,
        userid: str,
        *,
        names: Collection[str] = (),
        thorough: bool = True,
        own: bool = True,
        stop: threading.Event | None = None,
    ) -> Pulled:
        """Bring `userid` up to date; what was left out is in `troubles` of what comes back. Without `own`
        only the shared folders that he is shown.

        With `names` (mailboxes of his, or shared ones that he is shown) these alone are looked at, as long as
        that does: a folder that is new, gone or another one needs the list of all, so then he is pulled
        without `thorough`. Without `thorough` rights and annotations are asked for of new folders only, and
        scripts not at all. Blocks.

        Raises `CannotConnect`, `TLSFailed` (the server), `AuthenticationFailed` (this user), `ServerTrouble`
        and `HungUp` for what ended the pull in the middle, when `stop` is set too; `StoreError`,
        `MailboxLocked`, also where another thread is at him. What was done until then stays, and the next
        pull goes on from there."""
        make_directories(self._directory)
        login = login_of(userid)
        password = self._settings.password_of(login)
        thorough = thorough and not names
        try:
            with self._only_one(userid), self.sessions.session(login, password) as session:
                done = self._pull(session, userid, names, thorough=thorough, own=own, stop=stop)
            if thorough and own and self._settings.sieve_port:
                self._scripts(userid, login, password, done)
        except CyrusSyncError as error:
            raise error.at(user=login) from None
        return done

    @contextmanager
    def _only_one(self, userid: str) -> Iterator[None]:
        """A shared folder is pulled by one who sees it, beside him: two would bring the same messages. Raises
        `MailboxLocked`."""
        with self._lock:
            if userid in self._pulling:
                raise MailboxLocked()
            self._pulling.add(userid)
        try:
            yield
        finally:
            with self._lock:
                self._pulling.discard(userid)

    def _pull(
        self,
        session: Session,
        userid: str,
        names: Collection[str],
        *,
        thorough: bool,
        own: bool,
        stop: threading.Event | None,
    ) -> Pulled:
        with closing(_Run(self, session, userid, stop)) as run:
            run.done.alone = bool(names) and run.alone(names)
            if not run.done.alone:
                run.go(thorough, own)
            return run.done

    def _scripts(self, userid: str, login: str, password: str, done: Pulled) -> None:
        try:
            told = sieve_of(self._settings, login, password)
        except AuthenticationFailed as error:
            self.say_once(f"no Sieve scripts of {login}: {error.message}")
            return
        except CannotConnect as error:
            self.say_once(f"no Sieve scripts: port {self._settings.sieve_port}: {error.message}")
            return
        except (HungUp, ServerTrouble) as error:
            done.troubles.append(f"Sieve scripts: {error.message}")
            return
        pull_scripts(self._store, userid, told, done)

    def say_once(self, text: str) -> None:
        """What is worth knowing, and no trouble of a single pull."""
        with self._lock:
            if text in self._said:
                return
            self._said.add(text)
        self._say(text)

    @property
    def server(self) -> str:
        """What the server is called in messages."""
        return self._settings.server

    @property
    def store(self) -> MailStore:
        return self._store

    @property
    def delayed(self) -> bool:
        return self._delayed

    def memory_of(self, owner: Owner) -> Memory:
        """What is remembered of an owner."""
        return Memory(self._directory, self._settings.server, owner)

    def place_of(self, userid: str, shown: str) -> Place | None:
        """Where a folder is that the server shows to `userid` under this name; None where it is not known."""
        with closing(self.memory_of(Owner("user", userid))) as memory:
            was = memory.folders().get(shown)
        return Place(userid, was.name) if was is not None else self.places.find(userid, shown)

    def login_for(self, owner: Owner) -> str:
        """The userid by whom a shared owner can be looked at; "" where nobody was shown it yet."""
        return self._settings.shared_user or self.places.seen_by(owner)

    def _shared_lock(self, owner: Owner) -> threading.Lock:
        """Held by whoever pulls folders of a shared owner."""
        with self._lock:
            return self._shared_locks.setdefault(owner, threading.Lock())

    @contextmanager
    def shared_alone(self, owner: Owner) -> Iterator[None]:
        """While single folders of a shared owner are pulled. Raises `MailboxLocked` where somebody else is at
        them for longer than a moment."""
        lock = self._shared_lock(owner)
        if not lock.acquire(timeout=_BUSY_SECONDS):
            raise MailboxLocked().at(mailbox=owner.name)
        try:
            yield
        finally:
            lock.release()

    def was_missed(self, owner: Owner) -> bool:
        """Whether all of a shared owner is to be pulled, as somebody was at it when it was another's turn."""
        with self._lock:
            missed = owner in self._shared_missed
            self._shared_missed.discard(owner)
            return missed

    def look_again(self, owner: Owner) -> None:
        """A shared owner is pulled by the next one who sees it, in this round, too."""
        with self._lock:
            self._shared_done.discard(owner)

    @contextmanager
    def shared_turn(self, owner: Owner, userid: str) -> Iterator[bool]:
        """Whether `userid` is the one who pulls a shared owner now, held until then: he may, and nobody has
        in this round yet, nor is at it. Where he fails, the next one who sees it may."""
        with self._lock:
            turn = self._settings.shared_user in ("", userid) and owner not in self._shared_done
            if turn:
                self._shared_done.add(owner)
        lock = self._shared_lock(owner)
        if turn and not lock.acquire(blocking=False):
            self.look_again(owner)
            with self._lock:
                self._shared_missed.add(owner)
            turn = False
        if not turn:
            yield False
            return
        self.was_missed(owner)
        try:
            yield True
        except BaseException:
            self.look_again(owner)
            raise
        finally:
            lock.release()

    @property
    def shared_user(self) -> str:
        """The userid of who is known to see all shared folders, "" if nobody is."""
        return self._settings.shared_user


class _Run:
    """One pull of one user."""

    def __init__(self, puller: Puller, session: Session, userid: str, stop: threading.Event | None) -> None:
        self._puller = puller
        self._session = session
        self._userid = userid
        self._stop = stop
        self.done = Pulled(userid)
        self._memories: dict[Owner, Memory] = {}

        self._lister = Lister(session, userid, self._trouble)
        self._seen = SeenElsewhere(session, puller.store, userid, self.done, self._check)

    def go(self, thorough: bool, own: bool) -> None:
        """All of him, or without his `own` folders what he is shown."""
        session = self._session
        self._say_what_is_slow()
        listing = self._resuming(self._listing)
        owner = Owner("user", self._userid)
        about = About(session, self._puller.store, self._userid, self.done)
        limits = Limits(session, self._puller.store, self.done)
        if own:
            mine = [folder for folder in listing.folders if folder.owner == owner]
            self._owner(owner, mine, about, thorough)
            self._resuming(lambda: about.subscriptions(listing))
            if thorough:
                self._resuming(lambda: limits.bring(owner, mine, his=True))
        shared = [folder for folder in listing.folders if folder.owner != owner]
        self._puller.places.learn(self._userid, shared, listing.others)
        for one in sorted({folder.owner for folder in shared}):
            with self._puller.shared_turn(one, self._userid) as turn:
                if turn:
                    theirs = [folder for folder in shared if folder.owner == one]
                    self._owner(one, theirs, about, thorough)
                    if thorough:
                        self._resuming(functools.partial(limits.bring, one, theirs, his=False))
        if thorough and own:
            self._resuming(lambda: self._seen.bring([*shared, *listing.theirs], self._memory(owner)))

    def alone(self, names: Collection[str]) -> bool:
        """These mailboxes; False where one of them cannot be looked at by itself."""
        self._say_what_is_slow()
        for owner in sorted({owner_of(name) for name in names}):
            theirs = [name for name in dict.fromkeys(names) if owner_of(name) == owner]
            mine = owner == Owner("user", self._userid)
            with nullcontext() if mine else self._puller.shared_alone(owner):
                done = all(self._by_itself(owner, name) for name in theirs)
            if not done or self._puller.was_missed(owner):
                self._puller.look_again(owner)
                return False
        return True

    def _by_itself(self, owner: Owner, name: str) -> bool:
        """One mailbox, if its folder is the one that it was: renamed ones are found in the list of all, and
        what is told of new ones there."""
        memory = self._memory(owner)
        was = next((one for one in memory.folders().values() if one.name == name), None)
        with self._puller.store.read(owner) as reader:
            ours = reader.mailbox(name)
        if was is None or ours is None:
            return False
        folder = Folder(was.shown, self._lister.wire(was.shown), name, owner)
        self._resuming(lambda: self._lister.ask_again(folder))
        self._resuming(lambda: self._lister.identify([folder], memory.folders()))
        told = folder.counters
        if told is None or told.uidvalidity != was.counters.uidvalidity or folder.identity != was.identity:
            return False
        self._folder(folder, ours, memory, None, thorough=False)
        mine = Owner("user", self._userid)
        if owner != mine and self._puller.store.exists(mine):
            self._resuming(lambda: self._seen.bring([folder], self._memory(mine)))
        return True

    def _say_what_is_slow(self) -> None:
        if not self._session.condstore:
            self._puller.say_once(
                "the IMAP server has no CONDSTORE: the flags of all messages are read at every pull"
            )

    def _memory(self, owner: Owner) -> Memory:
        if owner not in self._memories:
            self._memories[owner] = self._puller.memory_of(owner)
        return self._memories[owner]

    def close(self) -> None:
        for memory in self._memories.values():
            memory.close()

    def _listing(self) -> Listing:
        self._lister = Lister(self._session, self._userid, self._trouble)  # it knows which names it has given
        return self._lister.look()

    def _trouble(self, text: str) -> None:
        if text not in self.done.troubles:
            self.done.troubles.append(text)

    def _check(self) -> None:
        if self._stop is not None and self._stop.is_set():
            raise ServerTrouble("stopped before all was pulled")

    def _owner(self, owner: Owner, folders: list[Folder], about: About, thorough: bool) -> None:
        memory = self._memory(owner)
        self._resuming(lambda: self._lister.identify(folders, memory.folders()))
        self._resuming(
            lambda: follow_names(
                self._session,
                self._puller.store,
                owner,
                folders,
                memory=memory,
                done=self.done,
                delete=owner.kind == "user" or bool(self._puller.shared_user),
                delayed=self._puller.delayed,
            )
        )
        with self._puller.store.read(owner) as reader:
            ours = {mailbox.name: mailbox for mailbox in reader.mailboxes()}
        for folder in folders:
            self._check()
            if folder.counters is not None:  # else it was named when it was listed
                self._folder(folder, ours.get(folder.name), memory, about, thorough)
        if self.done.expunged or thorough:
            messages = sum(folder.counters.messages for folder in folders if folder.counters is not None)
            with self._puller.store.read(owner) as reader:
                memory.forget_contents(2 * messages + _SPARE, reader.has_guids)

    def _folder(
        self,
        folder: Folder,
        ours: MailboxState | None,
        memory: Memory,
        about: About | None,
        thorough: bool,
    ) -> None:
        """One folder; what is wrong with it alone holds up no other. Without `about`, its messages alone."""
        known = memory.folders().get(folder.shown)

        def pull() -> None:
            mailbox = ours
            if mailbox is None or known is None or not known.agrees(mailbox, folder):
                mailbox = messages()
            if about is None:
                return
            if about.folder(folder, mailbox, thorough=thorough or known is None):
                memory.note_again(self._puller.store, folder)

        def messages() -> MailboxState:
            return FolderPull(
                self._session,
                self._puller.store,
                folder,
                memory,
                self.done,
                delayed=self._puller.delayed,
                check=self._check,
            ).run()

        for attempt in (1, 2):
            try:
                self._resuming(pull)
                return
            except (ReplyError, ServerTrouble) as error:
                self._check()
                if attempt == 2 or isinstance(error, ReplyError):
                    self._trouble(f"{folder.shown}: {error}")
                    return
                self._resuming(lambda: self._lister.ask_again(folder))
                if folder.counters is None:
                    return

    def _resuming(self, act: Callable[[], _Done]) -> _Done:
        """Do it, again from its beginning whenever the line is cut: what was done stays done."""
        while True:
            try:
                return act()
            except HungUp:
                self._session.again()
