"""Forgetting of which messages everybody has (`multisite.oplog.given`), once nobody here has them any more.

The table knows messages by marks that do not tell whose they are. So it is compared with the whole store; not
each time the log is trimmed, but when it has grown to twice what was left the last time. It never holds more
than twice the messages that there were, and `FREE` more.
"""

from __future__ import annotations

from collections.abc import Iterator

from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.given import Given, mark_of
from cyrus_sync.multisite.oplog.operations import owner_text

FREE = 100_000
"""Marks for which the store is not read."""

_LEFT = "given left"


def forget_given(member: Member) -> int:
    """Forget the messages that are not in the store any more, if there are many to look through; how many.
    Raises what the store raises; then none is forgotten. To be called in a transaction of the log."""
    log, given = member.log, Given(member.log.db)
    if given.count() <= FREE + 2 * log.notes.get(_LEFT, 0):
        return 0
    gone = given.keep(_stored(member))
    log.notes.put(_LEFT, given.count())
    return gone


def _stored(member: Member) -> Iterator[set[int]]:
    """The marks of all messages in the store: of who has them, and of the home of their mailbox."""
    for owner in member.store.owners():
        with member.store.read(owner) as reader:
            for state in reader.mailboxes():
                homes = {owner_text(one) for one in (owner, member.log.home(state.uniqueid, state.name))}
                for batch in reader.records(state.uniqueid):
                    yield {mark_of(home, record.guid) for home in homes for record in batch}
