"""``mailstore export`` with --update, -A or --follow: trees in step with the store, once or for ever."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from cyrus_sync.common.config import Config, values
from cyrus_sync.common.counted import counted
from cyrus_sync.common.errors import EX_OK, EX_TEMPFAIL, ConfigError, CyrusSyncError, StoreError, UsageError
from cyrus_sync.common.filelock import lock_within
from cyrus_sync.common.names import Owner, login_of
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.common.synclog.writer import log_path
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import NoSuchUser
from cyrus_sync.mailstore.rounds import Rounds
from cyrus_sync.mailstore.standby.follower import Follower, Trees, hint
from cyrus_sync.mailstore.standby.places import check_pattern, place_of
from cyrus_sync.mailstore.standby.standing import told
from cyrus_sync.mailstore.standby.status import LOCK, Thresholds, look, render

CHANNEL = "standby"
KEEP = "7d"
_log = logging.getLogger(__name__)


class AnotherFollows(CyrusSyncError):
    """Another process follows this channel."""

    exit_status = EX_TEMPFAIL
    text = "another mailstore export --follow works on this channel"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of trees in step."""
    parser.add_argument("--update", action="store_true", help="bring the Maildirs of USERs in step, once")
    parser.add_argument("-A", "--everybody", action="store_true", help="those of all users, once")
    parser.add_argument(
        "--follow", action="store_true", help="then go on, as the action log says; without USER, all users"
    )
    parser.add_argument(
        "--anew",
        action="store_true",
        help="with --update or -A: what others have written there, and the store has not, is put aside",
    )
    parser.add_argument(
        "-n", dest="channel", metavar="CHANNEL", default=CHANNEL, help=f"follow this one; default {CHANNEL}"
    )
    parser.add_argument(
        "--keep",
        metavar="DURATION",
        default=KEEP,
        help=f"for how long deleted folders and users are kept beside (12h, 30d); default {KEEP}",
    )
    parser.add_argument("-j", "--jobs", metavar="N", type=int, default=4, help="users at a time; default 4")
    parser.add_argument(
        "--status", action="store_true", help="how --follow fares, or USERs; exit status fit for Nagios"
    )
    parser.add_argument(
        "--warning", metavar="N", default="60", help="with --status: seconds that a change may wait (60)"
    )
    parser.add_argument("--critical", metavar="N", default="600", help="the same (600)")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    """Bring them in step, and go on if that is asked for."""
    if args.anew and args.follow:
        raise UsageError("export: --anew is not for --follow: it is done once, with --update or -A")
    if args.everybody and (args.update or args.follow or args.users):
        raise UsageError("export: -A goes with DIR alone")
    pattern: str = args.directory
    if args.update and not args.users:
        raise UsageError("export: --update takes USERs, or -A all of them")
    if args.jobs < 1:
        raise UsageError("export: -j: at least 1")
    try:
        keep = values.duration(args.keep, "d")
    except ValueError as error:
        raise UsageError(f"export: --keep: {error}") from None
    check_pattern(pattern)
    store = context.store(readonly=True)
    named = [context.owner(name) for name in args.users]
    trees = Trees(store, _places(pattern, named), keep, lambda owner, text: _notice(context, owner, text))
    with ThreadPoolExecutor(args.jobs) as pool:
        if args.follow:
            where = str(Path(pattern).absolute())
            return _follow(trees, named, pool, channel=args.channel, config=context.config, directory=where)
        return _once(context, trees, store, named, pool, anew=args.anew)


def show_status(args: argparse.Namespace, names: list[str], context: StoreContext) -> int:
    """``--status``: print how the channel fares, or these users; the exit status of a Nagios plug-in."""
    thresholds = Thresholds(_seconds("--warning", args.warning), _seconds("--critical", args.critical))
    owners = [context.owner(name) for name in dict.fromkeys(names)]
    found = look(
        log_path(context.config, args.channel),
        owners,
        lambda: context.store(readonly=True),
        context.owner_name,
        thresholds,
    )
    width = shutil.get_terminal_size().columns if context.stdout.isatty() else 200
    context.print(json.dumps(found, indent=2) if args.format == "json" else render(found, width))
    return int(found["exit_status"])


def _seconds(option: str, typed: str) -> int:
    try:
        return values.duration(typed, "s")
    except ValueError as error:
        raise UsageError(f"export: {option}: {error}") from None


def _places(pattern: str, named: list[Owner]) -> Callable[[Owner], Path]:
    shared = [owner for owner in named if owner.kind != "user"]
    if shared and (len(named) > 1 or "%" in pattern):
        raise UsageError(f"export: {shared[0]} has a directory of his own: name it alone")
    if shared:
        return lambda owner: Path(pattern)
    return lambda owner: place_of(pattern, login_of(owner.name))


def _notice(context: StoreContext, owner: Owner, text: str) -> None:
    context.warn(f"{context.owner_name(owner)}: {text}")


def _everybody(store: MailStore, named: list[Owner]) -> list[Owner]:
    """Users who are gone are among them: their trees are put aside."""
    return named or [Owner("user", userid) for userid in store.userids()]


def _once(
    context: StoreContext,
    trees: Trees,
    store: MailStore,
    named: list[Owner],
    pool: ThreadPoolExecutor,
    *,
    anew: bool,
) -> int:
    rounds = Rounds(context)
    for owner in named:
        if not store.exists(owner) and not trees.place(owner).exists():
            raise NoSuchUser(f"no such user: {context.owner_name(owner)}")
    owners = _everybody(store, named)

    def one(owner: Owner) -> CyrusSyncError | None:
        try:
            trees.bring(owner, anew=anew)
            trees.purge(owner)
        except CyrusSyncError as error:
            return error
        return None

    results = pool.map(one, owners)
    for owner in rounds.watched("exporting", owners):
        error = next(results)
        if error is None:
            rounds.done()
        else:
            rounds.failed(owner, error)
            if text := hint(error).removeprefix("; "):
                context.warn(text)
    if not named:
        for shared in store.owners():
            if shared.kind == "shared":
                context.warn(
                    f"{context.owner_name(shared)} is left out: name it, with a directory of its own"
                )
    context.print(f"{counted(rounds.count, 'user is', 'users are')} in step")
    return rounds.status


def _follow(
    trees: Trees,
    named: list[Owner],
    pool: ThreadPoolExecutor,
    *,
    channel: str,
    config: Config,
    directory: str,
) -> int:
    import sdnotify

    _check_channel(config, channel)
    systemd = sdnotify.SystemdNotifier()
    wanted = set(named)
    follower = Follower(
        Trees(trees.store, trees.place, trees.keep, lambda owner, text: _log.warning("%s: %s", owner, text)),
        SyncLog(log_path(config, channel)),
        lambda: _everybody(trees.store, named),
        lambda owner: owner in wanted if wanted else owner.kind == "user",
        pool,
        status=lambda text: systemd.notify(f"STATUS={text}"),
        directory=directory,
    )
    with _channel_of_ours(log_path(config, channel).parent):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: follower.stop.set())
        signal.signal(signal.SIGHUP, lambda _number, _frame: setattr(follower, "sweep_now", True))
        systemd.notify("READY=1")
        _log.info("following the channel %s", channel)
        with told(follower.standing, config, log_path(config, channel).parent):
            follower.run()
        systemd.notify("STOPPING=1")
    for owner, trouble in follower.troubles.items():
        _log.error("%s was not in step at the end: %s", owner, trouble.reason)
    return EX_TEMPFAIL if follower.troubles else EX_OK


def _check_channel(config: Config, channel: str) -> None:
    """Raises `ConfigError` where nobody would log anything for us."""
    if not config.switch("sync_log") or channel not in config.words("sync_log_channels"):
        raise ConfigError(
            f"{config.path}: nothing is logged for the channel {channel}: that takes `sync_log: yes` and "
            f'`sync_log_channels: "" {channel}`'
        )
    always = channel in config.words("sync_log_unsuppressable_channels") or config.switch("sync_log_chain")
    if config.string("sync_source") != "imap" and not always:
        _log.warning(
            "%s: what sync_server takes in is not logged for the channel %s: on a replica that needs"
            " `sync_log_unsuppressable_channels: %s`",
            *(config.path, channel, channel),
        )


_ASKED_SECONDS = 1.0
"""Whoever asks for the status has a share of the lock for a moment."""


@contextmanager
def _channel_of_ours(directory: Path) -> Iterator[None]:
    """One process follows a channel."""
    path = directory / LOCK
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"cannot open {path}: {error.strerror}") from error
    try:
        if not lock_within(descriptor, _ASKED_SECONDS):
            raise AnotherFollows(f"another mailstore export --follow works on {directory}")
        yield
    finally:
        os.close(descriptor)
