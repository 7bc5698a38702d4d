"""`Summary`: what is asked of an owner from outside, all read from the index at once.

Whoever asks for thousands of owners (a list of users, figures, what there is to expire, what a replica has to
do) would have to open as many indexes. A summary is read once and kept (`summaries`) for as long as the index
is the same.
"""

from __future__ import annotations

import json
import sqlite3
from typing import NamedTuple

from cyrus_sync.common.model import Annotation, MailboxState, Quota
from cyrus_sync.common.names import Owner, inbox_of, is_deleted
from cyrus_sync.common.stores.native.reader import seen_of
from cyrus_sync.common.stores.native.rows import STATE_COLUMNS, state_of
from cyrus_sync.common.stores.native.schema import WITH_HISTORY, stored_version
from cyrus_sync.common.summary import user_digest

NEVER = 2**62
"""The time of what is not there."""


class Summary(NamedTuple):
    """One owner. Times are Unix seconds, `NEVER` for none."""

    alive: bool
    """Whether anything of him is: a mailbox, a subscription, seen state, a quota root."""
    inbox: bool
    """Whether a user has an INBOX."""
    digest: bytes
    """Of what a replication compares (`common.summary`)."""
    kept: bool
    """Whether anything is left of him at all, alive or to be brought back."""
    waiting: int
    """Lines that the action log does not have yet."""
    needless: int
    """Messages that no record needs."""
    packs: tuple[tuple[int, int, int], ...]
    """Number, octets and needed octets of each pack that has any."""
    mailboxes: int
    removed: int
    messages: int
    expunged: int
    octets: int
    stored: int
    stored_octets: int
    needed_octets: int
    """Of the frames of these messages."""
    oldest_expunged: int
    oldest_removed: int
    """Of mailboxes; those that delayed delete has set aside included."""
    oldest_tombstone: int
    """Of tombstones, and of former names of mailboxes that are gone."""
    oldest_history: int

    def encode(self) -> str:
        return json.dumps([*self[:2], self.digest.hex(), *self[3:]], separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Summary:
        """What `encode` made. Raises ValueError, TypeError."""
        values = json.loads(text)
        values[2] = bytes.fromhex(values[2])
        values[6] = tuple(map(tuple, values[6]))
        return cls(*values)


_ONE = (
    "SELECT (SELECT count(*) FROM records WHERE expunged = 1),"
    " (SELECT min(last_updated) FROM records WHERE expunged = 1 AND last_updated >= 0),"
    " (SELECT min(deleted_at) FROM tombstones),"
    " (SELECT min(renamed_at) FROM former_names WHERE uniqueid NOT IN (SELECT uniqueid FROM mailboxes)),"
    " EXISTS (SELECT 1 FROM annotations WHERE mailbox = 0),"
    " (SELECT count(*) FROM messages WHERE guid NOT IN (SELECT guid FROM records WHERE unlinked = 0)),"
    " (SELECT count(*) FROM outbox),"
)
_PAST = " (SELECT at FROM history ORDER BY seq LIMIT 1)"
_NO_PAST = " NULL"
"""Where the index is of a version that has no history yet, and is read as it is."""
_PACKS = (
    "SELECT pack, length, (SELECT coalesce(sum(length), 0) FROM messages WHERE messages.pack = packs.pack)"
    " FROM packs WHERE length > 0 ORDER BY pack"
)


def summarise(owner: Owner, connection: sqlite3.Connection) -> Summary:
    """Of the index as the connection sees it. Raises sqlite3.Error; ValueError, TypeError for a damaged
    one."""
    query = connection.execute
    notes: dict[int, list[Annotation]] = {}
    for number, *note in query("SELECT mailbox, entry, userid, modseq, value FROM annotations WHERE uid = 0"):
        notes.setdefault(number, []).append(Annotation(*note))
    alive: list[MailboxState] = []
    messages = octets = removed = 0
    oldest_removed = NEVER
    for number, deleted_at, count, size, *row in query(
        f"SELECT id, deleted_at, messages, bytes, {STATE_COLUMNS} FROM mailboxes"
    ):
        if deleted_at:
            removed += 1
            oldest_removed = min(oldest_removed, deleted_at)
            continue
        state = state_of(row, tuple(notes.get(number, ())))
        alive.append(state)
        messages += count
        octets += size
        if is_deleted(state.name) and not state.intermediate:
            oldest_removed = min(oldest_removed, int(state.name.rpartition(".")[2], 16))
    quotas = [Quota(root, json.loads(limits)) for root, limits in query("SELECT root, limits FROM quotas")]
    subscriptions = [name for (name,) in query("SELECT mailbox FROM subscriptions")]
    seen = list(map(seen_of, query("SELECT uniqueid, lastread, lastuid, lastchange, seenuids FROM seen")))
    expunged, oldest_expunged, tombstone, former, of_server, needless, waiting, past = query(
        _ONE + (_PAST if stored_version(connection) >= WITH_HISTORY else _NO_PAST)
    ).fetchone()
    stored, stored_octets, needed = query(
        "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(length), 0) FROM messages"
    ).fetchone()
    packs = tuple(query(_PACKS).fetchall())
    is_alive = bool(alive or subscriptions or seen or quotas or of_server)
    ages = [one for one in (tombstone, former) if one is not None]
    inbox = inbox_of(owner.name) if owner.kind == "user" else ""
    return Summary(
        alive=is_alive,
        inbox=bool(inbox) and any(state.name == inbox for state in alive),
        digest=user_digest(alive, quotas, subscriptions, seen),
        kept=is_alive or removed > 0 or tombstone is not None or stored > 0 or past is not None,
        waiting=waiting,
        needless=needless,
        packs=packs,
        mailboxes=len(alive),
        removed=removed,
        messages=messages,
        expunged=expunged,
        octets=octets,
        stored=stored,
        stored_octets=stored_octets,
        needed_octets=needed,
        oldest_expunged=NEVER if oldest_expunged is None else oldest_expunged,
        oldest_removed=oldest_removed,
        oldest_tombstone=min(ages, default=NEVER),
        oldest_history=NEVER if past is None else past,
    )
