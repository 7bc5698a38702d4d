"""How fast a real Cyrus's mailboxes are read: ``python -m bench.spool [RECORDS]``.

A mailbox of so many messages (100,000 without an argument), made out of one that Cyrus 3.10 wrote, in a
temporary directory. Prints what a record costs of one core when the mailbox is seen for the first time
(checksums, both sync CRCs, `Record` values), when one flag was changed since, and what it takes to look at
counters, to read and verify messages; and the most memory that was used. Times are of processor time, the
best of five.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.mail import Post
from cyrus_sync.spool import snapshot as snapshots
from cyrus_sync.spool.copying import peek
from cyrus_sync.spool.db import items_of
from cyrus_sync.spool.index.verified import Verified
from cyrus_sync.spool.mailbox import MailboxFiles
from cyrus_sync.spool.messages import Messages
from cyrus_sync.spool.snapshot import take
from tests.spool.golden import copied
from tests.spool.indexes import enlarge

ROUNDS = 5
MESSAGES = 2000


def best(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    times = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times)


def row(what: str, seconds: float, count: int, unit: str) -> None:
    print(f"{what:<58}{seconds * 1e3:>10.2f} ms  {seconds / count * 1e6:>8.2f} µs a {unit}")


def peak() -> int:
    """Megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measure_records(files: MailboxFiles, count: int) -> None:
    def seen_first() -> None:
        snapshots._checked, snapshots._verified = Verified(), Verified()
        read_all()

    def read_all() -> None:
        with take(files, "alice", items_of) as mailbox:
            found = sum(len(batch) for batch in mailbox.records())
        if found != count:
            raise AssertionError("records were lost")

    def change_seen_first() -> None:
        snapshots._checked = Verified()
        read_change()

    def read_change() -> None:
        with take(files, "alice", items_of, summed=False) as mailbox:
            found = [record for batch in mailbox.records(since_modseq=count) for record in batch]
        if len(found) != 1:
            raise AssertionError("the change was not found")

    row("verified and read for the first time", best(seen_first), count, "record")
    row("verified and read again", best(read_all), count, "record")
    row("checked for the first time, one changed record read", best(change_seen_first), count, "record")
    row("checked again, one changed record read", best(read_change), count, "record")
    row("counters and cyrus.header alone", best(lambda: peek(files)), 1, "mailbox")


def measure_messages(directory: Path) -> None:
    wanted = []
    for uid, content in enumerate(Post(1).alike(MESSAGES), 1):
        (directory / f"{uid}.").write_bytes(content)
        wanted.append((uid, hashlib.sha1(content).digest()))
    files = MailboxFiles.below(directory)

    def read() -> None:
        if sum(len(batch) for batch in Messages(files, wanted)) != MESSAGES:
            raise AssertionError("messages were lost")

    row("messages of 4 KB read and compared with their GUIDs", best(read), MESSAGES, "message")


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory(prefix="bench-spool-") as name:
        directory = copied("v19", Path(name))
        enlarge(directory, count)
        size = (directory / "cyrus.index").stat().st_size
        print(f"{count:,} messages, an index of {size:,} octets")
        measure_records(MailboxFiles.below(directory), count)
        measure_messages(directory)
    print(f"{'most memory used, making the mailbox included':<58}{peak():>10} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
