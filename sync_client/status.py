"""The state of a channel, for monitoring: a small JSON file, and what ``sync_client --status`` makes of it.

The file ``status.json`` in the channel's directory is replaced as a whole when the loop changes its
state, at most once a second, and every ten seconds otherwise; it is not synced, as it can be had again.
The judgement fits Nagios: exit status 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.judgement import CRITICAL, OK, UNKNOWN, WARNING, WORDS
from cyrus_sync.sync_client.channel import lock_holder
from cyrus_sync.sync_client.engine.left_out import FILE, LeftOut
from cyrus_sync.sync_client.engine.withheld import Withheld
from cyrus_sync.sync_client.quarantine_file import owner_key, read_listing, replace_file

if TYPE_CHECKING:
    from cyrus_sync.sync_client.rolling import Rolling

HEARTBEAT = 10
"""Seconds after which the file is written even if nothing changed."""

RATE_SECONDS = 300
"""Over so long the messages per minute are counted."""


def status_path(directory: Path) -> Path:
    return directory / "status.json"


class StatusFile:
    """Writes the file; the observer of a `Rolling`."""

    def __init__(
        self,
        directory: Path,
        channel: str,
        pid: int,
        clock: Callable[[], float],
        notify: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._path = status_path(directory)
        self._channel = channel
        self._pid = pid
        self._clock = clock
        self._notify = notify
        self._written = float("-inf")
        self._last: dict[str, Any] = {}
        self._passed: deque[tuple[float, int, int]] = deque()

    def changed(self, rolling: Rolling) -> None:
        """Write what is worth it. Never raises: monitoring must not stop the work."""
        now = self._clock()
        facts = self._facts(rolling)
        stale = now - self._written
        final = facts["state"] == "stopped"
        if not final and (stale < 1 or (facts == self._last and stale < HEARTBEAT)):
            return
        self._last, self._written = facts, now
        self._notify(_summary(facts, now))
        try:
            besides = rolling.facts.besides()
            written = {**facts, **besides, **self._rates(rolling, now), "updated": round(now, 1)}
            text = json.dumps(written, indent=1)
            replace_file(self._path, text.encode(), durable=False, mode=0o600)
        except (OSError, StoreError):
            return

    def _rates(self, rolling: Rolling, now: float) -> dict[str, float]:
        """What the replica has taken lately."""
        passed, facts = self._passed, rolling.facts
        passed.append((now, facts.messages, facts.bytes))
        while len(passed) > 1 and now - passed[1][0] >= RATE_SECONDS:
            passed.popleft()
        before, messages, octets = passed[0]
        seconds = max(now - before, 60.0)
        return {
            "messages_per_minute": round((facts.messages - messages) * 60 / seconds, 1),
            "bytes_per_second": round((facts.bytes - octets) / seconds),
        }

    def _facts(self, rolling: Rolling) -> dict[str, Any]:
        facts = rolling.facts
        return {
            "channel": self._channel,
            "server": rolling.connector.server,
            "pid": self._pid,
            "state": rolling.state.value,
            "started": facts.started,
            "connected_since": facts.connected,
            "last_run": facts.last_run,
            "last_success": facts.last_success,
            "oldest_change": facts.oldest_change,
            "under_way": rolling.queue,
            "set_aside": rolling.source.set_aside,
            "runs": facts.runs,
            "items_done": facts.items,
            "items_failed": facts.failures,
            "messages_sent": facts.messages,
            "bytes_sent": facts.bytes,
            "last_error": facts.last_error,
            "last_error_at": facts.last_error_at,
            "last_error_over": facts.last_error_over,
        }


def _summary(facts: dict[str, Any], now: float) -> str:
    oldest = facts["oldest_change"]
    parts = [facts["state"]]
    if oldest is not None:
        parts.append(f"oldest change {max(0, round(now - oldest))} s")
    if facts["set_aside"]:
        parts.append(f"{facts['set_aside']} set aside")
    return ", ".join(parts)


# -- reading it


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Age of the oldest unreplicated change, in seconds, that is a warning or critical."""

    warning: int = 60
    critical: int = 600


def read_status(
    directory: Path,
    channel: str,
    now: float,
    thresholds: Thresholds,
    *,
    log: Path | None = None,
    warning: str = "",
    damaged: int = 0,
    certificates: Sequence[str] = (),
) -> dict[str, Any]:
    """Everything that is known of a channel, with a judgement (`result`, `exit_status`, `reasons`).

    `queue` counts the lines that wait in the log and its run file, `queue_set_aside` those of owners who are
    set aside; `under_way` the items of the present run. `log` is the channel's log where it is not in
    `directory`; `warning` what makes a client of the channel wait in vain; `damaged`
    how many owners here have messages that were found damaged; `certificates` what is to be said of those
    that the connection takes.
    """
    log = log or directory / "log"
    try:
        known = json.loads(status_path(directory).read_text())
    except (OSError, ValueError):
        known = {}
    if not isinstance(known, dict):
        known = {}
    holder = lock_holder(directory)
    waiting = [path for path in (log, log.with_name(f"{log.name}-run")) if path.exists()]
    lag = _lag(known, waiting, now)
    found: dict[str, Any] = {**known, "channel": channel, "running": holder is not None}
    found["pid"] = holder
    if holder is None:
        found["state"] = "not running"
        found["connected_since"] = None
        found["under_way"] = 0
    found["log_bytes"] = sum(path.stat().st_size for path in waiting if path.exists())
    found["queue"] = sum(_lines(path) for path in waiting)
    found["queue_set_aside"] = _lines(directory / "quarantine.log")
    found["oldest_change_seconds"] = lag
    success = known.get("last_success")
    found["last_success_seconds"] = max(0, round(now - success)) if success is not None else None
    found["quarantine"] = _quarantine(directory)
    found["set_aside"] = len(found["quarantine"])
    found["withheld_messages"] = sum(
        len(entry.messages)
        for path in directory.glob("withheld-*.json")
        for entry in Withheld(path).entries()
    )
    found["left_out"] = [
        f"the Sieve script {script} (by {server})" for server, script in _left_out(directory / FILE)
    ]
    found["damaged_owners"] = damaged
    found["reasons"], found["exit_status"] = _judge(found, lag, thresholds)
    if warning:
        found["reasons"].append(warning)
    if certificates:
        found["reasons"] += certificates
        found["exit_status"] = max(found["exit_status"], WARNING)
    found["result"] = WORDS[found["exit_status"]]
    return found


def _left_out(path: Path) -> list[tuple[str, str]]:
    try:
        return LeftOut(path).everything()
    except (AttributeError, TypeError, ValueError):  # half-edited by a human
        return []


def _lines(path: Path) -> int:
    """Lines of a file, 0 if there is none (any more)."""
    count = 0
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                count += block.count(b"\n")
    except OSError:
        return 0
    return count


def _lag(known: dict[str, Any], waiting: list[Path], now: float) -> int | None:
    oldest = known.get("oldest_change")
    if oldest is None and waiting:
        oldest = min(path.stat().st_mtime for path in waiting if path.exists())
    return None if oldest is None else max(0, round(now - oldest))


def _quarantine(directory: Path) -> dict[str, str]:
    try:
        listing = read_listing(directory / "quarantine.yaml")
    except Exception as error:  # half-edited by a human: say so, go on
        return {"quarantine.yaml": str(error)}
    return {owner_key(owner): entry.reason for owner, entry in listing.entries.items()}


def _judge(found: dict[str, Any], lag: int | None, thresholds: Thresholds) -> tuple[list[str], int]:
    reasons: list[tuple[int, str]] = []
    if not found["running"]:
        if "updated" not in found and not found["log_bytes"]:
            return ["no rolling sync_client has worked on this channel"], UNKNOWN
        reasons.append((CRITICAL, "no rolling sync_client is running"))
    if lag is not None and lag >= thresholds.critical:
        reasons.append((CRITICAL, f"the oldest change waits for {lag} s"))
    elif lag is not None and lag >= thresholds.warning:
        reasons.append((WARNING, f"the oldest change waits for {lag} s"))
    if found["set_aside"]:
        reasons.append((WARNING, f"{found['set_aside']} set aside"))
    if found["withheld_messages"]:
        text = f"{found['withheld_messages']} messages cannot be read here and are not replicated"
        reasons.append((WARNING, text))
    if found["left_out"]:
        reasons.append((WARNING, f"{len(found['left_out'])} scripts are left out"))
    if found["damaged_owners"]:
        reasons.append((WARNING, f"{found['damaged_owners']} owners have damaged messages"))
    if found.get("state") == "waiting to reconnect":
        reasons.append((WARNING, f"not connected: {found.get('last_error') or 'no reason known'}"))
    return [text for _, text in reasons], max((level for level, _ in reasons), default=OK)


def render(found: dict[str, Any], form: str) -> str:
    """For people (``text``), or as ``json`` or ``yaml``. Times are ISO 8601 in UTC."""
    document = readable(found)
    if form == "json":
        return json.dumps(document, indent=2)
    if form == "yaml":
        import yaml  # slow to load

        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).rstrip()
    lines = [f"SYNC {found['result']} - " + ("; ".join(found["reasons"]) or str(found.get("state", "")))]
    for key, value in document.items():
        if key in ("result", "reasons", "exit_status", "quarantine", "left_out") or value in (None, ""):
            continue
        shown = ("no", "yes")[value] if isinstance(value, bool) else value
        lines.append(f"{key.replace('_', ' ')}: {shown}")
    lines += [f"set aside: {who}: {why}" for who, why in found["quarantine"].items()]
    lines += [f"left out: {what}" for what in found["left_out"]]
    return "\n".join(lines)


_TIMES = (
    "started",
    "connected_since",
    "last_run",
    "last_success",
    "last_error_at",
    "last_error_over",
    "oldest_change",
    "updated",
)


def readable(found: dict[str, Any]) -> dict[str, Any]:
    """The same for people: times as `readable_time` has them."""
    return {key: readable_time(value) if key in _TIMES else value for key, value in found.items()}


def readable_time(value: Any) -> Any:
    """Unix seconds in ISO 8601, UTC; what is no number stays as it is."""
    if isinstance(value, int | float):
        return datetime.fromtimestamp(int(value), UTC).isoformat().replace("+00:00", "Z")
    return value
