"""The two files of the quarantine: reading what we or an administrator wrote, replacing them safely.

``quarantine.yaml``::

    set_aside:
      alice:                      # a userid, or shared:TOP for shared mailboxes, or server:
        reason: Checksum Failure [mailbox=user.alice.Work command=APPLY MAILBOX]
        first_failure: 2026-05-01 10:00:00+00:00
        last_failure: 2026-05-01 10:07:00+00:00
        failures: 4
        next_retry: 2026-05-01 10:09:00+00:00     # or: never
        only: [user.alice.Work]     # the replica refuses these alone: everything else of alice goes on
    rejected_lines:
    - line: MAILBOX …
      reason: Invalid mailbox name
      first_seen: 2026-05-01 10:00:00+00:00
      last_seen: 2026-05-01 10:00:00+00:00
      times: 1

Everything but the name may be left out by a human writer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import CyrusSyncError, StoreError
from cyrus_sync.common.files import give_to_owner_of, private, sync_directory
from cyrus_sync.common.names import Owner
from cyrus_sync.common.synclog.lines import format_line, parse_lines
from cyrus_sync.common.synclog.log import SyncLog

HEADER = """\
# Who is set aside by sync_client, and why. Everybody else is replicated.
# Remove an entry (or this file): tried again at once. next_retry: never = left out until you change it.
# rejected_lines are only for your information; remove them as you like.
"""

MAX_REJECTED = 1000
"""Rejected lines that the listing shows, the latest ones."""


class Unreadable(CyrusSyncError):
    """The listing is no YAML, or not of this form."""

    text = "quarantine file cannot be read"


@dataclass(frozen=True, slots=True)
class SetAside:
    """Why and until when an owner is set aside. Times in Unix seconds; `next_retry` None = never."""

    reason: str
    first_failure: int
    last_failure: int
    failures: int
    next_retry: int | None
    only: tuple[str, ...] = ()
    """Names of mailboxes, or other items, that the replica refuses while it takes all else of the owner: only
    they wait. () = everything does."""


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """A log line that cannot be worked on."""

    line: str
    reason: str
    first_seen: int
    last_seen: int
    times: int


@dataclass(frozen=True, slots=True)
class Listing:
    """What ``quarantine.yaml`` says."""

    entries: dict[Owner, SetAside] = field(default_factory=dict)
    rejected: list[RejectedLine] = field(default_factory=list)


def owner_key(owner: Owner) -> str:
    """The owner as people read him: a userid, ``shared:TOP``, ``server:``."""
    return str(owner)


def owner_from_key(key: str) -> Owner:
    kind, colon, name = key.partition(":")
    return Owner(kind, name) if colon and kind in ("shared", "server") else Owner("user", key)


# -- the listing


def read_listing(path: Path) -> Listing:
    """`Listing` of the file, empty if there is none; raises `Unreadable`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Listing()
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path} cannot be read: {error}") from None
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}") from None
    import yaml  # slow to load, and mostly there is no such file

    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise Unreadable(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    try:
        return _listing(document or {})
    except (TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"{path} cannot be understood: {error}") from None


def _listing(document: Any) -> Listing:
    entries = {}
    for key, said in (document.get("set_aside") or {}).items():
        said = said or {}
        entries[owner_from_key(str(key))] = SetAside(
            reason=str(said.get("reason", "set aside by hand")),
            first_failure=_seconds(said.get("first_failure")) or 0,
            last_failure=_seconds(said.get("last_failure")) or 0,
            failures=int(said.get("failures", 0)),
            next_retry=_seconds(said.get("next_retry", "never")),
            only=tuple(str(name) for name in said.get("only") or ()),
        )
    rejected = [
        RejectedLine(
            line=str(said["line"]),
            reason=str(said.get("reason", "")),
            first_seen=_seconds(said.get("first_seen")) or 0,
            last_seen=_seconds(said.get("last_seen")) or 0,
            times=int(said.get("times", 1)),
        )
        for said in document.get("rejected_lines") or []
        if "line" in said
    ]
    return Listing(entries, rejected)


def _seconds(said: Any) -> int | None:
    """Unix seconds of a YAML time, text, number or date; None for ``never``; 0 for ``now``."""
    if said is None or said == "never":
        return None
    if said == "now":
        return 0
    if isinstance(said, int | float):
        return int(said)
    if isinstance(said, str):
        said = datetime.fromisoformat(said)
    if isinstance(said, date) and not isinstance(said, datetime):
        said = datetime(said.year, said.month, said.day)
    if said.tzinfo is None:
        said = said.replace(tzinfo=UTC)
    return int(said.timestamp())


def write_listing(path: Path, listing: Listing) -> None:
    """Replace the listing; remove it if there is nothing to say. Raises `StoreError`."""
    document: dict[str, Any] = {}
    if listing.entries:
        document["set_aside"] = {
            owner_key(owner): {
                "reason": entry.reason,
                "first_failure": _time(entry.first_failure),
                "last_failure": _time(entry.last_failure),
                "failures": entry.failures,
                "next_retry": "never" if entry.next_retry is None else _time(entry.next_retry),
                **({"only": list(entry.only)} if entry.only else {}),
            }
            for owner, entry in listing.entries.items()
        }
    if listing.rejected:
        document["rejected_lines"] = [
            {
                "line": line.line,
                "reason": line.reason,
                "first_seen": _time(line.first_seen),
                "last_seen": _time(line.last_seen),
                "times": line.times,
            }
            for line in listing.rejected[-MAX_REJECTED:]
        ]
    if not document:
        path.unlink(missing_ok=True)
        return
    import yaml  # slow to load

    text = HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)
    replace_file(path, text.encode("utf-8"))


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# -- the kept lines


def read_lines(path: Path) -> list[tuple[str, ...]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    return [(line.type, *line.args) for line in parse_lines(data)]


def append_lines(path: Path, lines: Iterable[tuple[str, ...]]) -> None:
    """Append and sync. Raises `StoreError`."""
    SyncLog(path).append(lines)


def write_lines(path: Path, lines: Iterable[tuple[str, ...]]) -> None:
    """Replace the kept lines; remove the file if none is left. Raises `StoreError`."""
    data = b"".join([format_line(*line) for line in lines])
    if data:
        replace_file(path, data)
    else:
        path.unlink(missing_ok=True)


# -- both


def replace_file(path: Path, data: bytes, *, durable: bool = True, mode: int = 0o600) -> None:
    """Write beside, sync, rename, sync the directory. Raises `StoreError`."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with open(temporary, "wb", opener=private) as file:
            os.fchmod(file.fileno(), mode)
            give_to_owner_of(path.parent, file.fileno())
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            sync_directory(path.parent)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
