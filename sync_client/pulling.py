"""``sync_source: imap``: ``-u`` and ``-A`` pull users from another IMAP server into our store.

Several users at once, each on a connection of his own. What fails is named, and all others go on; if the
server itself cannot be reached nobody else is tried. What is written into the store is logged there like any
change, so a channel replicates it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import (
    EX_FAILURE,
    EX_OK,
    EX_TEMPFAIL,
    AuthenticationFailed,
    CannotConnect,
    CyrusSyncError,
)
from cyrus_sync.common.names import login_of
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.progress import progress
from cyrus_sync.common.stores import KeptStore, open_kept
from cyrus_sync.sync_client.arguments import Arguments, Mode
from cyrus_sync.sync_client.report import log, quoted

if TYPE_CHECKING:
    from cyrus_sync.pull.pulled import Pulled
    from cyrus_sync.pull.puller import Puller


def puller_of(cfg: Config, keep: float = 0) -> tuple[Puller, KeptStore]:
    """The puller that `cfg` describes, which keeps its connections for so many seconds, and the store that it
    fills. Raises `ConfigError`, `StoreError`."""
    from cyrus_sync.pull.puller import Puller
    from cyrus_sync.pull.settings import ImapSettings

    settings = ImapSettings.from_config(cfg)
    kept = open_kept(cfg, replicating=True)
    kept.care.check()
    puller = Puller(
        settings,
        kept.mail,
        directory=cfg.configdirectory / "pull",
        delayed=cfg.string("delete_mode") == "delayed",
        say=lambda text: log.warning("%s: %s", settings.server, text),
        keep=keep,
    )
    return puller, kept


def run_pull(arguments: Arguments, cfg: Config, names: Sequence[str]) -> int:
    """Pull them; the exit status."""
    puller, kept = puller_of(cfg)
    try:
        userids = list(names)
        if arguments.mode is Mode.ALL:
            userids = everybody(cfg, kept.mail.userids(), "".join(names))
        if not userids:
            log.error("nobody to pull: imap_users names nobody, and there is nobody here")
            return EX_FAILURE
        users = dict.fromkeys(userids, True)
        if arguments.mode is Mode.ALL and not names:
            users = {userid: userid in users for userid in with_shared_user(puller, userids)}
        return _pull_all(puller, users, cfg, arguments)
    finally:
        kept.close()


def everybody(cfg: Config, here: Sequence[str], prefix: str = "") -> list[str]:
    """Userids of all who are pulled, from those on whose names begin with `prefix`. Names that cannot be
    userids are named and left out."""
    from cyrus_sync.pull.settings import ImapSettings

    space = Namespace.from_config(cfg)
    found = []
    for login in ImapSettings.from_config(cfg).everybody(map(login_of, here)):
        try:
            userid = space.userid(login)
        except CyrusSyncError as error:
            log.error("%s", error)
            continue
        if userid.startswith(prefix):
            found.append(userid)
    return found


def with_shared_user(puller: Puller, userids: Sequence[str]) -> list[str]:
    """These, and imap_shared_user behind them: if he is none of them, for shared folders alone."""
    return list(dict.fromkeys([*userids, *([puller.shared_user] if puller.shared_user else [])]))


def _pull_all(puller: Puller, users: Mapping[str, bool], cfg: Config, arguments: Arguments) -> int:
    """Of each user is said whether his own mail is wanted, too."""
    stop = threading.Event()
    down: list[CyrusSyncError] = []
    status = EX_OK
    untried = 0

    def pull(userid: str) -> Pulled | None:
        if stop.is_set():
            return None
        try:
            return puller.pull(userid, own=users[userid], stop=stop)
        except CannotConnect as error:
            if not isinstance(error, AuthenticationFailed):
                down.append(error)
                stop.set()
            raise

    count = min(cfg.integer("imap_connections"), len(users))
    with (
        _stopping(stop) as signalled,
        progress(
            "pulling",
            total=len(users),
            unit="users",
            stream=sys.stderr,
            log=lambda text: log.info("%s", text),
            silent=bool(arguments.verbose),
        ) as meter,
        ThreadPoolExecutor(count, "pull") as threads,
    ):
        futures: dict[Future[Pulled | None], str] = {threads.submit(pull, one): one for one in users}
        for future in as_completed(futures):
            meter.advance()
            userid = futures[future]
            try:
                pulled = future.result()
            except CyrusSyncError as error:
                status = EX_FAILURE
                if error not in down and not signalled.is_set():
                    log.error("%s", failure_line(userid, error))
                continue
            except Exception:
                status = EX_FAILURE
                log.critical("pull failed: user=%s: internal error", quoted(userid), exc_info=True)
                continue
            if pulled is None:
                untried += 1
                continue
            for trouble in pulled.troubles:
                status = EX_FAILURE
                log.error("%s", failure_line(userid, trouble))
            if arguments.verbose:
                print(told(pulled), flush=True)
    if signalled.is_set():
        return EX_TEMPFAIL
    if down:
        rest = f"; {untried} more users were not tried" if untried else ""
        log.error("cannot pull from %s: %s%s", puller.server, down[0].message, rest)
    return status


def failure_line(userid: str, reason: CyrusSyncError | str) -> str:
    """The line that says what of a user could not be pulled."""
    if isinstance(reason, str):
        return f"pull incomplete: user={quoted(login_of(userid))} reason={quoted(reason)}"
    words = [f"{key}={quoted(value)}" for key, value in reason.address.items() if key != "user"]
    return " ".join(
        ["pull failed:", f"user={quoted(login_of(userid))}", *words, f"reason={quoted(reason.message)}"]
    )


def told(pulled: Pulled) -> str:
    """What was done of a user, for people."""
    counts = {
        "were here already": pulled.moved,
        "new flags": pulled.flags,
        "expunged": pulled.expunged,
        "folders": pulled.folders,
        "other changes": pulled.besides,
    }
    name = login_of(pulled.userid)
    if not pulled.changed:
        return f"{name}: nothing has changed"
    first = f"{pulled.messages} messages ({pulled.octets:,} octets)" if pulled.messages else ""
    rest = [f"{count} {what}" for what, count in counts.items() if count]
    return f"{name}: " + ", ".join([first, *rest] if first else rest)


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[threading.Event]:
    """A signal ends the work after what is under way; whether there was one."""
    signalled = threading.Event()

    def hear(number: int, frame: object) -> None:
        del number, frame
        signalled.set()
        stop.set()

    before = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield signalled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
