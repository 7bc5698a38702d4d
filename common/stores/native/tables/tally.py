"""The sums that a mailbox keeps of its records: both CRCs, live messages, their bytes, annotation bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cyrus_sync.common.model import Annotation, MailboxState, Record
from cyrus_sync.common.protocol.crc import ANNOT_SEED, mailbox_crcs
from cyrus_sync.common.stores.native.rows import Box


def weight(annotations: Iterable[Annotation]) -> int:
    """Bytes that annotations count for in a quota."""
    return sum(len(note.value) for note in annotations)


class Tally:
    """Keeps the sums of one mailbox up to date while records come, change and go.

    An annotation CRC of 0 is one that is not known and stays so (`verbs.apply`, step 13)."""

    def __init__(self, box: Box) -> None:
        self.crc = box.state.sync_crc
        self.crc_annot = box.state.sync_crc_annot or 0
        self.messages = box.messages
        self.bytes = box.bytes
        self.annotation_bytes = box.annotation_bytes
        self.xconvmodseq = box.state.xconvmodseq

    @classmethod
    def anew(cls, annotation_bytes: int) -> Tally:
        """Of a mailbox without records whose own annotations have so many bytes."""
        empty = MailboxState("", "", sync_crc=0, sync_crc_annot=ANNOT_SEED)
        return cls(Box(0, empty, 0, 0, annotation_bytes))

    def add(self, records: Sequence[Record]) -> None:
        """Count records; expunged ones do not count."""
        self._change(records, 1)

    def remove(self, records: Sequence[Record]) -> None:
        """Take back what `add` counted."""
        self._change(records, -1)

    def replace(self, old: Sequence[Record], new: Sequence[Record]) -> None:
        self.remove(old)
        self.add(new)

    def _change(self, records: Sequence[Record], sign: int) -> None:
        crc, crc_annot = mailbox_crcs(records)
        self.crc ^= crc
        if self.crc_annot:
            self.crc_annot ^= crc_annot ^ ANNOT_SEED
        live = [record for record in records if not record.expunged]
        self.messages += sign * len(live)
        self.bytes += sign * sum([record.size for record in live])
        noted = [weight(record.annotations) for record in live if record.annotations]
        self.annotation_bytes += sign * sum(noted)

    def columns(self) -> dict[str, int]:
        """What to write into the row of the mailbox."""
        return {
            "sync_crc": self.crc,
            "sync_crc_annot": self.crc_annot,
            "messages": self.messages,
            "bytes": self.bytes,
            "annotation_bytes": self.annotation_bytes,
        }

    def columns_at(self, modseq: int) -> dict[str, int]:
        """`columns`, and the counters, of a change here that has `modseq`.

        A server with conversations counts the same change in XCONVMODSEQ, and takes none that says less.
        """
        columns = {**self.columns(), "highestmodseq": modseq}
        if self.xconvmodseq:
            columns["xconvmodseq"] = max(self.xconvmodseq, modseq)
        return columns
