"""``python -m tests.interop.snapshots FILES``: take snapshots of one mailbox until stdin ends.

FILES is what `describe` makes of a `MailboxFiles`. Prints what it saw as JSON. A process of its own, as a
sync_client is: it shares no interpreter with those who write.
"""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.protocol.crc import mailbox_crcs
from cyrus_sync.spool import copying
from cyrus_sync.spool.db import items_of
from cyrus_sync.spool.mailbox import MailboxFiles
from cyrus_sync.spool.snapshot import Snapshot, take
from cyrus_sync.spool.trouble import Gone

TOGETHER = "Together"
"""A keyword that the writer gives to all messages of a mailbox, or takes from all, in one command."""


def describe(files: MailboxFiles) -> str:
    names = (files.index, files.header, files.annotations, files.messages, files.archive)
    return json.dumps([name and str(name) for name in names])


def _files(described: str) -> MailboxFiles:
    index, header, annotations, messages, archive = (name and Path(name) for name in json.loads(described))
    return MailboxFiles(index, header, annotations, messages, archive)


class Running:
    """A process that takes snapshots. `stop` gives what it saw."""

    def __init__(self, files: MailboxFiles, pause: float = 0.0) -> None:
        command = [sys.executable, "-m", __name__, describe(files), str(pause)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def stop(self) -> dict[str, Any]:
        out, _ = self._process.communicate()
        found: dict[str, Any] = json.loads(out)
        return found


@contextlib.contextmanager
def running(files: MailboxFiles, pause: float = 0.0) -> Iterator[dict[str, Any]]:
    """Snapshots all the while; what was seen is in the value afterwards."""
    seen: dict[str, Any] = {}
    process = Running(files, pause)
    try:
        yield seen
    finally:
        seen.update(process.stop())


def torn(snapshot: Snapshot) -> str:
    """What is wrong in a snapshot, "" if nothing is."""
    records = [record for batch in snapshot.records() for record in batch]
    if mailbox_crcs(records) != snapshot.crcs:
        return "its records have other CRCs than it says"
    live = [record for record in records if not record.expunged]
    marked = sum(TOGETHER in record.flags.split() for record in live)
    if marked not in (0, len(live)):
        return f"{marked} of {len(live)} messages are marked that are marked together"
    noted = sum(bool(record.annotations) for record in live)
    if noted not in (0, len(live)):
        return f"{noted} of {len(live)} messages are annotated that are annotated together"
    return snapshot.complaint


def main(described: str, pause: str) -> None:
    files = _files(described)
    seen: dict[str, Any] = {"good": 0, "gone": 0, "locked": 0, "longest_lock": 0.0, "states": 0, "wrong": []}
    real = copying.locked

    def counted(*arguments: Any) -> Any:
        begun = time.perf_counter()
        try:
            return real(*arguments)
        finally:
            seen["locked"] += 1
            seen["longest_lock"] = max(seen["longest_lock"], time.perf_counter() - begun)

    for module in (copying, sys.modules[take.__module__]):
        module.locked = counted  # type: ignore[attr-defined]
    print("ready", flush=True)
    modseq = 0
    while not select.select([sys.stdin], [], [], float(pause))[0]:
        try:
            with take(files, "alice", items_of) as snapshot:
                seen["good"] += 1
                seen["states"] += snapshot.index.highestmodseq != modseq
                if snapshot.index.highestmodseq < modseq:
                    seen["wrong"].append(f"modseq {modseq}, then {snapshot.index.highestmodseq}")
                modseq = snapshot.index.highestmodseq
                if wrong := torn(snapshot):
                    seen["wrong"].append(wrong)
        except Gone:
            seen["gone"] += 1
        except CyrusSyncError as error:
            seen["wrong"].append(str(error))
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
