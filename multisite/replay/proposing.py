"""What others have and a new master lacks is proposed to it.

A new master tells all that it has of an owner. Where the last master has not handed over to it, others may
have something of which it never says a word: it was restored from a backup, or took over without asking. So
it ends with a list of what it has (`HAS`, of one more operation that says who is master). Whoever has more
tells that as unknown, and the master arbitrates it. It tells first what was deleted (`deletions`), so nothing
comes back of whose deletion it knows.

Who is not the master, and has lost something with a restore, says likewise what it has: the master tells it
the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.errors import BadOperation
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.masters import Base, Master
from cyrus_sync.multisite.oplog.operations import LogEntry
from cyrus_sync.multisite.oplog.shadows import TOLD_ITEMS
from cyrus_sync.multisite.replay.context import ReplayContext

HAS = "has"
"""The attribute: a JSON object, ``mailbox`` -> uniqueids, and each kind of `TOLD_ITEMS` -> keys."""

_MAILBOX = "mailbox"


def tell_what_is_here(log: Log, owner: Owner, here: str) -> None:
    """End what this replica tells as the new master of an owner, or begin what it tells to the master.
    `here` is what `what_is_here` or `mailboxes_here` gave."""
    master = log.masters.of(owner)
    assert master is not None
    log.proclaim(owner, master, {HAS: here})


def what_is_here(context: ReplayContext, owner: Owner) -> str:
    """The value of `HAS` for what the log tells of an owner now and the store has: a mailbox that went with a
    restore has left no trace there."""
    log = context.log
    items = {kind: [key for key, _ in log.shadows.items(owner, kind)] for kind in TOLD_ITEMS}
    return _text({_MAILBOX: _mailboxes(context, owner), **items})


def mailboxes_here(context: ReplayContext, owner: Owner) -> str:
    """The same without anything but mailboxes: whether the store has what the log tells besides is not
    known."""
    return _text({_MAILBOX: _mailboxes(context, owner)})


def _mailboxes(context: ReplayContext, owner: Owner) -> list[str]:
    told = [state.uniqueid for state in context.log.shadows.at_home(owner)]
    return [uniqueid for uniqueid in told if context.batch.store.owner_of_uniqueid(uniqueid) is not None]


def _text(has: Mapping[str, list[str]]) -> str:
    return json.dumps({kind: keys for kind, keys in has.items() if keys}, separators=(",", ":"))


def propose(context: ReplayContext, entry: LogEntry, said: Master) -> None:
    """Have told as unknown what is here and not with the master, who has said what he has; or, if the master
    is here, what somebody lacks who has lost it. Raises `BadOperation`."""
    log, owner = context.log, entry.owner
    if HAS not in entry.attributes or entry.origin == log.self_id:
        return
    if log.self_id != said.replica != entry.origin:
        return  # it is for the master
    has = _read(entry.attributes[HAS])
    for state in log.shadows.at_home(owner):
        if state.uniqueid not in has.get(_MAILBOX, ()):
            log.shadows.drop(state.uniqueid)
            if said.replica != log.self_id:
                log.masters.put_base(state.uniqueid, Base())
    for kind in TOLD_ITEMS:
        for key, _ in log.shadows.items(owner, kind):
            if key not in has.get(kind, ()):
                log.shadows.drop_item(owner, kind, key)
    context.to_capture.update(log.places(owner))
    context.to_capture.add(owner)


def _read(text: str) -> dict[str, set[str]]:
    try:
        return {str(kind): {str(key) for key in keys} for kind, keys in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError):
        raise BadOperation(f"what its master has makes no sense: {text[:80]!r}") from None
