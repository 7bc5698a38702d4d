"""How trees are kept in step, for people and for monitoring: ``mailstore export --status``.

Of the channel it is what whoever follows it last said (`standing`), and whether he still does; of a user it
is what his tree has been given (`ledger`) against what he has. Nothing is changed. The judgement fits Nagios.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.judgement import CRITICAL, OK, UNKNOWN, WARNING, WORDS, badness, span
from cyrus_sync.common.names import Owner, login_of
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.mailstore.standby.ledger import in_step_of
from cyrus_sync.mailstore.standby.places import place_of
from cyrus_sync.mailstore.standby.standing import NAME, WRITE_EVERY, NotInStep, Standing, read_standing
from cyrus_sync.mailstore.targets.walk import folders_of

LOCK = "standby.lock"
"""In the channel's directory: whoever follows the channel holds it."""

_SILENT = 12 * WRITE_EVERY
"""Seconds without a word from who follows."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Age of the oldest change that is not in the trees, in seconds."""

    warning: int
    critical: int

    def level(self, oldest: float | None, now: float) -> int:
        """How bad it is that something waits since `oldest`."""
        age = 0.0 if oldest is None else now - oldest
        return CRITICAL if age >= self.critical else WARNING if age >= self.warning else OK


def look(
    log: Path,
    owners: list[Owner],
    store: Callable[[], MailStore],
    name_of: Callable[[Owner], str],
    thresholds: Thresholds,
) -> dict[str, Any]:
    """The state of the channel with this log, or of these owners on it (`users`): `result`, `exit_status`,
    `reasons`."""
    channel, now = log.parent.name, time.time()
    standing, running = read_standing(log.parent / NAME), _is_held(log.parent / LOCK)
    oldest = _oldest(standing, log)
    users: list[dict[str, Any]] = []
    if standing is None and not running:
        text = f"nothing has followed the channel {channel}: mailstore export --follow does"
        status, reasons = UNKNOWN, [text]
    elif owners:
        directory = standing.directory if standing is not None else ""
        failed = {Owner(one.kind, one.name): one for one in standing.named} if standing is not None else {}
        opened = store()
        users = [
            {"user": name_of(owner), **_of_owner(owner, failed.get(owner), directory, opened, now)}
            for owner in owners
        ]
        for user in users:
            if user["state"] == "behind":  # for how long is known of the oldest change alone
                level = thresholds.level(oldest, now) if oldest is not None else WARNING
                user |= _judged(user, level, "is behind")
        status = max((int(user["exit_status"]) for user in users), key=badness)
        reasons = [f"{user['user']} {why}" for user in users for why in user["reasons"]]
        if not running:
            status, reasons = CRITICAL, [*reasons, "no mailstore export --follow is running"]
    else:
        for one in standing.named if standing is not None else ():
            users.append({"user": name_of(Owner(one.kind, one.name)), **_failed(one, now)})
        status, reasons = _judge(standing, oldest, now, thresholds, running=running)
    found: dict[str, Any] = {"result": WORDS[status], "exit_status": status, "reasons": reasons}
    found |= {"channel": channel, "running": running}
    if standing is not None:
        found |= {
            "pid": standing.pid if running else None,
            "directory": standing.directory,
            "not_in_step": standing.not_in_step,
            "waiting": standing.waiting if running else 0,
            "oldest_change_seconds": None if oldest is None else max(0, round(now - oldest)),
            "all_looked_at": _moment(standing.swept) if standing.swept else None,
            "looking_at_all": bool(standing.sweeping) and running,
            "brought": standing.brought,
            "failures": standing.failures,
            "updated": _moment(standing.updated),
        }
    return {**found, "users": users}


def _is_held(path: Path) -> bool:
    """Asked for a share, and for a moment: whoever begins to follow waits for that."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _oldest(standing: Standing | None, log: Path) -> float | None:
    """Since when something is not in the trees, or may not be."""
    known = [] if standing is None or standing.oldest is None else [standing.oldest]
    return min([*known, *_logged(log)], default=None)


def _logged(log: Path) -> Iterator[float]:
    """When the log was last written to, where it has anything."""
    for path in (log, log.with_name(f"{log.name}-run")):
        with contextlib.suppress(OSError):
            if (about := path.stat()).st_size:
                yield about.st_mtime


def _judge(
    standing: Standing | None, oldest: float | None, now: float, thresholds: Thresholds, *, running: bool
) -> tuple[int, list[str]]:
    reasons: list[tuple[int, str]] = []
    if not running:
        reasons.append((CRITICAL, "no mailstore export --follow is running"))
    elif standing is None or now - standing.updated > _SILENT:
        silence = "at all" if standing is None else f"for {span(now - standing.updated)}"
        reasons.append((WARNING, f"whatever follows the channel has said nothing {silence}"))
    if standing is not None and standing.not_in_step:
        number = standing.not_in_step
        reasons.append((WARNING, f"{number} user{'s are' if number > 1 else ' is'} not in step"))
    if level := thresholds.level(oldest, now):
        reasons.append((level, f"the oldest change waits for {span(now - (oldest or now))}"))
    if running and standing is not None and not standing.swept:
        reasons.append((OK, "not all users were looked at yet"))
    return max((level for level, _ in reasons), default=OK), [text for _, text in reasons]


# -- of one owner


def _failed(one: NotInStep, now: float) -> dict[str, Any]:
    """One who is tried again."""
    return {
        "state": "not in step",
        "since": _moment(one.since),
        "tries": one.tries,
        "next_try_seconds": max(0, round(one.due - now)),
        "reason": one.reason,
    }


def _of_owner(
    owner: Owner, failed: NotInStep | None, directory: str, store: MailStore, now: float
) -> dict[str, Any]:
    """One who was asked for: his tree against his mail."""
    found: dict[str, Any] = {"mailboxes": 0, "behind": []}
    if failed is not None:
        found |= _failed(failed, now)
    try:
        with store.read(owner) as reader:
            wanted = [mailbox for mailbox, _ in folders_of(reader)]
        tree = place_of(directory, login_of(owner.name)) if owner.kind == "user" else Path(directory)
        there = in_step_of(tree) if directory else None
    except (StoreError, OSError) as error:
        return _judged(found, WARNING, f"cannot be looked at: {error}")
    found["mailboxes"] = len(wanted)
    found["behind"] = [box.name for box in wanted if (there or {}).get(box.uniqueid, -1) < box.highestmodseq]
    if failed is not None:
        return _judged(found, WARNING, f"is not in step: {failed.reason}")
    if not wanted and there is None:
        return _judged({**found, "state": "not here"}, UNKNOWN, "is not here")
    if there is None:
        return _judged({**found, "state": "no tree"}, WARNING, "has no tree yet")
    if found["behind"] or there.keys() - {box.uniqueid for box in wanted}:
        return {**found, "state": "behind"}
    return _judged({**found, "state": "in step"}, OK)


def _judged(found: dict[str, Any], status: int, *reasons: str) -> dict[str, Any]:
    return {
        "state": "unknown", **found, "result": WORDS[status], "exit_status": status, "reasons": list(reasons)
    }  # fmt: skip


def _moment(seconds: float) -> str:
    """ISO 8601 in UTC."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


# -- showing it

_LEFT_OUT = frozenset({"result", "exit_status", "reasons", "users"})
_COLUMNS = ("user", "state", "behind", "since", "tries", "next try", "reason")


def render(found: dict[str, Any], width: int) -> str:
    """A line for Nagios, what is known of the channel, and a table of users."""
    lines = [f"STANDBY {found['result']} - {'; '.join(found['reasons']) or 'all are in step'}"]
    for key, value in found.items():
        if key not in _LEFT_OUT and value not in (None, ""):
            shown = ("no", "yes")[value] if isinstance(value, bool) else value
            lines.append(f"{key.replace('_', ' ')}: {shown}")
    if not found["users"]:
        return "\n".join(lines)
    from rich.console import Console  # slow to load
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    for user in found["users"]:
        table.add_row(*(str(value) for value in _row(user)))
    console = Console(width=width, highlight=False, color_system=None, markup=False)
    with console.capture() as shown_table:
        console.print(table)
    return "\n".join([*lines, *(line.rstrip() for line in shown_table.get().splitlines())])


def _row(user: dict[str, Any]) -> tuple[object, ...]:
    known = "mailboxes" in user
    return (
        user["user"],
        user["state"],
        f"{len(user['behind'])} of {user['mailboxes']} mailboxes" if known else "-",
        user.get("since", "-"),
        user.get("tries", "-"),
        span(user.get("next_try_seconds")),
        user.get("reason", "-"),
    )
