"""What mail daemons do to mailboxes: create, delete, ACL, quota, annotations, subscriptions, seen state."""

from __future__ import annotations

import json
import re

from cyrus_sync.common.errors import UnknownFailure
from cyrus_sync.common.model import QUOTA_RESOURCES, Annotation, MailboxState, Seen
from cyrus_sync.common.names import (
    SERVER,
    check_mailbox_name,
    deleted_name,
    inbox_of,
    is_deleted,
    is_inbox,
    login_of,
    owner_of,
    parent_of,
    sort_key,
)
from cyrus_sync.common.newnames import new_uniqueid
from cyrus_sync.common.stores.native.local import LocalMessages
from cyrus_sync.common.stores.native.rows import to_signed
from cyrus_sync.common.stores.native.transaction import Box

ALL_RIGHTS = "lrswipkxtecdan"
DEFAULT_ACL = "anyone\tlrs\t"
"""What a new shared mailbox at the top allows."""

_IDENTIFIER = re.compile(r"[ !#$&-\[\]-~]{1,1023}")
"""Of whom an ACL may speak: a real 3.6 refuses a mailbox with others, and then cannot list its user."""
_RIGHTS = re.compile(r"[a-z0-9]*")


def acl_with(acl: str, identifier: str, rights: str) -> str:
    """`acl` with the entry of `identifier` set; without it, if `rights` is empty."""
    fields = acl.split("\t")
    entries = dict(zip(fields[0::2], fields[1::2], strict=False))
    entries.pop(identifier, None) if not rights else entries.update({identifier: rights})
    return "".join(f"{name}\t{granted}\t" for name, granted in entries.items())


class LocalFolders(LocalMessages):
    """The verbs on mailboxes and on what belongs to a user."""

    def create(
        self,
        name: str,
        *,
        partition: str = "",
        acl: str | None = None,
        mbtype: str = "",
        uidvalidity: int = 0,
    ) -> MailboxState:
        box = self.create_box(name, partition, acl, mbtype, uidvalidity)
        self.log("MAILBOX", name)
        return box.state

    def create_box(
        self, name: str, partition: str = "", acl: str | None = None, mbtype: str = "", uidvalidity: int = 0
    ) -> Box:
        """`create` without a line for the action log."""
        self._check_name(name)
        there = self.find_box("name", name)
        if there and not there.state.intermediate:
            raise UnknownFailure("Mailbox already exists").at(mailbox=name)
        above = self._nearest_above(name)
        if self.owner.kind == "user" and not (above or is_inbox(name) or is_deleted(name)):
            raise UnknownFailure(f"{self.owner} has no INBOX").at(mailbox=name)
        if there:
            self.remove_box(there, tombstone=False)
        if partition or above is None:
            partition = self._around.check_partition(partition)
        else:
            partition = above.state.partition
        self.change(partition)
        modseq = self.next_modseq()
        return self.insert_box(
            MailboxState(
                uniqueid=new_uniqueid(),
                name=name,
                mbtype=mbtype,
                highestmodseq=modseq,
                uidvalidity=uidvalidity or self.next_uidvalidity(),
                partition=partition,
                acl=self._first_acl(above) if acl is None else acl,
                options="P",
                createdmodseq=modseq,
                foldermodseq=modseq,
            )
        )

    def _check_name(self, name: str) -> None:
        if owner_of(check_mailbox_name(name)) != self.owner:
            raise UnknownFailure(f"{name} does not belong to {self.owner}").at(mailbox=name)

    def _nearest_above(self, name: str) -> Box | None:
        parent = parent_of(name)
        while parent:
            box = self.find_box("name", parent)
            if box and not box.state.intermediate:
                return box
            parent = parent_of(parent)
        return None

    def _first_acl(self, above: Box | None) -> str:
        if above:
            return above.state.acl
        return f"{login_of(self.owner.name)}\t{ALL_RIGHTS}\t" if self.owner.kind == "user" else DEFAULT_ACL

    def delete(self, name: str, *, delayed: bool = True) -> None:
        box = self.require_box(name)
        self._delete_one(box, delayed and not is_deleted(name))
        if is_inbox(name):
            self._delete_user(delayed)

    def _delete_one(self, box: Box, delayed: bool) -> None:
        name = box.state.name
        if not delayed:
            self.remove_box(box, modseq=self.next_modseq())
            self.log("UNMAILBOX", name)
            self.log("MAILBOX", name)
            return
        when = self._around.now()
        while self.find_box("name", aside := deleted_name(name, when)):
            when += 1
        check_mailbox_name(aside)
        modseq = self.next_modseq()
        self.rename_box(box, aside, highestmodseq=modseq, foldermodseq=modseq)
        self.log("RENAME", name, aside)
        self.log("MAILBOX", name)
        self.log("MAILBOX", aside)

    def _delete_user(self, delayed: bool) -> None:
        """Deleting an INBOX deletes the user: what is below it, then subscriptions, seen state, quotas."""
        for state in self.mailboxes():
            if not is_deleted(state.name):
                if state.intermediate:
                    self.remove_box(self.box(state.name), tombstone=False)
                else:
                    self._delete_one(self.box(state.name), delayed)
        self.forget_user()
        self.log("UNUSER", self.owner.name)

    def forget_user(self, *, chained: bool = False) -> None:
        """Everything of a user but mailboxes. Each quota root is logged for itself: a replica does not
        report those that no mailbox uses, and he may be here again before it hears that he was gone."""
        for quota in self.quotas():
            self.log("QUOTA", quota.root, chained=chained)
        for table in ("subscriptions", "seen", "quotas"):
            self._db.execute(f"DELETE FROM {table}")
        self.assign_quotaroots()

    def set_acl(self, name: str, identifier: str, rights: str) -> None:
        box = self.require_box(name)
        if not _IDENTIFIER.fullmatch(identifier) or not _RIGHTS.fullmatch(rights):
            raise UnknownFailure("Invalid ACL identifier or rights").at(mailbox=name)
        acl = acl_with(box.state.acl, identifier, rights)
        if acl != box.state.acl:
            self.folder_changed(box, acl=acl)

    def folder_changed(self, box: Box, **columns: str) -> None:
        """The mailbox as an object has changed: a new foldermodseq."""
        modseq = self.next_modseq()
        self.set_columns(box.id, **columns, highestmodseq=modseq, foldermodseq=modseq)
        self.log("MAILBOX", box.state.name)

    def set_quota(self, root: str, limits: dict[str, int] | None) -> None:
        self._check_name(root)
        if limits is None:
            self.change()
            self._db.execute("DELETE FROM quotas WHERE root = ?", (root,))
        else:
            for resource, limit in limits.items():
                if resource not in QUOTA_RESOURCES or not 0 <= limit < 2**32 - 1:
                    raise UnknownFailure(f"Invalid quota limit {resource} {limit}").at(mailbox=root)
            self.put_quota(root, limits, self.next_modseq())
        self.assign_quotaroots()
        self.log("QUOTA", root)

    def put_quota(self, root: str, limits: dict[str, int], modseq: int) -> None:
        """Write a quota root."""
        ordered = {name: limits[name] for name in sorted(limits)}
        self._db.execute(
            "INSERT OR REPLACE INTO quotas (root, limits, modseq) VALUES (?, ?, ?)",
            (root, json.dumps(ordered), modseq),
        )

    def annotate(self, mailbox: str, entry: str, userid: str, value: bytes | None, uid: int = 0) -> None:
        if not entry.startswith("/"):  # RFC 5464, 4.1; and a real server sends an entry NIL as nil
            raise UnknownFailure(f"Invalid annotation entry {entry[:80]!a}").at(mailbox=mailbox)
        if not mailbox:
            self.put_server_annotation(entry, userid, value)
            self.log("ANNOTATION", "")
            return
        box = self.require_box(mailbox)
        if uid:
            self.annotate_message(box, entry, userid, value, uid)
        elif self.put_box_annotation(box, entry, userid, value):
            self.folder_changed(box)

    def put_box_annotation(self, box: Box, entry: str, userid: str, value: bytes | None) -> bool:
        """Set or remove a mailbox's own annotation; whether that changed anything."""
        kept = [note for note in box.state.annotations if (note.entry, note.userid) != (entry, userid)]
        if value:
            kept.append(Annotation(entry, userid, 0, value))
        kept.sort(key=lambda note: (note.entry, note.userid))
        if tuple(kept) == box.state.annotations:
            return False
        self.change()
        self.replace_box_annotations(box, kept)
        return True

    def put_server_annotation(self, entry: str, userid: str, value: bytes | None) -> None:
        """Set or remove an annotation of the server, which the SERVER owner holds."""
        if self.owner != SERVER:
            raise UnknownFailure("server annotations belong to the server")
        self.change()
        if value:
            self._db.execute(
                "INSERT OR REPLACE INTO annotations (mailbox, uid, entry, userid, modseq, value)"
                " VALUES (0, 0, ?, ?, 0, ?)",
                (entry, userid, value),
            )
        else:
            self._db.execute(
                "DELETE FROM annotations WHERE mailbox = 0 AND uid = 0 AND entry = ? AND userid = ?",
                (entry, userid),
            )

    def subscribe(self, mailbox: str, subscribed: bool = True) -> None:
        self.put_subscription(mailbox, subscribed)
        self.log("SUB", self.owner.name, mailbox)

    def put_subscription(self, mailbox: str, subscribed: bool) -> None:
        """The user's subscription to a mailbox, which need not exist."""
        check_mailbox_name(mailbox)
        self.change()
        if subscribed:
            self._db.execute(
                "INSERT OR REPLACE INTO subscriptions (mailbox, sort) VALUES (?, ?)",
                (mailbox, sort_key(mailbox)),
            )
        else:
            self._db.execute("DELETE FROM subscriptions WHERE mailbox = ?", (mailbox,))

    def set_seen(self, seen: Seen) -> None:
        self.put_seen(seen)
        self.log("SEEN", self.owner.name, seen.uniqueid)

    def put_seen(self, seen: Seen) -> None:
        """What this user has seen in somebody else's mailbox."""
        self.change()
        self._db.execute(
            "INSERT OR REPLACE INTO seen (uniqueid, lastread, lastuid, lastchange, seenuids)"
            " VALUES (?, ?, ?, ?, ?)",
            (
                seen.uniqueid,
                to_signed(seen.lastread),
                seen.lastuid,
                to_signed(seen.lastchange),
                seen.seenuids,
            ),
        )

    def inbox(self) -> Box | None:
        """The user's INBOX, if he has one."""
        return self.find_box("name", inbox_of(self.owner.name)) if self.owner.kind == "user" else None
