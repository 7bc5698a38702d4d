"""Files that a tree has once: who reads what, and the highest UIDVALIDITY."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from cyrus_sync.common.stores.mailstore import MailReader
from cyrus_sync.mailstore.maildir import names
from cyrus_sync.mailstore.maildir.subscriptions import read_subscriptions, write_subscriptions
from cyrus_sync.mailstore.standby.disk import Ways
from cyrus_sync.mailstore.standby.dotlock import dot_locked
from cyrus_sync.mailstore.standby.ledger import Ledger
from cyrus_sync.mailstore.targets.walk import below, top_of

_KEY = "subscriptions"


def other_subscriptions(root: Path, ledger: Ledger, reader: MailReader) -> bool:
    """Whether somebody else has changed them, and not to what the store has."""
    path = root / "subscriptions"
    ours = sorted(filter(None, ledger.get(_KEY).split("\n")))
    return path.exists() and _read(path) not in (ours, sorted(_subscribed(reader)))


def subscribe(root: Path, ledger: Ledger, reader: MailReader, ways: Ways) -> None:
    """Write the subscriptions that the store has, if others are there."""
    path = root / "subscriptions"
    wanted = _subscribed(reader)
    if ledger.get(_KEY) != "\n".join(wanted):
        with ledger.change():
            ledger.put(_KEY, "\n".join(wanted))
    if _read(path) != sorted(wanted):
        with dot_locked(path):
            ways.replace(path, write_subscriptions(wanted))


def _read(path: Path) -> list[str]:
    return sorted(read_subscriptions(path.read_bytes())) if path.exists() else []


def _subscribed(reader: MailReader) -> list[str]:
    """Names as directories have them, without the dot in front."""
    top = top_of(reader.owner)
    folders = (below(top, name) for name in reader.meta(with_sieve=False).subscriptions)
    return [names.directory_name(folder)[1:] or "INBOX" for folder in folders if folder is not None]


def note_highest(root: Path, ways: Ways, uidvalidities: Iterable[int]) -> None:
    """Where Dovecot looks for the UIDVALIDITY of the next folder that it makes."""
    path = root / "dovecot-uidvalidity"
    highest = f"{max(uidvalidities, default=0):08x}"
    if path.exists() and path.read_text("ascii", "replace")[:8] >= highest:
        return
    ways.replace(path, highest.encode())
    for older in root.glob("dovecot-uidvalidity.????????"):
        older.unlink()
    os.close(ways.open(root / f"dovecot-uidvalidity.{highest}"))
