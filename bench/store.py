"""How fast the store is, apart from network and protocol: ``python -m bench.store [--messages N] [DIR]``.

Applies new mail as a replica does (staging with SHA-1 and compression, packs, index, one sync), reads
records and bodies back, changes flags, and tells messages a second, CPU a message and peak memory.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from bench.mail import Post
from cyrus_sync.common.config import Config
from cyrus_sync.common.model import MailboxState, MailboxUpdate, MessageBody, Record
from cyrus_sync.common.names import Owner
from cyrus_sync.common.protocol.crc import mailbox_crcs
from cyrus_sync.common.stores import open_store
from cyrus_sync.common.stores.staging import Staging

T = TypeVar("T")


def make_records(messages: list[bytes]) -> list[Record]:
    return [
        Record(uid, uid, 1_700_000_000, "\\Seen" if uid % 3 else "", False, 1_600_000_000, len(raw),
               hashlib.sha1(raw).digest(), 0, 1_700_000_000, uid)
        for uid, raw in enumerate(messages, 1)
    ]  # fmt: skip


def batches(items: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def timed(name: str, count: int, act: Callable[[], object]) -> None:
    """Run `act` and print its figures."""
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:34} {count / wall:10,.0f} /s  {cpu / count * 1e6:7.1f} us CPU each  peak {peak:5.0f} MiB")


def run(directory: Path, count: int, size: int) -> None:
    conf = directory / "imapd.conf"
    conf.write_text(f"configdirectory: {directory}/conf\npartition-default: {directory}/mail\n")
    store = open_store(Config.load(conf, "mailstore"), log=False)
    owner = Owner("user", "bench")
    messages = list(Post(3).alike(count, size))
    records = make_records(messages)
    crcs = mailbox_crcs(records)
    state = MailboxState(
        "benchbenchbenchbenchbench", "user.bench", "", *crcs, count, count, uidvalidity=1,
        partition="default", acl="bench\tlrswipkxtecdan\t", options="P",
    )  # fmt: skip

    def apply() -> None:
        staging = Staging(directory / "stage")
        for group in batches(list(zip(messages, records, strict=True)), 8192):
            staging.add(MessageBody("default", record.guid, record.size, raw) for raw, record in group)
        with store.write(owner) as writer:
            writer.apply_mailbox(MailboxUpdate(state, list(batches(records, 2000))), staging)
        staging.close()

    def read_records() -> None:
        with store.read(owner) as reader:
            assert sum(len(batch) for batch in reader.records(state.uniqueid)) == count

    def read_bodies(encoding: str) -> None:
        guids = [record.guid for record in records]
        with store.read(owner) as reader:
            assert sum(len(batch) for batch in reader.bodies(guids, "default", encoding)) == count

    def flags() -> None:
        changed = [record._replace(modseq=count + record.uid, flags="\\Flagged") for record in records]
        new = mailbox_crcs(changed)
        after = MailboxState(
            state.uniqueid, state.name, "", *new, count, 2 * count, uidvalidity=1, partition="default",
            acl=state.acl, options="P",
        )  # fmt: skip
        update = MailboxUpdate(after, list(batches(changed, 2000)))
        with store.write(owner) as writer:
            writer.apply_mailbox(update, Staging(directory / "stage"))

    def one_by_one() -> None:
        for number in range(500):
            with store.write(owner) as writer:
                writer.append("user.bench", [(b"Subject: single %d\r\n\r\nx\r\n" % number, 1, "")])

    timed(f"stage and apply, {size} bytes", count, apply)
    timed("read records", count, read_records)
    timed("read bodies", count, lambda: read_bodies("identity"))
    timed("read bodies as zstd", count, lambda: read_bodies("zstd"))
    timed("apply changed flags", count, flags)
    timed("append one by one, synced", 500, one_by_one)
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", help="where to write (default: a temporary directory)")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=4096)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-store-", dir=arguments.directory) as directory:
        run(Path(directory), arguments.messages, arguments.size)


if __name__ == "__main__":
    main()
