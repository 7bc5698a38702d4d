"""sync_receive: apply what has come, for a timer, or as the receipt handler of shipping.conf(5).

A receipt handler is called as ``sync_receive -o origin [-d packet] [-a order] [-s class]``. What has arrived
for this host is applied, with all else that waits in the bays, since it may have waited for just this. What
travels on is sent on.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from cyrus_sync.common.errors import EX_OK
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.candidates import looks_like_packet
from cyrus_sync.multisite.commands.context import EXIT_STATUS, Context
from cyrus_sync.multisite.commands.scheduled import (
    SCHEDULED_OPTIONS,
    Run,
    lock_words,
    logged,
    patience,
    quietness,
)
from cyrus_sync.multisite.commands.turns import turn
from cyrus_sync.multisite.member import directory_of
from cyrus_sync.shipping.run import deliver

GRAMMAR = Grammar(
    "sync_receive",
    [
        Option("v/ob", "pattern", "only if the name of this server's family is like that (* ? [])"),
        Option("d/ata", "path", "a packet, or a directory of packets, besides what is in the bays"),
        Option("a/ctual", "order", "an order whose file has come to be sent on: send it"),
        Option("s/class", "class", "look only into the bays of this storage class"),
        Option("o/rigin", "host", "from where it came, for the log"),
        *SCHEDULED_OPTIONS,
    ],
    "",
    "Apply the update packets that have come. Meant for timers, and as a receipt handler: a run that goes\n"
    "well prints nothing, one that finds another run at work waits for it, and never more than one waits.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Apply what has come, and send on what is to travel on."""
    options = context.options
    quietness(context)
    pattern, family = options.text("vob"), context.family
    if pattern is not None and not fnmatchcase(family.name, pattern.removeprefix("vob:").lstrip("\\/@")):
        context.notice(f"nothing to do: this is the family {family.name!r}")
        return EX_OK
    named = _outside(context)
    may_leave_it = not named and "actual" not in options
    with turn(
        directory_of(context.config), context.program, patience(context), may_leave_it=may_leave_it
    ) as ours:
        if not ours:
            context.notice("another run is about to begin, and does this, too")
            return EX_OK
        with logged(context) as this:
            _receive(context, this, named)
    return this.status


def _outside(context: Context) -> list[Path]:
    """What ``-data`` names, as far as it does not lie in a bay, where it is found anyway. Raises OSError."""
    data = context.options.text("data")
    if data is None:
        return []
    path = Path(data).absolute()
    path.lstat()  # say now that it is not there
    bays = [bay.incoming.resolve() for bay in context.site.all_bays(context.options.text("sclass"))]
    inside = path.resolve() if path.is_dir() else path.parent.resolve()
    return [] if inside in bays else [path]


def _receive(context: Context, this: Run, named: list[Path]) -> None:
    options = context.options
    if (origin := options.text("origin")) is not None:
        what = options.text("data") or options.text("actual") or "what has come"
        context.log.info(f"{what} has come from {origin}")
    for path in named:
        if path.is_dir() or looks_like_packet(path):
            this.command("syncreplica", "-import", *lock_words(context), str(path))
    classes = ["-sclass", options.text("sclass") or ""] if "sclass" in options else []
    this.command("syncreplica", "-import", "-receive", *classes, *lock_words(context))
    if (order := options.text("actual")) is not None:
        if "trace" in options:
            context.print(f"+ shipping_server {order}")
        this.step(lambda: all(deliver(context.site, [Path(order).absolute()])))
