"""How fast the grammar is on one core: ``python -m bench.protocol [RECORDS]``.

Prints, per second: records printed, read and summed up (plain, with the two usual virtual annotations, with
a real one too), messages read from APPLY MESSAGE, values of a long list. Each line is the best of five.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from functools import partial

from cyrus_sync.common.model import Annotation, Record
from cyrus_sync.common.protocol import codec, dlist
from cyrus_sync.common.protocol.connection import ServerConnection
from cyrus_sync.common.protocol.crc import mailbox_crcs
from cyrus_sync.common.protocol.events import MessageData, MessageEnd, NeedData, RecordBatch
from cyrus_sync.common.protocol.records import encode_records

READ = 64 * 1024
"""Bytes received at once, as from a socket."""
BATCH = 2000
ROUNDS = 5

FLAGS = ("", "\\Seen", "\\Answered \\Seen $Forwarded", "\\Flagged \\Seen NonJunk")


def make_records(count: int, virtual: bool, real: bool) -> list[Record]:
    annotations = (Annotation("/comment", "alice", 3, b"remember this"),) if real else ()
    return [
        Record(
            uid=uid,
            modseq=uid + 100,
            last_updated=1795239936 + uid,
            flags=FLAGS[uid % len(FLAGS)],
            expunged=False,
            internaldate=1704103200 + uid,
            size=4096 + uid % 1000,
            guid=hashlib.sha1(b"%d" % uid).digest(),
            savedate=1795239936 + uid if virtual else 0,
            createdmodseq=uid if virtual else 0,
            annotations=annotations,
        )
        for uid in range(1, count + 1)
    ]


def print_records(records: list[Record]) -> bytes:
    batches = (records[at : at + BATCH] for at in range(0, len(records), BATCH))
    return b" ".join([encode_records(batch, server=False) for batch in batches])


def receive(wire: bytes) -> int:
    """Messages and records that a server reads out of `wire`."""
    server = ServerConnection()
    server.authenticated = True
    count = 0
    for at in range(0, len(wire), READ):
        server.receive_data(wire[at : at + READ])
        while not isinstance(event := server.next_event(), NeedData):
            if isinstance(event, RecordBatch):
                count += len(event.records)
            elif isinstance(event, MessageData):
                count += len(event.messages)
            elif isinstance(event, MessageEnd):
                count += 1
    return count


def rate(items: int, work: Callable[[], object]) -> float:
    """Items a second of CPU time."""
    best = min(_seconds(work) for _ in range(ROUNDS))
    return items / best


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def row(what: str, per_second: float, note: str = "") -> None:
    print(f"{what:<58}{per_second:>12,.0f}/s  {note}".rstrip())


def measure_records(count: int) -> None:
    for kind, virtual, real in (
        ("plain", False, False),
        ("2 virtual annotations", True, False),
        ("2 virtual, 1 real annotation", True, True),
    ):
        records = make_records(count, virtual, real)
        items = print_records(records)
        wire = b"APPLY MAILBOX %(MBOXNAME user.alice RECORD (" + items + b"))\r\n"
        if receive(wire) != count:
            raise AssertionError("records were lost")
        row(f"records printed, {kind}", rate(count, partial(print_records, records)))
        row(f"records read, {kind}", rate(count, partial(receive, wire)))
        row(f"both CRCs, {kind}", rate(count, partial(mailbox_crcs, records)))


def measure_messages(count: int, size: int) -> None:
    guid = hashlib.sha1(bytes(size)).hexdigest().encode()
    head = dlist.file_head(b"default", guid, size, server=False)
    wire = b"APPLY MESSAGE (" + b" ".join([head + bytes(size)] * count) + b")\r\n"
    if receive(wire) != count:
        raise AssertionError("messages were lost")
    speed = rate(count, lambda: receive(wire))
    row(f"messages of {size:,} octets read", speed, f"{speed * size / 1e6:,.0f} MB/s")


def measure_lists(count: int) -> None:
    guids = [hashlib.sha1(b"%d" % number).digest() for number in range(count)]
    wire = dlist.encode(codec.encode_reserve("default", ["user.alice"], guids), server=False)
    row(
        "GUIDs of a RESERVE printed",
        rate(count, lambda: dlist.encode(codec.encode_guids(guids), server=False)),
    )
    row("GUIDs of a RESERVE read", rate(count, lambda: codec.decode_reserve(dlist.parse(wire)[0])))


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    measure_records(count)
    measure_messages(2_000, 4_096)
    measure_messages(100, 1_000_000)
    measure_messages(8, 8_000_000)
    measure_lists(count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
