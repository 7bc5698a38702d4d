"""A digest of all that a replication compares of one user. Two ends with the same digest have nothing to do.

What counts is what `sync_client.engine` looks at: the header of every mailbox with its two CRCs, which stand
for the records, quota limits, subscriptions, and what the user has seen of others' mailboxes. What is each
side's own affair (modseqs of annotations, the last append, usage) is left out. `docs/protocol-extension.md`
has the octets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from cyrus_sync.common.model import MailboxState, Quota, Seen

DIGEST_OCTETS = 16


def user_digest(
    mailboxes: Iterable[MailboxState],
    quotas: Iterable[Quota],
    subscriptions: Iterable[str],
    seen: Iterable[Seen],
) -> bytes:
    """`DIGEST_OCTETS` octets. Tombstones are no mailboxes here; scripts are messages of ``#sieve``."""
    told = [
        sorted(_mailbox(state) for state in mailboxes if not state.tombstone),
        sorted([quota.root, *_limits(quota.limits)] for quota in quotas),
        sorted(subscriptions),
        sorted(
            list(one) for one in ((s.uniqueid, s.lastread, s.lastuid, s.lastchange, s.seenuids) for s in seen)
        ),
    ]
    text = json.dumps(told, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("ascii"), digest_size=DIGEST_OCTETS).digest()


def _mailbox(state: MailboxState) -> list[object]:
    if state.intermediate:
        return [state.uniqueid, state.name, "i", state.foldermodseq]
    return [
        state.uniqueid,
        state.name,
        state.partition,
        state.mbtype.replace("e", "").replace("l", ""),
        "".join(letter for letter in "PSDA" if letter in state.options),
        state.acl,
        state.uidvalidity,
        state.last_uid,
        state.highestmodseq,
        state.foldermodseq,
        state.raclmodseq,
        state.xconvmodseq,
        state.recentuid,
        state.recenttime,
        state.pop3_last_login,
        state.pop3_show_after,
        state.sync_crc,
        state.sync_crc_annot or 0,
        sorted([note.entry, note.userid, note.value.hex()] for note in state.annotations if note.value),
    ]


def _limits(limits: Mapping[str, int]) -> list[list[object]]:
    older = {"ANNOTATION-STORAGE": "X-ANNOTATION-STORAGE", "MAILBOX": "X-NUM-FOLDERS"}
    return sorted([older.get(name, name), limit] for name, limit in limits.items())
