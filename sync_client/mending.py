"""Damage that waits: at intervals the rolling client asks whether it can be mended now.

Two kinds of lines go into the channel's log. USER for whoever has messages that were found damaged here
(by `mailstore verify`, or when they were read) and that the replica may have: they are fetched from there.
MAILBOX where a message was withheld from the replica because it could not be read, and can be now: a disk
that is back, a pack that was restored.
"""

from __future__ import annotations

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.master import Master
from cyrus_sync.common.names import owner_of
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.sync_client.engine.withheld import Withheld
from cyrus_sync.sync_client.quarantine import Line
from cyrus_sync.sync_client.report import log

INTERVAL = 600
"""Seconds between two looks."""


def look_again(master: Master, withheld: Withheld, sync_log: SyncLog) -> None:
    """Write the lines that are due. Blocks on disks. Raises `StoreError` where the log cannot be written."""
    lines = dict.fromkeys([*_marked(master, withheld), *_readable_again(master, withheld)])
    if lines:
        sync_log.append(lines)


def _marked(master: Master, withheld: Withheld) -> list[Line]:
    """Whose damage the replica may heal."""
    lacking = {guid for entry in withheld.entries() for guid in entry.messages.values()}
    lines: list[Line] = []
    for owner in master.damaged_owners():
        try:
            bad = master.damaged(owner) - lacking
            with master.read(owner) as reader:
                names = [state.name for state in reader.mailboxes() if not state.intermediate]
        except CyrusSyncError as error:
            log.error("cannot look after the damaged messages of %s: %s", owner, error)
            continue
        if bad and owner.kind == "user":
            lines.append(("USER", owner.name))
        elif bad:
            lines += [("MAILBOX", name) for name in names]
    return lines


def _readable_again(master: Master, withheld: Withheld) -> list[Line]:
    lines: list[Line] = []
    for entry in withheld.entries():
        try:
            with master.read(owner_of(entry.mailbox)) as reader:
                if reader.readable(entry.uniqueid, entry.messages.items(), verify=True):
                    lines.append(("MAILBOX", entry.mailbox))
        except CyrusSyncError as error:
            log.error("cannot look after withheld messages of %s: %s", entry.mailbox, error)
    return lines
