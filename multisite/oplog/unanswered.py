"""What waits for masters: operations on which the word of an owner's master has not been heard yet.

They are in the log and are passed on; what they say is seen at the site that made them only, until the master
has answered. Nobody can tell from a packet that was applied that its mail is still waiting.
"""

from __future__ import annotations

from typing import NamedTuple

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.operations import owner_from, owner_text


class Unanswered(NamedTuple):
    """So many `operations` on an owner wait for the replica `master` (id), the oldest `since` then (Unix
    seconds)."""

    owner: Owner
    master: str
    operations: int
    since: int


_COUNT = """
    SELECT o.owner, m.replica, count(*), min(o.time) FROM operations o
    JOIN masters m ON m.owner = o.owner
    LEFT JOIN settled s ON s.owner = o.owner AND s.origin = o.origin
    WHERE o.origin <> m.replica AND o.id > coalesce(s.id, 0) AND o.state <> 3
      AND instr(o.attributes, '"reign"')
      AND NOT (instr(o.attributes, '"settled"')
               AND CAST(json_extract(o.attributes, '$.reign') AS INTEGER) < m.version)
      AND (m.replica <> :self OR :sealed) AND (:owner = '' OR o.owner = :owner)
    GROUP BY o.owner ORDER BY min(o.time), o.owner
"""
"""An operation that says who is master has no reign: it is nobody's to answer. Nor is what a master said
before it handed over: the next one goes on from there."""


def unanswered(log: Log, owner: Owner | None = None, *, sealed: bool = False) -> list[Unanswered]:
    """All of them, or those on one owner; the oldest first. What waits for this replica itself is left out,
    unless it is sealed: then nobody is answered here."""
    values = {
        "self": log.self_id,
        "sealed": sealed,
        "owner": owner_text(owner) if owner is not None else "",
    }
    rows = log.db.execute(_COUNT, values).fetchall()
    return [Unanswered(owner_from(text), master, count, since) for text, master, count, since in rows]
