"""Figures about owners: mailboxes, messages, bytes raw and on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.care import OwnerStats, Surveyed
from cyrus_sync.common.stores.native.homes import Stamp
from cyrus_sync.common.stores.native.layout import INDEX
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.native.summary import Summary


def stats(store: NativeStore, owner: Owner) -> OwnerStats | None:
    """Figures of one owner, None if it is not stored."""
    found = store.find(owner)
    if found is None:
        return None
    directory = found.path
    with store.read(owner) as reader:
        query = reader.connection.execute
        mailboxes, messages, size = query(
            "SELECT count(*), coalesce(sum(messages), 0), coalesce(sum(bytes), 0) FROM mailboxes"
            " WHERE deleted_at = 0"
        ).fetchone()
        (expunged,) = query("SELECT count(*) FROM records WHERE expunged = 1").fetchone()
        stored, raw, live = query(
            "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(length), 0) FROM messages"
        ).fetchone()
        lengths = dict(query("SELECT pack, length FROM packs WHERE length > 0"))
        (removed,) = query("SELECT count(*) FROM mailboxes WHERE deleted_at > 0").fetchone()
    with contextlib.closing(store.home.packs(found)) as packs:
        far = sum(length for pack, length in lengths.items() if not packs.is_near(pack))
    index = sum(path.stat().st_size for path in directory.glob(f"{INDEX}*"))
    return OwnerStats(
        directory=directory,
        mailboxes=mailboxes,
        messages=messages,
        expunged=expunged,
        bytes=size,
        stored=stored,
        stored_bytes=raw,
        pack_bytes=sum(lengths.values()),
        live_pack_bytes=live,
        packs=len(lengths),
        index_bytes=index,
        removed_mailboxes=removed,
        far_bytes=far,
    )


def survey(store: NativeStore) -> Iterator[Surveyed]:
    """Of everybody of whom anything is alive, and of those who have to be asked whether it is."""
    for known in store.living():
        stamp, summary = known.stamp, known.summary
        figures = _from_outside(stamp, summary) if stamp is not None and summary is not None else None
        yield Surveyed(known.owner, figures)


def _from_outside(stamp: Stamp, summary: Summary) -> OwnerStats:
    return OwnerStats(
        directory=stamp.directory,
        mailboxes=summary.mailboxes,
        messages=summary.messages,
        expunged=summary.expunged,
        bytes=summary.octets,
        stored=summary.stored,
        stored_bytes=summary.stored_octets,
        pack_bytes=sum(length for _, length, _ in summary.packs),
        live_pack_bytes=summary.needed_octets,
        packs=len(summary.packs),
        index_bytes=stamp.octets,
        removed_mailboxes=summary.removed,
    )
