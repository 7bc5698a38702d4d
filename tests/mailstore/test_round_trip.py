"""All mail that we have goes out and comes back: what a user would miss is compared, by folder and UID."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import pytest

from cyrus_sync.common.names import Owner, root_of
from cyrus_sync.common.stores import open_store
from tests.mailstore.conftest import Site

DATA = Path(__file__).parent.parent / "data"


class Kept(NamedTuple):
    """A message as it must come back. `digest` is that of its octets, or of its lines for an mbox."""

    uid: int
    flags: tuple[str, ...]
    internaldate: int
    digest: str


def state(site: Site, owner: Owner, *, mbox: bool) -> dict[str, tuple[tuple[int, ...], list[Kept]]]:
    """Everything that the format keeps: the counters (in a Maildir) and the messages of each folder."""
    top = root_of(owner)
    found = {}
    store = open_store(site.config(), readonly=True)
    with store.read(owner) as reader:
        for mailbox in reader.mailboxes():
            name = mailbox.name.removeprefix(top)
            if mailbox.intermediate or mailbox.name.startswith("DELETED") or name.endswith("#sieve"):
                continue
            kept = []
            for batch in reader.records(mailbox.uniqueid):
                for record in batch:
                    body = None if record.expunged else reader.body(record.guid)
                    if body is None:
                        continue
                    raw = body.data if isinstance(body.data, bytes) else b"".join(body.data)
                    lines = raw.replace(b"\r\n", b"\n").rstrip(b"\n")
                    digest = hashlib.sha1(lines if mbox else raw).hexdigest()
                    uid = 0 if mbox else record.uid
                    kept.append(Kept(uid, tuple(sorted(record.flags.split())), record.internaldate, digest))
            found[name] = (() if mbox else (mailbox.uidvalidity, mailbox.last_uid), kept)
    store.close()
    return found


@pytest.fixture
def full(site: Site) -> Site:
    """A store with the sample mail, and a user `data` with every file of the tests' data as a message."""
    site.ok("sample")
    site.ok("create", "user/data", "user/data/1999-12-31", "user/data/INBOX", "user/data/a.b/c_d")
    flags = ["\\Seen", "\\Flagged", "\\Answered", "\\Draft", "\\Deleted", "$Forwarded", "$Label1", "Later"]
    files = sorted(path for path in DATA.rglob("*") if path.is_file())
    assert len(files) > 5
    store = open_store(site.config())
    with store.write(Owner("user", "data")) as writer:
        for number, path in enumerate(files):
            raw = b"Subject: %d\r\nStatus: RESOLVED\r\n\r\nFrom me\r\n" % number
            raw += path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"").replace(b"\n", b"\r\n")
            chosen = " ".join(flag for place, flag in enumerate(flags) if number >> place & 1)
            name = ("user.data", "user.data.1999-12-31", "user.data.INBOX", "user.data.a^b.c_d")[number % 4]
            writer.append(name, [(raw, 946684800 + 86400 * 365 * number, chosen)])
        writer.expunge("user.data", [1])
        writer.subscribe("user.data.a^b.c_d")
    store.close()
    return site


@pytest.mark.parametrize("kind", ["maildir", "mbox"])
def test_a_whole_corpus_goes_out_and_comes_back(full: Site, kind: str) -> None:
    store = open_store(full.config(), readonly=True)
    owners = list(store.owners())
    store.close()
    assert {owner.kind for owner in owners} == {"user", "shared"}
    for number, owner in enumerate(owners):
        out = full.path / f"out{number}"
        full.ok("export", str(owner), str(out), "--format", kind)
        copy = Owner(owner.kind, f"copy{number}")
        full.ok("import", "--create", str(copy), str(out))
        before = state(full, owner, mbox=kind == "mbox")
        assert state(full, copy, mbox=kind == "mbox") == before, owner
        assert sum(len(kept) for _, kept in before.values()) > 0
        again = full.ok("import", str(copy), str(out))
        assert again.out.startswith("0 messages imported")
