"""status: who is behind, what waits, what lies in the bays; for people and for monitoring."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from cyrus_sync.common.errors import CyrusSyncError, UsageError
from cyrus_sync.common.numbers import decimal
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, Context
from cyrus_sync.multisite.commands.lsreplica import when
from cyrus_sync.multisite.contacts import show_every
from cyrus_sync.multisite.health import (
    UNKNOWN,
    WORDS,
    Health,
    Thresholds,
    do_without,
    here_text,
    look,
    span,
    wait_text,
)

STATUS_OPTIONS = (
    Option("json", "", "as JSON, with times in Unix seconds"),
    Option("warn/ing", "hours", "from which age on it is a warning (24)"),
    Option("crit/ical", "hours", "from which age on it is critical (168)"),
)

STATUS_ABOUT = """\
For each sibling: when the last packet was written for it, when the last one came from it, how many
operations it has not been told and how old the oldest is, how many were told it by packets that it has not
shown to have got, and how many it has that are not here. Then what waits for the masters of users, or for
messages, what is set aside, and the orders in the bays. All as it is known here: a packet that was lost stays
on the way until its operations are exported anew."""

EXIT_STATUS = """\
exit status:
  0   OK (these four as Nagios has them)
  1   WARNING: a sibling is behind, or something waits, for longer than -warning; something is set aside
  2   CRITICAL: a sibling is behind for longer than -critical
  3   UNKNOWN: this server is no replica, or its log cannot be read
  64  the command line makes no sense"""

GRAMMAR = Grammar(
    "multitool status",
    [*STATUS_OPTIONS, *COMMON_OPTIONS],
    "",
    "Show who is behind and what waits.\n" + STATUS_ABOUT,
    EXIT_STATUS,
)

WAITING = 20
"""How many users are named that wait for their masters, or for messages."""


def run(context: Context) -> int:
    """Say it; the exit status of a Nagios plug-in."""
    if context.options.operands:
        raise UsageError("status takes no operands")
    hours = {name: _hours(context, name, default) for name, default in (("warning", 24), ("critical", 168))}
    thresholds = Thresholds(
        hours["warning"] * 3600,
        hours["critical"] * 3600,
        master=context.config.integer("multisite_master_days") * 86400,
        show_every=show_every(context.config),
    )
    try:
        with context.look_at_log() as (family, log):
            found = look(context.config, family, log, context.site, thresholds)
    except CyrusSyncError as error:
        if "json" in context.options:
            context.print(
                json.dumps({"result": WORDS[UNKNOWN], "reasons": [str(error)], "exit_status": UNKNOWN})
            )
        else:
            context.print(f"PACKETS {WORDS[UNKNOWN]} - {error}")
        return UNKNOWN
    for line in (
        [json.dumps(_document(found), indent=2)] if "json" in context.options else _lines(found, thresholds)
    ):
        context.print(line)
    return found.exit_status


def _hours(context: Context, name: str, default: int) -> int:
    typed = context.options.text(name)
    if typed is None:
        return default
    number = decimal(typed, 999_999)
    if number is None:
        raise UsageError(f"-{name} {typed}: a number of hours is needed")
    return number


def _document(found: Health) -> dict[str, Any]:
    return {"result": found.result, **asdict(found)}


def _lines(found: Health, thresholds: Thresholds) -> Iterator[str]:
    siblings = f"{len(found.siblings)} sibling{'s' if len(found.siblings) != 1 else ''}"
    said = "; ".join(found.reasons) or f"{siblings}, nobody is behind"
    yield f"PACKETS {found.result} - {found.replica}@{found.family}: {said}"
    yield ""
    rows = [("sibling", "last sent", "last received", "to send", "on the way", "lacking")]
    for one in found.siblings:
        behind = f"{one.to_send} ({span(found.age(one.to_send_since))})" if one.to_send else "0"
        way = f"{one.on_the_way} ({span(found.age(one.on_the_way_since))})" if one.on_the_way else "0"
        lacking = f"{one.lacking} ({one.packets} packets wait here)" if one.packets else str(one.lacking)
        rows.append((one.name, _when(one.sent), _when(one.received), behind, way, lacking))
    yield from _table(rows)
    yield ""
    if found.unrecorded:
        yield f"changes that no export has recorded yet: {found.unrecorded} lines of the action log"
    for waiting in found.waiting[:WAITING]:
        age = found.age(waiting.since) or 0
        without = f" ({do_without(waiting, found.replica)})" if age >= thresholds.master else ""
        yield f"{wait_text(waiting)}, the oldest for {span(age)}{without}"
    if len(found.waiting) > WAITING:
        yield f"… and of {len(found.waiting) - WAITING} others"
    for stopped in found.waiting_here[:WAITING]:
        yield f"{here_text(stopped)}, the oldest for {span(found.age(stopped.since))}"
    if len(found.waiting_here) > WAITING:
        yield f"… and of {len(found.waiting_here) - WAITING} others"
    for state, text in (("begun", "were begun"), ("set_aside", "are set aside")):
        if found.pending[state]:
            yield f"operations that {text}: {found.pending[state]}"
    bays = found.bays
    expiry = f", the first expires {when(bays.next_expiry)}" if bays.next_expiry else ""
    yield f"bays: {bays.packets} packets to apply, {bays.orders} orders{expiry}, {bays.returned} came back"


def _when(seconds: int | None) -> str:
    return when(seconds) if seconds else "-"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
