"""`Draft`: what is decided of one mailbox, verb by verb, until it is carried out as one settlement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cyrus_sync.common.master import Renumbered, Settlement
from cyrus_sync.common.model import Annotation, MailboxState, MessageBody, Record
from cyrus_sync.multisite.bodies import unfolded
from cyrus_sync.multisite.mail import SiteReader


@dataclass(slots=True)
class Draft:
    """Made from the mailbox as it was shown, `base`. The order of the fields is that in which they count."""

    base: MailboxState
    reader: SiteReader
    """Of the moment at which `base` was shown."""
    counters: dict[str, int] = field(default_factory=dict)
    adopted: list[Record] = field(default_factory=list)
    renumbered: list[Renumbered] = field(default_factory=list)
    rewritten: dict[int, Record] = field(default_factory=dict)
    annotations: Sequence[Annotation] | None = None
    bodies: dict[bytes, MessageBody] = field(default_factory=dict)

    def get(self, guid: bytes) -> MessageBody | None:
        """A message that was brought along (`common.master.Fetched`)."""
        body = self.bodies.get(guid)
        return unfolded(body) if body is not None else None

    def raise_to(self, counters: dict[str, int]) -> None:
        """Note the least values of counters."""
        for name, value in counters.items():
            self.counters[name] = max(value, self.counters.get(name, 0))

    def adopt(self, record: Record, body: MessageBody | None, *, keep_uid: bool) -> None:
        """Append a message under its own UID, or under the next one."""
        if body is not None:
            self.bodies[record.guid] = body
        if keep_uid:
            self.adopted.append(record)
        else:
            self.renumbered.append(Renumbered(record, body is not None))

    def known(self, uid: int) -> Record | None:
        """The mailbox's own record of a UID."""
        for batch in self.reader.records(self.base.uniqueid, above_uid=uid - 1, batch=1):
            for record in batch:
                return record if record.uid == uid else None
        return None

    def next_uid(self) -> int:
        """The UID of what was adopted last, if no other mail comes first."""
        last = max([self.base.last_uid, *(record.uid for record in self.adopted)])
        return max(last, self.counters.get("last_uid", 0)) + len(self.renumbered)

    def settlement(self) -> Settlement:
        """All of it."""
        last = max([self.base.last_uid, *(record.uid for record in self.adopted)])
        return Settlement(
            base=self.base,
            # Who said this did not know of later mail: that goes behind what is adopted here.
            replica=replace(self.base, last_uid=last),
            counters=self.counters | {"last_uid": max(last, self.counters.get("last_uid", 0))},
            adopt=tuple(sorted(self.adopted)),
            renumber=tuple(self.renumbered),
            rewrite=tuple(self.rewritten[uid] for uid in sorted(self.rewritten)),
            annotations=tuple(self.annotations) if self.annotations is not None else None,
            bodies=self,
        )
