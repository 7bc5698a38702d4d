"""Cyrus's own sync_client on our log, which it claims as we do, and of whose work it leaves no sign.

Ours holds a lock as long as it rolls (`channel`). Theirs locks nothing but for a moment: it renames ``log``
to ``log-run`` and works on that, so two would do each other's work twice, and one would end with an error
when the other has removed what it was reading. No line is lost, but nobody knows who is at work. So we look
among the processes of this machine for one that rolls with the same directory and the same channel.

What another user's process runs is seen in ``/proc`` unless that is hidden (hidepid, ``ProtectProc=`` of a
unit); one in another container is not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.config import Config
from cyrus_sync.common.config.imapdconf import read_settings
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.sync_client.arguments import Arguments, Mode, parse
from cyrus_sync.sync_client.channel import ChannelBusy

PROGRAM = "sync_client"
PROCESSES = Path("/proc")

RIVALS_INTERVAL = 60.0
"""Seconds between two looks of a rolling client."""


class Rival(NamedTuple):
    """A rolling client of Cyrus's own: its process id, and its command line for people."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"Cyrus's own sync_client (process {self.pid}: {self.command}) works on the same log"


def rivals(cfg: Config, channel: str, processes: Path | None = None) -> list[Rival]:
    """Those that roll on this channel at this moment."""
    processes = processes or PROCESSES
    return [
        Rival(pid, " ".join(words))
        for pid, words in _clients(processes)
        if (arguments := _rolling(words[1:])) is not None
        and arguments.channel == channel
        and _same_directory(cfg, _configuration(arguments, processes / str(pid)))
    ]


def refuse_rivals(cfg: Config, channel: str) -> None:
    """Raises `ChannelBusy` where there is one."""
    for rival in rivals(cfg, channel):
        raise ChannelBusy(
            f"{rival}; end it (and its line in cyrus.conf, where its master starts it), or give -n another"
            " channel"
        )


def _clients(processes: Path) -> Iterator[tuple[int, list[str]]]:
    """Processes whose program has that name, with their words. (Ours is a script: its program is Python.)"""
    for entry in processes.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        except OSError:  # it has ended, or is none of our business
            continue
        if Path(os.fsdecode(words[0])).name == PROGRAM:
            yield int(entry.name), [os.fsdecode(word) for word in words]


def _rolling(words: list[str]) -> Arguments | None:
    """What it was told, if that makes it work on a log."""
    try:
        arguments = parse(words)
    except (CyrusSyncError, SystemExit):
        return None
    return arguments if arguments.mode is Mode.ROLLING and arguments.input_file is None else None


def _configuration(arguments: Arguments, process: Path) -> Path:
    """Its imapd.conf, as its process sees it."""
    path = Path(arguments.config)
    try:
        if not path.is_absolute():
            path = (process / "cwd").readlink() / path
        root = (process / "root").readlink()
    except OSError:  # who may not look takes it for a process like any other
        return path
    return root / path.relative_to("/")


def _same_directory(cfg: Config, path: Path) -> bool:
    if path.resolve() == cfg.path.resolve():
        return True
    try:
        other = Config(path, PROGRAM, read_settings(path)).configdirectory
        return other.resolve() == cfg.configdirectory.resolve()
    except (CyrusSyncError, OSError):
        return False
