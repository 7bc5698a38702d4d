"""The shadow: the store's state as the log tells it. The engine compares the store with it.

Whoever has applied the log has this state, so what differs from it is what the log lacks. Names are those of
this replica: a mailbox in conflict stands here under its generated name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from cyrus_sync.common.model import Annotation, MailboxAnnotation, MailboxState, Quota, Seen, SieveScript
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.multisite.oplog.database import Database
from cyrus_sync.multisite.oplog.operations import owner_from, owner_text

RESYNC = "resync"
"""Kind of the items that name mailboxes about which the master is to tell everything."""

TOLD_ITEMS = ("sub", "seen", "quota", "sieve", "active", "annotation")
"""Kinds of the items that stand for what the log has told."""

INBOXLESS = "inboxless"
"""Kind of the server's items that name users who may have mailboxes and no INBOX."""

_FIELDS = [field.name for field in fields(MailboxState)]


def state_text(state: MailboxState) -> str:
    """A MailboxState as JSON."""
    values: dict[str, Any] = {name: getattr(state, name) for name in _FIELDS}
    values["annotations"] = [
        [note.entry, note.userid, note.modseq, note.value.decode("latin-1")] for note in state.annotations
    ]
    return json.dumps(values, separators=(",", ":"))


def state_from(text: str) -> MailboxState:
    """The state that `state_text` wrote."""
    values = json.loads(text)
    values["userflags"] = tuple(values["userflags"])
    values["annotations"] = tuple(
        Annotation(entry, userid, modseq, value.encode("latin-1"))
        for entry, userid, modseq, value in values["annotations"]
    )
    return MailboxState(**values)


class Shadows:
    """Mailboxes and items of the shadow."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # -- mailboxes

    def put(self, owner: Owner, state: MailboxState) -> None:
        """Note what the log says now of a mailbox that `owner` has."""
        self._db.execute(
            "INSERT OR REPLACE INTO shadows (uniqueid, owner, name, state) VALUES (?, ?, ?, ?)",
            (state.uniqueid, owner_text(owner), state.name, state_text(state)),
        )

    def rename(self, uniqueid: str, owner: Owner, name: str, partition: str) -> None:
        """Note another owner, name and partition of a mailbox, if the log tells of it."""
        found = self.get(uniqueid)
        if found is not None:
            self.put(owner, replace(found, name=name, partition=partition))

    def drop(self, uniqueid: str) -> None:
        """Note that the log says nothing of the mailbox any more. If the store has it, it is told anew."""
        self._db.execute("DELETE FROM shadows WHERE uniqueid = ?", (uniqueid,))

    def get(self, uniqueid: str) -> MailboxState | None:
        """What the log tells of a mailbox; None for nothing."""
        found = self._db.row("SELECT state FROM shadows WHERE uniqueid = ?", (uniqueid,))
        return state_from(found[0]) if found else None

    def by_name(self, name: str) -> MailboxState | None:
        """The mailbox of this internal name, as the log tells of it."""
        found = self._db.row("SELECT state FROM shadows WHERE name = ?", (name,))
        return state_from(found[0]) if found else None

    def mailboxes(self, owner: Owner) -> list[MailboxState]:
        """All mailboxes that an owner has, by name."""
        rows = self._db.execute(
            "SELECT state FROM shadows WHERE owner = ? ORDER BY name", (owner_text(owner),)
        )
        return [state_from(text) for (text,) in rows.fetchall()]

    def at_home(self, owner: Owner) -> list[MailboxState]:
        """All mailboxes whose home is `owner`, whoever has them now, by name."""
        rows = self._db.execute(
            "SELECT state FROM objects o JOIN shadows s USING (uniqueid) WHERE o.owner = ? ORDER BY s.name",
            (owner_text(owner),),
        )
        return [state_from(text) for (text,) in rows.fetchall()]

    def owner_of(self, uniqueid: str) -> Owner | None:
        """The owner that has a mailbox; None if the log knows of none."""
        found = self._db.row("SELECT owner FROM shadows WHERE uniqueid = ?", (uniqueid,))
        return owner_from(found[0]) if found else None

    def elsewhere(self, owner: Owner) -> list[Owner]:
        """The other owners that have mailboxes whose home is `owner`."""
        rows = self._db.execute(
            "SELECT DISTINCT s.owner FROM objects o JOIN shadows s USING (uniqueid)"
            " WHERE o.owner = ?1 AND s.owner <> ?1 ORDER BY s.owner",
            (owner_text(owner),),
        )
        return [owner_from(text) for (text,) in rows.fetchall()]

    def owners(self) -> set[Owner]:
        """The owners of which the log tells anything."""
        rows = self._db.execute("SELECT owner FROM shadows UNION SELECT owner FROM shadow_items")
        return {owner_from(text) for (text,) in rows}

    # -- everything else

    def put_item(self, owner: Owner, kind: str, key: str, value: Any) -> None:
        """Note anything else that the log says of an owner; `value` goes through JSON."""
        self._db.execute(
            "INSERT OR REPLACE INTO shadow_items (owner, kind, key, value) VALUES (?, ?, ?, ?)",
            (owner_text(owner), kind, key, json.dumps(value)),
        )

    def drop_item(self, owner: Owner, kind: str, key: str) -> None:
        """Forget one item."""
        self._db.execute(
            "DELETE FROM shadow_items WHERE owner = ? AND kind = ? AND key = ?",
            (owner_text(owner), kind, key),
        )

    def drop_items(self, owner: Owner) -> None:
        """Forget all items of an owner."""
        self._db.execute("DELETE FROM shadow_items WHERE owner = ?", (owner_text(owner),))

    def item(self, owner: Owner, kind: str, key: str) -> Any:
        """The value, None if there is none."""
        found = self._db.row(
            "SELECT value FROM shadow_items WHERE owner = ? AND kind = ? AND key = ?",
            (owner_text(owner), kind, key),
        )
        return json.loads(found[0]) if found else None

    def items(self, owner: Owner, kind: str) -> list[tuple[str, Any]]:
        """Keys and values of one kind, by key."""
        rows = self._db.execute(
            "SELECT key, value FROM shadow_items WHERE owner = ? AND kind = ? ORDER BY key",
            (owner_text(owner), kind),
        )
        return [(key, json.loads(value)) for key, value in rows.fetchall()]

    def of_kind(self, kind: str) -> list[tuple[str, str, Any]]:
        """Owner (`owner_text`), key and value of all items of one kind."""
        rows = self._db.execute(
            "SELECT owner, key, value FROM shadow_items WHERE kind = ? ORDER BY owner, key", (kind,)
        )
        return [(owner, key, json.loads(value)) for owner, key, value in rows.fetchall()]

    # -- items as the protocol has them

    def subscriptions(self, owner: Owner) -> tuple[str, ...]:
        """Names of the mailboxes to which a user is subscribed, in order."""
        return tuple(key for key, _ in self.items(owner, "sub"))

    def seen(self, owner: Owner) -> tuple[Seen, ...]:
        """A user's seen state, by uniqueid."""
        return tuple(Seen(key, *value) for key, value in self.items(owner, "seen"))

    def put_seen(self, owner: Owner, seen: Seen) -> None:
        """Note seen state of one mailbox."""
        value = [seen.lastread, seen.lastuid, seen.lastchange, seen.seenuids]
        self.put_item(owner, "seen", seen.uniqueid, value)

    def quotas(self, owner: Owner) -> tuple[Quota, ...]:
        """An owner's quota roots, by name."""
        return tuple(Quota(key, value) for key, value in self.items(owner, "quota"))

    def put_quota(self, owner: Owner, quota: Quota) -> None:
        """Note the limits of a quota root."""
        self.put_item(owner, "quota", quota.root, quota.limits)

    def scripts(self, owner: Owner) -> tuple[SieveScript, ...]:
        """Scripts, and the bytecode of the active one."""
        active = self.item(owner, "active", "sieve")
        found: list[SieveScript] = []
        for filename, (updated, guid) in self.items(owner, "sieve"):
            bytecode = filename.removesuffix(".script") + ".bc"
            found.append(SieveScript(filename, updated, bytes.fromhex(guid), bytecode == active))
            if bytecode == active:
                found.append(SieveScript(bytecode, updated, active=True))
        return tuple(found)

    def annotations(self, owner: Owner, mailbox: str) -> list[MailboxAnnotation]:
        """Of the server (mailbox ""); those of mailboxes are in their states."""
        if mailbox:
            state = self.by_name(mailbox)
            notes = state.annotations if state else ()
            return [MailboxAnnotation(mailbox, n.entry, n.userid, n.value) for n in notes]
        found = []
        for key, value in self.items(owner, "annotation"):
            entry, _, userid = key.partition("\n")
            found.append(MailboxAnnotation("", entry, userid, value.encode("latin-1")))
        return found

    def put_annotation(self, owner: Owner, note: MailboxAnnotation) -> None:
        """Note an annotation of the server."""
        key = f"{note.entry}\n{note.userid}"
        self.put_item(owner, "annotation", key, note.value.decode("latin-1"))


def remember_annotation(shadows: Shadows, mailbox: str, entry: str, userid: str, value: bytes | None) -> None:
    """Change one annotation of a mailbox in its shadow; None removes it."""
    state = shadows.by_name(mailbox)
    if state is None:
        return
    kept: Iterable[Annotation] = [n for n in state.annotations if (n.entry, n.userid) != (entry, userid)]
    added = [Annotation(entry, userid, 0, value)] if value else []
    notes = tuple(sorted([*kept, *added], key=lambda note: (note.entry, note.userid)))
    shadows.put(owner_of(state.name), replace(state, annotations=notes))
