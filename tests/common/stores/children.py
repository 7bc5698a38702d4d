"""Processes that tests start, and kill: ``python -m tests.common.stores.children WHAT PATH SEED``.

Each prints a line for everything that the store has acknowledged, and nothing before.
"""

from __future__ import annotations

import random
import resource
import sys
from pathlib import Path

from cyrus_sync.common.errors import MailboxLocked, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.care.expire import expire
from tests.common.stores.tools import ALICE, INBOX, Stage, message, native_store, record_of, update_of
from tests.deadlines import scaled

CAROL = Owner("user", "carol")


def say(*words: object) -> None:
    print(*words, flush=True)


def churn(path: Path, seed: int) -> None:
    """Append, expunge, apply, rename to and fro, expire; for ever."""
    rnd = random.Random(seed)
    store = native_store(path)
    with store.write(ALICE, timeout=scaled(30)) as writer:
        if writer.mailbox(INBOX) is None:
            writer.create(INBOX)
    number = seed * 1_000_000
    while True:
        what = rnd.randrange(10)
        if what < 6:
            count = rnd.randrange(1, 6)
            texts = [message(number + n, rnd.choice((0, 5000, 60_000))) for n in range(count)]
            number += count
            with store.write(ALICE, timeout=scaled(30)) as writer:
                writer.append(INBOX, [(text, 1, "\\Seen") for text in texts])
            for n in range(count):
                say("kept", number - count + n)
        elif what < 8:
            with store.write(ALICE, timeout=scaled(30)) as writer:
                state = writer.mailbox(INBOX)
                assert state is not None
                uid = rnd.randrange(1, state.last_uid + 2)
                gone = [r for batch in writer.records(state.uniqueid, above_uid=uid - 1) for r in batch][:1]
                for record in gone:
                    body = writer.body(record.guid)
                    assert body is not None or record.expunged
                    if body is not None and not record.expunged:
                        say("going", bytes(body.data).split(b" ")[1].split(b"\r")[0].decode())  # type: ignore[arg-type]
                    writer.expunge(INBOX, [record.uid])
        elif what == 8:
            expire(store, ALICE, -10)
        else:
            _back_and_forth(store, rnd)


def _back_and_forth(store, rnd: random.Random) -> None:  # type: ignore[no-untyped-def]
    """A mailbox that goes from one user to another and back; it is somewhere at any time."""
    here, there = "user.carol.moving", "user.alice.moving"
    for owner, inbox in ((CAROL, "user.carol"), (ALICE, INBOX)):
        with store.write(owner, timeout=scaled(30)) as writer:
            if writer.mailbox(inbox) is None:
                writer.create(inbox)
    with store.read(CAROL) as one, store.read(ALICE) as other:
        found = one.mailbox(here), other.mailbox(there)
    if found == (None, None):
        records = [record_of(message(n), n) for n in range(1, 20)]
        with store.write(CAROL, timeout=scaled(30)) as writer:
            writer.apply_mailbox(update_of(here, records), Stage(*(message(n) for n in range(1, 20))))
        say("moving")
    elif found[0] is not None:
        store.rename(here, there, log=False, timeout=scaled(30))
    else:
        store.rename(there, here, log=False, timeout=scaled(30))


def append(path: Path, seed: int) -> None:
    """50 messages, one at a time, for an owner that several processes want to make at once."""
    store = native_store(path)
    for n in range(50):
        while True:
            try:
                with store.write(ALICE, timeout=scaled(30)) as writer:
                    if writer.mailbox(INBOX) is None:
                        writer.create(INBOX, partition="other" if seed % 2 else "default")
                    writer.append(INBOX, [(message(seed * 1000 + n), 1, "")])
                break
            except MailboxLocked:
                continue
        say("kept", seed * 1000 + n)
    store.close()


def full(path: Path, limit: int) -> None:
    """Append until files may not grow any more; look whether the store goes on; then go on."""
    store = native_store(path)
    with store.write(ALICE) as writer:
        writer.create(INBOX)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    kept = 0
    noise = random.Random(1)
    texts = [b"Subject: %d\r\n\r\n" % n + noise.randbytes(20_000) for n in range(200)]
    errors = 0
    for text in texts:
        try:
            with store.write(ALICE) as writer:
                writer.append(INBOX, [(text, 1, "")])
            kept += 1
        except StoreError as error:
            errors += 1
            say("full", error)
            if errors == 3:
                break
    with store.read(ALICE) as reader:
        state = reader.mailbox(INBOX)
        assert state is not None
        say("readable", sum(len(batch) for batch in reader.records(state.uniqueid)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with store.write(ALICE) as writer:
        writer.append(INBOX, [(texts[-1], 1, "")])
    say("kept", kept + 1)
    store.close()


if __name__ == "__main__":
    {"churn": churn, "append": append, "full": full}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
