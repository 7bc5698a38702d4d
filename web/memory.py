"""What the page remembers: how far behind each channel was, for a day, and what has changed lately.

One small file, ``<configdirectory>/sync/web.json``, replaced as a whole now and then. It is for show alone: a
damaged one is begun anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cyrus_sync.common.files import make_directories
from cyrus_sync.common.judgement import CRITICAL, OK, WARNING
from cyrus_sync.sync_client.overview import DEFAULT
from cyrus_sync.sync_client.quarantine_file import replace_file
from cyrus_sync.web.facts import Facts

FILE = "web.json"
SLOT = 300
"""Seconds that one point of the history stands for."""

SLOTS = 288
"""A day of them."""

MOST_CHANGES = 100
_LONGEST = 300


class Change(NamedTuple):
    """Something that has happened, at `when` (Unix seconds)."""

    when: int
    level: int
    text: str


@dataclass
class Memory:
    """`note` what there is now; `lags` and `changes` are what was."""

    path: Path
    changes: list[Change] = field(default_factory=list)
    """The latest first."""
    _lags: dict[str, dict[int, int]] = field(default_factory=dict)
    """Of each channel, by number of the slot, the seconds that the oldest change waited at most."""
    _seen: dict[str, Any] | None = None

    def load(self) -> None:
        """Read the file, if there is one. Blocks."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            self._lags = {
                str(channel): {int(slot): int(lag) for slot, lag in lags.items()}
                for channel, lags in found["lags"].items()
            }
            self.changes = [
                Change(int(when), int(level), str(text)) for when, level, text in found["changes"]
            ]
            self._seen = dict(found["seen"]) if found["seen"] is not None else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._lags, self.changes, self._seen = {}, [], None

    def save(self) -> None:
        """Blocks. Raises `StoreError`, OSError."""
        document = {"lags": self._lags, "changes": self.changes[:MOST_CHANGES], "seen": self._seen}
        make_directories(self.path.parent)
        replace_file(self.path, json.dumps(document).encode(), durable=False)

    def lags(self, channel: str, now: float) -> Sequence[int | None]:
        """Seconds behind of the last day, the oldest slot first; None where nobody looked."""
        last = int(now // SLOT)
        known = self._lags.get(channel, {})
        return [known.get(slot) for slot in range(last - SLOTS + 1, last + 1)]

    def note(self, facts: Facts) -> None:
        """What there is now."""
        slot = int(facts.now // SLOT)
        for one in facts.channels:
            lags = self._lags.setdefault(one["channel"], {})
            lags[slot] = max(lags.get(slot, 0), one["oldest_change_seconds"] or 0)
            for old in [number for number in lags if number <= slot - SLOTS]:
                del lags[old]
        for gone in set(self._lags) - {one["channel"] for one in facts.channels}:
            del self._lags[gone]
        seen = _seen(facts)
        if self._seen is not None:
            new = [
                Change(int(facts.now), level, text[:_LONGEST])
                for level, text in _differences(self._seen, seen)
            ]
            self.changes = [*reversed(new), *self.changes][:MOST_CHANGES]
        self._seen = seen


def _seen(facts: Facts) -> dict[str, Any]:
    """What is compared with the next time; JSON."""
    packets = facts.packets
    return {
        "channels": {
            one["channel"] or DEFAULT: {
                "running": bool(one["running"]),
                "connected": one.get("connected_since") is not None,
                "error": str(one.get("last_error") or ""),
            }
            for one in facts.channels
        },
        "asides": {f"{one.channel or DEFAULT}: {one.who}": one.reason for one in facts.asides},
        "received": {one.name: one.received for one in packets.siblings} if packets else {},
        "scrubbed": facts.last_scrub.ended if facts.last_scrub else None,
        "role": facts.role.partition(" ")[0],
        "problems": facts.last_scrub.problems if facts.last_scrub else 0,
    }


def _differences(before: dict[str, Any], after: dict[str, Any]) -> Iterator[tuple[int, str]]:
    for name, now in after["channels"].items():
        was = before.get("channels", {}).get(name)
        if was is None:
            yield OK, f"{name}: the channel is here"
        elif was["running"] != now["running"]:
            yield (
                (OK, f"{name}: sync_client runs")
                if now["running"]
                else (
                    CRITICAL,
                    f"{name}: sync_client runs no more",
                )
            )
        elif was["connected"] != now["connected"]:
            yield (
                (OK, f"{name}: connected")
                if now["connected"]
                else (
                    WARNING,
                    f"{name}: not connected: {now['error'] or 'no reason known'}",
                )
            )
    asides, now_aside = before.get("asides", {}), after["asides"]
    for who in now_aside:
        if who not in asides:
            yield WARNING, f"{who} is set aside: {now_aside[who]}"
    for who in asides:
        if who not in now_aside:
            yield OK, f"{who} is set aside no more"
    for sibling, when in after["received"].items():
        if when and before.get("received", {}).get(sibling) not in (None, when):
            yield OK, f"a packet of {sibling} was applied"
    if before.get("role", "") != after["role"]:
        yield WARNING, f"this store's role is {after['role'] or 'that of imapd.conf'} now"
    if after["scrubbed"] and before.get("scrubbed") != after["scrubbed"]:
        level = WARNING if after["problems"] else OK
        yield level, f"a scrub of the store has ended: {after['problems']} problems"
