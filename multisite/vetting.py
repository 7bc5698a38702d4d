"""Whether an operation may be carried out: whether it makes sense, and whether its origin may say it.

`read` looks at the operation alone, before the log has it. Whatever is in a packet, what passes `read` makes
no database and no store stumble. `check_right` looks at the family as it is when the operation's turn comes.
An operation that fails is set aside with the reason; its owner waits, and everybody else goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.names import owner_of, root_of
from cyrus_sync.common.protocol.codec import RenameRequest
from cyrus_sync.multisite.errors import BadOperation
from cyrus_sync.multisite.family import Family, Replica, replica_of_text
from cyrus_sync.multisite.oplog.apply_command import ApplyCommand, parse
from cyrus_sync.multisite.oplog.masters import Master
from cyrus_sync.multisite.oplog.operations import CHAIN, FAMILY, SIGNATURE, LogEntry, owner_text
from cyrus_sync.multisite.signing import RETOLD, fault

SPECIAL = frozenset(("MASTER", "REPLICA"))
"""Operations that are about the family and its masters, not about mail."""

_LARGEST = 2**63 - 1
_NUMBER = r"(?:0|[1-9][0-9]{0,18})"
_REPLICA = r"[0-9a-f]{32}"
_ID = re.compile(_REPLICA)
_FORMS: Mapping[str, re.Pattern[str]] = {
    "uniqueid": re.compile(r"[0-9A-Za-z_-]{1,128}"),
    "creator": _ID,
    "reign": re.compile(rf"{_NUMBER}:{_REPLICA}"),
    "settled": re.compile(rf"(?:{_REPLICA}:{_NUMBER}(?:,{_REPLICA}:{_NUMBER})*)?"),
    "base": re.compile(rf"{_NUMBER}:{_NUMBER}"),
    "changed": re.compile(r"[a-z_,]{0,500}"),
    "replica": re.compile(_REPLICA),
    "version": re.compile(_NUMBER),
    CHAIN: re.compile(r"[0-9a-f]{12}:[0-9a-f]{12}"),
    RETOLD: _ID,
    SIGNATURE: re.compile(r"[0-9A-Za-z+/=]{88}"),
}
"""What the attributes that we know look like. Unknown ones pass: they may be those of later releases."""
_LARGE = re.compile(r"(?<![0-9a-f])[0-9]{19}(?![0-9a-f])")
"""A number, and no part of a replica's id, that may be larger than a database holds."""
_NUMBERED = frozenset(("reign", "settled", "base", "version"))
_KINDS = ("user", "shared", "server", "family")


class Said(NamedTuple):
    """What an operation says, read. Just one of the three is there."""

    command: ApplyCommand | None = None
    master: Master | None = None
    replica: Replica | None = None


def read(entry: LogEntry) -> Said:
    """What an operation says. Raises `BadOperation` for anything that no replica could have written."""
    try:
        _check_owner(entry)
        if entry.verb == "REPLICA":
            return Said(replica=replica_of_text(entry.attributes.get("replica", "")))
        _check_attributes(entry)
        if entry.verb == "MASTER":
            return Said(master=_master(entry))
        return Said(command=_command(entry))
    except BadOperation:
        raise
    except (CyrusSyncError, ValueError, ArithmeticError, LookupError, TypeError, RecursionError) as error:
        raise BadOperation(f"{entry.verb or 'it'} cannot be read: {str(error)[:200]}") from None


def _check_owner(entry: LogEntry) -> None:
    owner = entry.owner
    known = owner.kind in _KINDS
    if known and owner.kind in ("user", "shared"):
        try:
            known = owner_of(root_of(owner)) == owner
        except (CyrusSyncError, ValueError):
            known = False
    elif known:
        known = not owner.name
    if not known:
        raise BadOperation(f"no owner is called {owner_text(owner)[:100]!r}")
    if (owner == FAMILY) != (entry.verb == "REPLICA"):
        raise BadOperation(f"{entry.verb} of {owner_text(owner)}")


def _check_attributes(entry: LogEntry) -> None:
    for key, value in entry.attributes.items():
        form = _FORMS.get(key)
        if form is not None and not form.fullmatch(value):
            raise BadOperation(f"its {key} makes no sense: {value[:80]!r}")
        if key in _NUMBERED and any(int(number) > _LARGEST for number in _LARGE.findall(value)):
            raise BadOperation(f"its {key} has a number that is too large")


def _master(entry: LogEntry) -> Master:
    if "version" not in entry.attributes or "replica" not in entry.attributes:
        raise BadOperation("MASTER without a version or a replica")
    return Master(int(entry.attributes["version"]), entry.attributes["replica"])


def _command(entry: LogEntry) -> ApplyCommand:
    said = parse(entry.line)
    uniqueid = entry.attributes.get("uniqueid", "")
    if said.name == "MAILBOX" and said.update.state.uniqueid != uniqueid:
        raise BadOperation(f"MAILBOX of another mailbox than {uniqueid[:40]!r}")
    if said.name in ("MAILBOX", "RENAME", "UNMAILBOX") and not uniqueid:
        raise BadOperation(f"{said.name} without the uniqueid of the mailbox")
    if isinstance(said.argument, RenameRequest):
        owner_of(said.argument.new)
    return said


# -- may its origin say it?


def check_right(
    family: Family, entry: LogEntry, said: Said, before: Master | None, *, founding: bool = False
) -> None:
    """Raises `BadOperation` where the origin of an operation may not say that.

    `before` is the master of the operation's owner until now. `founding`: this replica is being made, and
    reads the family's log from its beginning, where the first replica introduces itself."""
    if founding and said.replica is not None and entry.origin not in family.replicas:
        family = family.with_replica(said.replica)
    wrong = fault(_with_own_keys(family, entry, said.replica), entry)
    if wrong:
        raise BadOperation(wrong)
    if said.master is not None and (rule := _usurped(entry, said.master, before, family)):
        raise BadOperation(rule)
    if said.replica is not None and (rule := _meddled(family, entry, said.replica)):
        raise BadOperation(rule)


def _with_own_keys(family: Family, entry: LogEntry, said: Replica | None) -> Family:
    """The family with the new keys of a replica that tells of them: they sign that very operation."""
    known = family.replicas.get(entry.origin)
    if said is None or known is None or said.id != entry.origin:
        return family
    told, had = said.key_history, known.key_history
    if told is None or had is None or not told.extends(had, family.id, said.id):
        return family
    return family.with_replica(known.with_keys(told))


def _usurped(entry: LogEntry, said: Master, before: Master | None, family: Family) -> str:
    """Why a replica may not say who is master; "" if it may. It has to know the master before: nobody can
    leap ahead and be master for good."""
    if family.has_keys and said.replica not in family.replicas:
        return f"it makes {family.name_of(said.replica)} a master, who is not in the family"
    if before is not None and said.version > before.version + 1:
        return (
            f"it makes {family.name_of(said.replica)} the master number {said.version} after {before.version}"
        )
    return ""


def _meddled(family: Family, entry: LogEntry, said: Replica) -> str:
    """Why a replica may not say this of another; "" if it may. It may say that the other is there, its name
    and host, and that it was removed. Only the other itself says that it was restored, or which keys it
    has."""
    known = family.replicas.get(said.id)
    itself = entry.origin == said.id
    if known is None:
        return (
            ""
            if itself or said.creator == entry.origin or not family.has_keys
            else (f"{family.name_of(entry.origin)} tells of {said.name}, which it has not made")
        )
    if not itself and said.incarnation > known.incarnation:
        return f"{family.name_of(entry.origin)} says that {known.name} was restored"
    if not itself and said.forked > known.forked:
        return f"{family.name_of(entry.origin)} says up to where operations of {known.name} may differ"
    if not itself and (said.inbox, said.inbox_version) != (known.inbox, known.inbox_version):
        return f"{family.name_of(entry.origin)} says what {known.name} has not said of INBOXes"
    if known.removed and not said.removed:
        return f"{known.name} was removed, and is not brought back"
    return ""


def keys_to_believe(family: Family, entry: LogEntry, said: Replica, warn: Callable[[str], None]) -> Replica:
    """What is said of a replica, with those of its keys that are to be believed. `warn` hears of keys that do
    not follow from those known here."""
    known = family.replicas.get(said.id)
    if known is None:
        return said
    told, had = said.key_history, known.key_history
    if told == had or (had is None and entry.origin in (said.id, known.creator)):
        return said
    if had is None:
        return replace(said, keys="", succession="")
    if told is not None and told.extends(had, family.id, said.id):
        return said
    if told is None or not had.extends(told, family.id, said.id):
        warn(
            f"{family.name_of(entry.origin)} tells of keys of {known.name} that do not follow from those that"
            " are known here; they are not taken (multitool chreplica -key, if they are right)"
        )
    return said.with_keys(had)
