"""What replication changes besides APPLY MAILBOX: deletes, quota, seen, subscriptions, annotations.

A replica changes nothing of its own accord: no modseq moves here but where the master says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.errors import BadParameters, MailboxMoved, MailboxNonexistent
from cyrus_sync.common.model import MailboxAnnotation, Quota, Seen
from cyrus_sync.common.names import check_mailbox_name, is_deleted, is_inbox, parent_of
from cyrus_sync.common.stores.native.folders import LocalFolders
from cyrus_sync.common.stores.native.tally import Tally


class ApplyMeta(LocalFolders):
    """The smaller verbs of a replica."""

    def apply_expunge(self, mailbox: str, uniqueid: str, uids: Sequence[int]) -> None:
        """Modseq and last_updated of the records stay as they are (that is what EXPUNGE means)."""
        box = self.require_box(mailbox, uniqueid)
        if box.state.uniqueid != uniqueid:
            raise MailboxMoved().at(mailbox=mailbox, uniqueid=uniqueid)
        old = [record for record in self.records_by_uid(box.id, uids) if not record.expunged]
        tally = Tally(box)
        self.update_records(box.id, tally, old, [record._replace(expunged=True) for record in old])
        if old:
            self.set_columns(box.id, **tally.columns())
            self.log("MAILBOX", mailbox, chained=True)

    def apply_unmailbox(self, name: str) -> None:
        self.remove_box(self.box(name))
        self.log("UNMAILBOX", name, chained=True)

    def drop_childless(self, name: str) -> None:
        names = [state.name for state in self.mailboxes()]
        above: str | None = name
        while above is not None and not any(each.startswith(f"{above}.") for each in names):
            box = self.find_box("name", above)
            if box is not None and box.state.intermediate:
                self.remove_box(box, modseq=box.state.foldermodseq)
                self.log("MAILBOX", above, chained=True)
                names.remove(above)
            elif box is not None:
                return
            above = parent_of(above)

    def apply_unuser(self) -> None:
        """Mailboxes set aside by delayed delete stay, and so do intermediates."""
        names = [
            state.name for state in self.mailboxes() if not (state.intermediate or is_deleted(state.name))
        ]
        if not names and self.is_empty():
            return
        self.change()
        for name in sorted(names, key=is_inbox):
            self.remove_box(self.box(name))
        self.forget_user(chained=True)
        self.log("UNUSER", self.owner.name, chained=True)

    def apply_quota(self, quota: Quota) -> None:
        check_mailbox_name(quota.root)
        self.change()
        self.put_quota(quota.root, quota.limits, quota.modseq)
        self.assign_quotaroots()
        self.log("QUOTA", quota.root, chained=True)

    def apply_unquota(self, root: str) -> None:
        if self.quota(root) is None:
            return
        self.change()
        self._db.execute("DELETE FROM quotas WHERE root = ?", (root,))
        self.assign_quotaroots()
        self.log("QUOTA", root, chained=True)

    def apply_sub(self, mailbox: str, subscribed: bool) -> None:
        if not subscribed and not self.stored:
            return
        self.put_subscription(mailbox, subscribed)
        self.log("SUB", self.owner.name, mailbox, chained=True)

    def apply_seen(self, seen: Seen) -> None:
        if not seen.uniqueid:
            raise BadParameters()
        self.put_seen(seen)
        self.log("SEEN", self.owner.name, seen.uniqueid, chained=True)

    def apply_annotation(self, annotation: MailboxAnnotation) -> None:
        self._annotate(annotation.mailbox, annotation.entry, annotation.userid, annotation.value)

    def apply_unannotation(self, mailbox: str, entry: str, userid: str) -> None:
        self._annotate(mailbox, entry, userid, None)

    def _annotate(self, mailbox: str, entry: str, userid: str, value: bytes | None) -> None:
        if not entry.startswith("/"):
            raise BadParameters().at(mailbox=mailbox)
        if not mailbox:
            self.put_server_annotation(entry, userid, value)
        else:
            box = self.find_box("name", mailbox)
            if box is None:
                raise MailboxNonexistent().at(mailbox=mailbox)
            self.put_box_annotation(box, entry, userid, value)
        self.log("ANNOTATION", mailbox, chained=True)
