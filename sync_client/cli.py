"""sync_client: the command. Reads the command line and the configuration, then hands over.

What can be wrong is found before anything starts: the command line (64), the configuration (78), no
server (70), another client on the channel (75). Only then does ``-r`` go into the background, and only
there is the reactor made.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cyrus_sync.common import syslog
from cyrus_sync.common.commands import complain, run_command
from cyrus_sync.common.config import Config
from cyrus_sync.common.config.kept import tighten_kept
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, EX_SOFTWARE, CyrusSyncError, UsageError
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.printable import printable
from cyrus_sync.sync_client import names
from cyrus_sync.sync_client.arguments import Arguments, Mode, parse, parser
from cyrus_sync.sync_client.channel import PULL, ChannelLock, channel_directory, check_known

if TYPE_CHECKING:
    from cyrus_sync.common.wire.settings import ClientSettings


class NoServer(CyrusSyncError):
    """Neither ``-S`` nor sync_host."""

    exit_status = EX_SOFTWARE
    text = "sync_host not defined"


def pulls(arguments: Arguments, cfg: Config) -> bool:
    """Whether mail is pulled from an IMAP server, rather than that of the store replicated. Raises
    `UsageError` for what cannot be pulled."""
    if cfg.string("sync_source") != "imap" or arguments.channel or arguments.mode not in _REPLICATING:
        return False
    if arguments.mode not in (Mode.USERS, Mode.ALL, Mode.ROLLING) or arguments.input_file is not None:
        raise UsageError(
            f"with sync_source: imap users (-u), everybody (-A) or what changes (-r) is pulled, not "
            f"{'a file' if arguments.input_file is not None else arguments.mode.value}; the store itself is "
            "replicated on a channel (-n)"
        )
    if arguments.server:
        raise UsageError("with sync_source: imap imap_host says where mail is pulled from, not -S")
    return True


_REPLICATING = (Mode.USERS, Mode.MAILBOXES, Mode.ALL, Mode.META, Mode.ROLLING)


class NothingToDo(CyrusSyncError):
    """A run that was asked for names nobody and nothing."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return run_command("sync_client", _run, argv, usage=lambda: parser().format_usage())


def _run(words: list[str]) -> int:
    arguments = parse(words)
    cfg = Config.load(arguments.config, program="sync_client")
    if arguments.mode is Mode.STATUS:
        return _status(arguments, cfg)
    if arguments.mode is Mode.VERIFY_REPORT:
        return _verify_report(arguments, cfg)
    if arguments.channel and arguments.mode is not Mode.ROLLING:
        check_known(cfg, arguments.channel)
    if pulls(arguments, cfg):
        return _roll_pulling(arguments, cfg) if arguments.mode is Mode.ROLLING else _pull(arguments, cfg)
    settings = _client_settings(arguments, cfg)
    if arguments.startup_wait:
        complain(
            "sync_client", f"waiting {arguments.startup_wait} seconds for a debugger, process {os.getpid()}"
        )
        time.sleep(arguments.startup_wait)
    if arguments.mode is Mode.DRAIN:
        from cyrus_sync.sync_client.drain import run_drain
        from cyrus_sync.sync_client.parts import Job

        return run_drain(Job(arguments, cfg, settings))
    if arguments.mode is Mode.ROLLING:
        return _roll(arguments, cfg, settings)
    return _once(arguments, cfg, settings)


def _pull(arguments: Arguments, cfg: Config) -> int:
    from cyrus_sync.sync_client import report

    found, bad = _names(arguments, cfg)
    report.set_up(cfg, stderr=True, operations=arguments.verbose_logging, briefly=True)
    from cyrus_sync.sync_client.pulling import run_pull

    return run_pull(arguments, cfg, found) or (EX_FAILURE if bad else EX_OK)


def _once(arguments: Arguments, cfg: Config, settings: ClientSettings) -> int:
    from cyrus_sync.sync_client import report

    found, bad = _names(arguments, cfg)
    report.set_up(cfg, stderr=True, operations=arguments.verbose_logging, briefly=True)
    from cyrus_sync.sync_client.parts import Job
    from cyrus_sync.sync_client.start import run_one_shot

    job = Job(arguments, cfg, settings, found, bad)
    if arguments.mode is Mode.COMPARE:
        from cyrus_sync.sync_client.comparison import run_comparison

        return run_comparison(job)
    return run_one_shot(job)


def _roll_pulling(arguments: Arguments, cfg: Config) -> int:
    from cyrus_sync.sync_client.pull_rolling import event_addresses, run_pull_rolling

    event_addresses(cfg)
    return _behind_lock(
        replace(arguments, channel=PULL),
        cfg,
        lambda ready, works: run_pull_rolling(
            ready, cfg, lambda: Config.load(ready.config, program="sync_client"), works
        ),
    )


def _roll(arguments: Arguments, cfg: Config, settings: ClientSettings) -> int:
    def roll(ready: Arguments, works: Works) -> int:
        from cyrus_sync.sync_client.parts import Job
        from cyrus_sync.sync_client.start_rolling import run_rolling

        def reload() -> Job:
            fresh = Config.load(ready.config, program="sync_client")
            return Job(ready, fresh, _client_settings(ready, fresh))

        return run_rolling(Job(ready, cfg, settings), reload, works)

    return _behind_lock(arguments, cfg, roll)


Works = Callable[[], None]
"""Called when a rolling client works: all that it needs is there."""


def _behind_lock(arguments: Arguments, cfg: Config, roll: Callable[[Arguments, Works], int]) -> int:
    """`roll` as the only one on the channel, in the background unless that is not wanted."""
    stop = arguments.shutdown_file
    arguments = replace(  # a daemon works in /
        arguments,
        config=str(Path(arguments.config).absolute()),
        shutdown_file=stop and str(Path(stop).absolute()),
    )
    from cyrus_sync.common.metrics.settings import MetricsSettings
    from cyrus_sync.sync_client import report
    from cyrus_sync.sync_client.background import go_to_background, is_supervised
    from cyrus_sync.sync_client.rivals import refuse_rivals

    MetricsSettings.from_config(cfg, "client", arguments.channel or None)
    lock = None
    if arguments.input_file is None:
        refuse_rivals(cfg, arguments.channel)
        lock = ChannelLock(channel_directory(cfg, arguments.channel)).acquire()
    elif arguments.input_file != "-" and not Path(arguments.input_file).is_file():
        raise UsageError(f"there is no file {arguments.input_file}")
    foreground = arguments.foreground or arguments.input_file is not None or is_supervised(os.environ)
    if not foreground and (absence := syslog.absence()):
        complain("sync_client", f"{absence}: what the background process has to say waits for one")
    starting = None if foreground else go_to_background("sync_client")
    report.set_up(cfg, stderr=foreground, operations=arguments.verbose_logging)
    status = EX_SOFTWARE
    try:
        if lock is not None:
            lock.write_pid()
        tighten_kept(cfg)
        status = roll(arguments, starting.over if starting is not None else lambda: None)
    except CyrusSyncError as error:
        report.log.critical("%s", error)
        status = error.exit_status
    except Exception:  # there may be nobody left who would see a traceback
        report.log.critical("internal error", exc_info=True)
    finally:
        if lock is not None:
            lock.release()
        if starting is not None:
            starting.over(status)
    return status


def _status(arguments: Arguments, cfg: Config) -> int:
    from cyrus_sync.sync_client import overview, user_status
    from cyrus_sync.sync_client.status import Thresholds, render

    thresholds = Thresholds(arguments.warning, arguments.critical)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else overview.TABLE_WIDTH
    channels = [arguments.channel] if arguments.channel_given else overview.channels_of(cfg)
    if arguments.names:
        found = user_status.user_status(cfg, arguments.names, channels, time.time(), thresholds)
        shown = user_status.render_users(found, arguments.format, width)
    else:
        found = overview.overview(cfg, channels, time.time(), thresholds, arguments.server)
        if arguments.channel_given:
            shown = render(found["channels"][0], arguments.format)
        else:
            shown = overview.render_overview(found, arguments.format, width)
    print(printable(shown, lines=True) if arguments.format == "text" else shown)
    return int(found["exit_status"])


def _verify_report(arguments: Arguments, cfg: Config) -> int:
    from cyrus_sync.sync_client.comparing import signing
    from cyrus_sync.sync_client.comparing.report import verdict

    assert arguments.report is not None
    text, good = verdict(
        names.read_input(arguments.report), signing.known_key(cfg.configdirectory / "sync", arguments.key)
    )
    print(text)
    return EX_OK if good else EX_FAILURE


def _has_server(arguments: Arguments, cfg: Config) -> bool:
    return bool(arguments.server or cfg.string("sync_host", arguments.channel or None))


def _client_settings(arguments: Arguments, cfg: Config) -> ClientSettings:
    from cyrus_sync.common.wire.settings import ClientSettings

    channel = arguments.channel or None
    if not _has_server(arguments, cfg):
        raise NoServer(f"{cfg.path}: sync_host not defined, and no server given with -S")
    settings = ClientSettings.from_config(cfg, channel, arguments.server)
    if arguments.compress:
        settings = replace(settings, compress=True, require_compression=arguments.require_compression)
    return settings


def _names(arguments: Arguments, cfg: Config) -> tuple[list[str], int]:
    """The internal names of a one-shot run, and how many were none and have been reported."""
    typed = list(arguments.names)
    if arguments.input_file is not None:
        typed += names.read_names(arguments.input_file)
        if not typed:
            where = "standard input" if arguments.input_file == "-" else arguments.input_file
            raise NothingToDo(f"no names in {where}: nothing was done")
    space = Namespace.from_config(cfg)
    if arguments.mode is Mode.ALL or (arguments.mode is Mode.COMPARE and arguments.everybody):
        return [space.prefix(text) if space.separator in text else text for text in typed], 0

    def tell(error: CyrusSyncError) -> None:
        complain("sync_client", str(error))

    if arguments.mode is Mode.COMPARE:
        from cyrus_sync.sync_client.comparing.findings import name_of

        return names.check_each(typed, lambda text: name_of(space.owner(text)), tell)
    if arguments.mode is Mode.MAILBOXES:
        return names.check_each(typed, space.internal, tell)
    return names.check_each(typed, space.userid, tell)
