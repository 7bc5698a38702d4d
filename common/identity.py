"""When are two records one message, and what becomes of them if they differ? Pure.

A live pair and packets go by the same rules; if they did not, two sites could make two messages of one, or
lose one of two. Under one UID of a mailbox, records with the same GUID are one message, unless both were born
there apart. Under different UIDs a message is known by its *identity*: content, dates and the modseq with
which it was made stay when it gets another UID; a copy that somebody made on purpose has others.
"""

from __future__ import annotations

from collections.abc import Iterable

from cyrus_sync.common.model import Annotation, Record

Identity = tuple[bytes, int, int, int]
"""GUID, internaldate, savedate, createdmodseq."""


def identity(record: Record) -> Identity:
    """What stays of a message when it gets another UID."""
    return record.guid, record.internaldate, record.savedate, record.createdmodseq


def identities(record: Record) -> list[Identity]:
    """The identities that `record` may have had elsewhere, the fullest first: an end that does not know the
    save date, or not even the modseq of its making, tells 0."""
    guid, date, savedate, createdmodseq = identity(record)
    return [(guid, date, savedate, createdmodseq), (guid, date, savedate, 0), (guid, date, 0, 0)]


def is_same(told: Record, other: Record) -> bool:
    """True if `told` may be what became of `other`: a message, and not a message and a copy of it."""
    return identity(other) in identities(told)


def annotation_values(annotations: Iterable[Annotation]) -> list[tuple[str, str, bytes]]:
    """Annotations without their modseqs, which every site counts for itself."""
    return sorted((note.entry, note.userid, note.value) for note in annotations)


def same_flags(one: str, other: str) -> bool:
    """Whether two lists of flag names, as records have them, name the same; neither order nor case counts."""
    return one == other or set(one.lower().split()) == set(other.lower().split())


def same_content(one: Record, other: Record) -> bool:
    """Whether two records of one message say the same of it, modseqs and dates apart."""
    return (
        one.expunged == other.expunged
        and one.thrid == other.thrid
        and same_flags(one.flags, other.flags)
        and (
            one.annotations == other.annotations
            or annotation_values(one.annotations) == annotation_values(other.annotations)
        )
    )


def differs(one: Record, other: Record) -> bool:
    """Whether two records of one message are not the same in everything that replication carries."""
    return (
        one.modseq != other.modseq
        or one.last_updated != other.last_updated
        or one.internaldate != other.internaldate
        or one.savedate != other.savedate
        or one.createdmodseq != other.createdmodseq
        or not same_content(one, other)
    )


def merged(record: Record, other: Record, *, other_wins: bool) -> Record:
    """`record`, after another of the same message was heard of: expunge wins; else, if `other_wins`, flags,
    thread and annotations are the other's."""
    if record.expunged or other.expunged:
        return record._replace(expunged=True)
    if not other_wins:
        return record
    return record._replace(flags=other.flags, thrid=other.thrid, annotations=other.annotations)
