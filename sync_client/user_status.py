"""How far one user is replicated: what ``sync_client --status USER`` shows, channel by channel.

A log line has no time. So what is known of a user who waits is a bound: his oldest change is no older than
the oldest of the channel. Who does not wait, and is not set aside, is on the replica as of the last success.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.judgement import CRITICAL, OK, UNKNOWN, WARNING, WORDS, badness, span
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.synclog.lines import parse_lines
from cyrus_sync.common.synclog.writer import log_path
from cyrus_sync.sync_client.engine.withheld import Withheld
from cyrus_sync.sync_client.masters import look_at_master
from cyrus_sync.sync_client.overview import DEFAULT, TABLE_WIDTH, channel_status
from cyrus_sync.sync_client.quarantine_file import read_listing
from cyrus_sync.sync_client.sources import owner_of_line
from cyrus_sync.sync_client.status import Thresholds, readable_time


def user_status(
    cfg: Config, typed: Sequence[str], channels: Iterable[str], now: float, thresholds: Thresholds
) -> dict[str, Any]:
    """Of each of the users (or ``shared:NAME``), and of all: `result`, `exit_status`, `reasons`, `users`.

    Raises `BadName` for what is no name. A user who is not here and of whom nothing waits is UNKNOWN.
    """
    space = Namespace.from_config(cfg)
    owners = [space.owner(name) for name in dict.fromkeys(typed)]
    wanted = frozenset(owners)
    found: dict[Owner, list[dict[str, Any]]] = {owner: [] for owner in owners}
    for channel in channels:
        whole = channel_status(cfg, channel, now, thresholds, damaged=0)
        waiting = _waiting(log_path(cfg, channel), wanted)
        directory = cfg.configdirectory / "sync" / channel
        for owner in owners:
            one = _of_channel(owner, directory, whole, waiting.get(owner, (0, 0)), now)
            one["exit_status"], one["reasons"] = _judge(one, whole, thresholds)
            found[owner].append(one)
    here = _here(cfg, owners)
    users = [_of_user(space.owner_name(owner), each, owner in here) for owner, each in found.items()]
    status = max((one["exit_status"] for one in users), key=badness)
    reasons = [f"{one['user']}: {why}" for one in users for why in one["reasons"]]
    return {"result": WORDS[status], "exit_status": status, "reasons": reasons, "users": users}


def _waiting(log: Path, wanted: frozenset[Owner]) -> dict[Owner, tuple[int, int]]:
    """Of each owner its lines in the log and its run file, and the lines before the first of them."""
    found: dict[Owner, tuple[int, int]] = {}
    for number, owner in enumerate(_owners(log)):
        if owner in wanted:
            count, ahead = found.get(owner, (0, number))
            found[owner] = count + 1, ahead
    return found


def _owners(log: Path) -> Iterator[Owner | None]:
    """Whose each line is, what is being worked on first."""
    for path in (log.with_name(f"{log.name}-run"), log):
        with contextlib.suppress(OSError):
            for line in parse_lines(path.read_bytes()):
                try:
                    yield owner_of_line((line.type, *line.args))
                except CyrusSyncError:
                    yield None


def _here(cfg: Config, owners: Iterable[Owner]) -> set[Owner]:
    found = set()
    with contextlib.closing(look_at_master(cfg)) as master:
        for owner in owners:
            with contextlib.suppress(CyrusSyncError):
                if master.exists(owner):
                    found.add(owner)
    return found


def _of_channel(
    owner: Owner, directory: Path, whole: dict[str, Any], waiting: tuple[int, int], now: float
) -> dict[str, Any]:
    """What is known of an owner on one channel, whose state is `whole`."""
    lines, ahead = waiting
    found: dict[str, Any] = {
        "channel": whole["channel"],
        "waiting": lines,
        "ahead": ahead if lines else None,
        "behind_seconds_at_most": whole["oldest_change_seconds"] if lines else None,
        "as_of": whole.get("last_success"),
        "set_aside": None,
        "withheld_messages": sum(
            len(entry.messages)
            for path in directory.glob("withheld-*.json")
            for entry in Withheld(path).entries()
            if owner_of(entry.mailbox) == owner
        ),
    }
    with contextlib.suppress(CyrusSyncError):  # half-edited by a human; the channel's status says so
        entry = read_listing(directory / "quarantine.yaml").entries.get(owner)
        if entry is not None:
            found["set_aside"] = {
                "reason": entry.reason,
                "since": readable_time(entry.first_failure),
                "failures": entry.failures,
                "next_retry": "never" if entry.next_retry is None else readable_time(entry.next_retry),
                "only": list(entry.only),
            }
            found["behind_seconds_at_most"] = max(0, round(now - entry.first_failure))
    return found


def _judge(found: dict[str, Any], whole: dict[str, Any], thresholds: Thresholds) -> tuple[int, list[str]]:
    reasons: list[tuple[int, str]] = []
    lag, where = found["behind_seconds_at_most"], found["channel"] or DEFAULT
    if found["set_aside"]:
        reasons.append((WARNING, f"set aside on {where}: {found['set_aside']['reason']}"))
    if lag is not None and lag >= thresholds.warning:
        level = CRITICAL if lag >= thresholds.critical else WARNING
        reasons.append((level, f"may be {span(lag)} behind on {where}"))
    if found["waiting"] and not whole["running"]:
        reasons.append((CRITICAL, f"no rolling sync_client is running for {where}"))
    if found["withheld_messages"]:
        text = (
            f"{found['withheld_messages']} messages cannot be read here and are not on the replica of {where}"
        )
        reasons.append((WARNING, text))
    if not reasons and whole["exit_status"] == UNKNOWN:
        reasons.append((UNKNOWN, f"no rolling sync_client has worked on {where}"))
    return max((level for level, _ in reasons), default=OK), [text for _, text in reasons]


def _of_user(name: str, each: list[dict[str, Any]], here: bool) -> dict[str, Any]:
    status = max((one["exit_status"] for one in each), key=badness)
    reasons = [why for one in each for why in one["reasons"]]
    if not here:
        reasons.append("is not here")
        if not any(one["waiting"] or one["set_aside"] for one in each):
            status = UNKNOWN
    return {
        "user": name,
        "result": WORDS[status],
        "exit_status": status,
        "reasons": reasons,
        "channels": [{**one, "as_of": readable_time(one["as_of"])} for one in each],
    }


# -- showing it


def render_users(found: dict[str, Any], form: str, width: int = TABLE_WIDTH) -> str:
    """A line for Nagios and a table (``text``), or ``json`` or ``yaml``."""
    if form == "json":
        return json.dumps(found, indent=2)
    if form == "yaml":
        import yaml  # slow to load

        return yaml.safe_dump(found, sort_keys=False, allow_unicode=True).rstrip()
    from rich.console import Console  # slow to load
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for column in ("user", "channel", "behind at most", "waiting", "lines ahead", "set aside until", "as of"):
        table.add_column(column, overflow="fold")
    for user in found["users"]:
        for one in user["channels"]:
            aside = one["set_aside"]["next_retry"] if one["set_aside"] else "-"
            lag, known = one["behind_seconds_at_most"], one["as_of"] is not None
            behind = span(lag if lag is not None else 0) if lag is not None or known else "?"
            ahead = "-" if one["ahead"] is None else one["ahead"]
            name = one["channel"] or DEFAULT
            row = (user["user"], name, behind, one["waiting"], ahead, aside, one["as_of"] or "never")
            table.add_row(*(str(value) for value in row))
    console = Console(width=width, highlight=False, color_system=None, markup=False)
    with console.capture() as shown:
        console.print(table)
    head = f"SYNC {found['result']} - {'; '.join(found['reasons']) or 'on all replicas'}"
    return "\n".join([head, *(line.rstrip() for line in shown.get().splitlines())])
