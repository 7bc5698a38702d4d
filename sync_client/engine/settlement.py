"""From what `conflict` decides for every UID to the one value that the master carries out. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.master import Fetched, Renumbered, Settlement
from cyrus_sync.common.model import MailboxState
from cyrus_sync.sync_client.engine.compare import mailbox_annotations
from cyrus_sync.sync_client.engine.conflict import Action, Adopt, ExpungeRemote, Renumber, Rewrite


def make_settlement(
    local: MailboxState,
    remote: MailboxState,
    actions: Sequence[Action],
    bodies: Fetched,
) -> Settlement:
    """What the master has to do of `actions`, and its counters."""
    ahead = remote.highestmodseq > local.highestmodseq
    counters = {
        "uidvalidity": remote.uidvalidity,
        "highestmodseq": remote.highestmodseq + 1 if ahead else 0,
        "last_uid": remote.last_uid,
        "foldermodseq": remote.foldermodseq,
        "raclmodseq": remote.raclmodseq,
        "xconvmodseq": remote.xconvmodseq,
    }
    other_notes = mailbox_annotations(local) != mailbox_annotations(remote)
    return Settlement(
        local,
        remote,
        counters=counters,
        adopt=tuple(act.record for act in actions if isinstance(act, Adopt) and act.keep_uid),
        renumber=tuple(
            Renumbered(act.record, isinstance(act, Adopt))
            for act in actions
            if isinstance(act, Renumber) or (isinstance(act, Adopt) and not act.keep_uid)
        ),
        rewrite=tuple(act.record for act in actions if isinstance(act, Rewrite)),
        annotations=remote.annotations if ahead and other_notes else None,
        expunge=tuple(act.uid for act in actions if isinstance(act, ExpungeRemote)),
        bodies=bodies,
    )
