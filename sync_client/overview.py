"""How all channels of this host fare, side by side: what ``sync_client --status`` shows without ``-n``.

A channel is one that imapd.conf speaks of (sync_log_channels, ``<channel>_sync_host``) or that a rolling
client has worked on. A channel that others read (packets, Cyrus's squatter) is none of ours.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cyrus_sync.common.config import Config
from cyrus_sync.common.judgement import OK, UNKNOWN, WORDS, badness, span
from cyrus_sync.common.synclog.writer import log_path
from cyrus_sync.common.wire.certificates import client_warnings
from cyrus_sync.common.wire.settings import ClientSettings
from cyrus_sync.sync_client.channel import channel_warnings, check_channel
from cyrus_sync.sync_client.masters import look_at_master
from cyrus_sync.sync_client.rivals import rivals
from cyrus_sync.sync_client.status import (
    Thresholds,
    read_status,
    readable,
    render,
    status_path,
)

if TYPE_CHECKING:
    from rich.table import Table

DEFAULT = "(default)"
"""How the channel without a name is called among others."""

_OTHERS = frozenset({"squatter"})
"""Channels that programs of a real Cyrus read."""

_PROGRAMS = frozenset({"sync_client", "sync_server", "mailstore", "multitool", "syncreplica"})

TABLE_WIDTH = 200
"""Letters in a line where there is no terminal that says how many fit."""


def channels_of(cfg: Config) -> list[str]:
    """All channels, in the order of imapd.conf; "" is the default one. Never empty."""
    others = _OTHERS | {cfg.string("multisite_channel") or ""} - {""}
    root = cfg.configdirectory / "sync"
    named = [*cfg.words("sync_log_channels"), *cfg.prefixes_of("sync_host")]
    worked_on = [path.parent.name for path in sorted(root.glob("*/status.json"))]
    found = dict.fromkeys(
        name
        for name in named
        if name not in others and name not in _PROGRAMS and cfg.string("sync_host", name or None)
    )
    found |= dict.fromkeys(worked_on)
    if status_path(root).exists():
        found = {"": None, **found}
    return list(found) or [""]


def channel_status(
    cfg: Config, channel: str, now: float, thresholds: Thresholds, *, damaged: int, server: str | None = None
) -> dict[str, Any]:
    """`read_status` of a channel as `cfg` has it. `server` is what ``-S`` gave."""
    found = server or cfg.string("sync_host", channel or None)
    settings = ClientSettings.from_config(cfg, channel or None, server) if found else None
    return read_status(
        cfg.configdirectory / "sync" / channel,
        channel,
        now,
        thresholds,
        log=log_path(cfg, channel),
        warning="; ".join((*channel_warnings(cfg, channel), *map(str, rivals(cfg, channel)))),
        damaged=damaged,
        certificates=client_warnings(settings) if settings else [],
    )


def overview(
    cfg: Config, channels: Iterable[str], now: float, thresholds: Thresholds, server: str | None = None
) -> dict[str, Any]:
    """The state of each channel (``channels``), and of all: the worst `exit_status` (UNKNOWN counts less than
    a warning: a channel that is not in use yet hides no trouble), and each one's `reasons`."""
    with contextlib.closing(look_at_master(cfg)) as master:
        damaged = len(master.damaged_owners())
    each = [
        channel_status(cfg, check_channel(name), now, thresholds, damaged=damaged, server=server)
        for name in channels
    ]
    status = max((one["exit_status"] for one in each), key=badness, default=UNKNOWN)
    reasons = [f"{_named(one)}: {why}" for one in each for why in one["reasons"] if one["exit_status"] != OK]
    return {"result": WORDS[status], "exit_status": status, "reasons": reasons, "channels": each}


def _named(one: dict[str, Any]) -> str:
    return one["channel"] or DEFAULT


# -- showing it


def render_overview(found: dict[str, Any], form: str, width: int = TABLE_WIDTH) -> str:
    """A line for Nagios and a table (``text``), or ``json`` or ``yaml``. One channel alone is shown as
    ``-n`` shows it."""
    only = found["channels"][0] if len(found["channels"]) == 1 else None
    if only is not None and form == "text":
        return render(only, form)
    if form != "text":
        each = [readable(one) for one in found["channels"]]
        document = {**(each[0] if only is not None else found), "channels": each}
        if form == "json":
            return json.dumps(document, indent=2)
        import yaml  # slow to load

        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).rstrip()
    from rich.console import Console  # slow to load

    well = f"{len(found['channels'])} channels"
    head = f"SYNC {found['result']} - {'; '.join(found['reasons']) or well}"
    console = Console(width=width, highlight=False, color_system=None, markup=False)
    with console.capture() as shown:
        console.print(_table(found["channels"]))
    lines = [line.rstrip() for line in shown.get().splitlines()]
    aside = [
        f"set aside: {_named(one)}: {who}: {why}"
        for one in found["channels"]
        for who, why in one["quarantine"].items()
    ]
    return "\n".join([head, *lines, *aside])


_COLUMNS = (
    "channel",
    "result",
    "state",
    "behind",
    "waiting",
    "last success",
    "messages/min",
    "set aside",
    "server",
)
_GIVES_WAY = frozenset({"state", "server"})
"""Where a terminal is narrow."""

_NUMBERS = frozenset({"behind", "waiting", "messages/min", "set aside"})


def _table(channels: Sequence[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for name in _COLUMNS:
        table.add_column(
            name,
            justify="right" if name in _NUMBERS else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if name in _GIVES_WAY else len(name),
        )
    for one in channels:
        table.add_row(*(str(value) for value in _row(one)))
    return table


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    success = one["last_success_seconds"]
    rate = one.get("messages_per_minute")
    return (
        _named(one),
        one["result"],
        one.get("state") or "-",
        span(one["oldest_change_seconds"]),
        one["queue"],
        "never" if success is None else f"{span(success)} ago",
        "-" if rate is None or not one["running"] else rate,
        one["set_aside"],
        one.get("server") or "-",
    )
