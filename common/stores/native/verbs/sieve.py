"""Changing Sieve scripts: both for local users and for peers that speak of script files.

Both act on the mailbox ``user.X.#sieve`` (type ``f``), which comes into being with the first script. A
replica that is told of scripts by command owns that mailbox: its counters move as for a local change.
"""

from __future__ import annotations

import hashlib

from cyrus_sync.common.errors import InvalidUser, MailboxNonexistent, UnknownFailure
from cyrus_sync.common.model import MessageBody, Record
from cyrus_sync.common.script_mail import ACTIVE, StoredScript, sieve_mailbox
from cyrus_sync.common.sieve import check_name, check_syntax, name_of, to_message
from cyrus_sync.common.stores.native.flags import changed_flags
from cyrus_sync.common.stores.native.intake import store_bodies
from cyrus_sync.common.stores.native.rows import Box
from cyrus_sync.common.stores.native.sievebox import stored_scripts
from cyrus_sync.common.stores.native.tables.boxes import find_box, find_inbox, get_box, set_columns
from cyrus_sync.common.stores.native.tables.counters import next_modseq
from cyrus_sync.common.stores.native.tables.records import insert_records, update_records
from cyrus_sync.common.stores.native.tables.tally import Tally
from cyrus_sync.common.stores.native.transaction import Transaction
from cyrus_sync.common.stores.native.verbs.folders import NewBox, create, create_box

# -- local


def put_script(transaction: Transaction, name: str, content: bytes) -> None:
    """Store a script under a name, in the place of the one that has it. Raises `BadName`, `SyncBadSieve`;
    `InvalidUser` where there is no INBOX."""
    _put(transaction, check_name(name), content, transaction.around.now(), chained=False)


def activate_script(transaction: Transaction, name: str | None) -> None:
    """Make a script the active one, or none (None). Raises `MailboxNonexistent` for one that is not there."""
    _activate(transaction, name, chained=False)


def delete_script(transaction: Transaction, name: str) -> None:
    """Delete a script. Raises `MailboxNonexistent` for one that is not there."""
    if not _delete(transaction, name, chained=False):
        raise MailboxNonexistent(f"no script {name!r}")


# -- by command of a master


def apply_sieve(transaction: Transaction, filename: str, last_update: int, content: bytes) -> None:
    """Names that do not end in ``.script`` are accepted and ignored, as a real server does."""
    name = name_of(filename)
    if name is None or not filename.endswith(".script"):
        return
    _put(transaction, check_name(name), content, last_update, chained=True)


def apply_unsieve(transaction: Transaction, filename: str) -> None:
    """Delete ``NAME.script``; for ``NAME.bc`` of the active script, make none active."""
    name = name_of(filename)
    if name is None:
        return
    script = stored_scripts(transaction.reader).get(name)
    if filename.endswith(".script"):
        _delete(transaction, name, chained=True)
    elif script is not None and script.active:
        # A 3.6 client whose user has switched the script off says only UNSIEVE X.bc, again at every
        # run, and never UNACTIVATE_SIEVE: a real replica goes on sorting by a script that is off.
        _activate(transaction, None, chained=True)


def apply_active_sieve(transaction: Transaction, filename: str | None) -> None:
    """Make ``NAME.bc`` the active one, or none (None). Raises `MailboxNonexistent`."""
    _activate(transaction, None if filename is None else name_of(filename) or filename, chained=True)


# -- both


def _put(transaction: Transaction, name: str, content: bytes, when: int, *, chained: bool) -> None:
    check_syntax(content)
    box = _sieve_box(transaction, chained)
    old = stored_scripts(transaction.reader).get(name)
    if old and old.content == content and old.record.internaldate == when:
        return
    message = to_message(
        name, content, userid=transaction.owner.name, servername=transaction.around.servername, when=when
    )
    guid = hashlib.sha1(message).digest()
    store_bodies(transaction, [MessageBody("", guid, len(message), message)])
    modseq, now = next_modseq(transaction), transaction.around.now()
    uid = box.state.last_uid + 1
    flags = ACTIVE if old and old.active else ""
    new = Record(uid, modseq, now, flags, False, when, len(message), guid, 0, now, modseq)
    tally = Tally(box)
    insert_records(transaction, box.id, tally, [new], stored={guid})
    if old:
        gone = old.record._replace(expunged=True, modseq=modseq, last_updated=now)
        update_records(transaction, box.id, tally, [old.record], [gone])
    set_columns(transaction, box.id, **tally.columns_at(modseq), last_uid=uid, last_appenddate=now)
    transaction.log("APPEND", box.state.name, chained=chained)
    transaction.log("MAILBOX", box.state.name, chained=chained)


def _sieve_box(transaction: Transaction, chained: bool) -> Box:
    name = sieve_mailbox(transaction.owner)
    box = find_box(transaction, name) if name else None
    if box and "f" not in box.state.mbtype and not box.state.intermediate:
        raise UnknownFailure("there is a mail folder where scripts are to be").at(mailbox=name)
    if box and not box.state.intermediate:
        return box
    if find_inbox(transaction) is None:
        raise InvalidUser().at(user=str(transaction.owner))
    if not chained:
        create(transaction, name, mbtype="f")
        return get_box(transaction, name)
    return create_box(transaction, name, NewBox(mbtype="f"))


def _activate(transaction: Transaction, name: str | None, *, chained: bool) -> None:
    scripts = stored_scripts(transaction.reader)
    if name is not None and name not in scripts:
        raise MailboxNonexistent(f"no script {name!r}").at(user=str(transaction.owner))
    changes = []
    for script in scripts.values():
        active = script.name == name
        if active != script.active:
            flags = changed_flags(script.record.flags, [ACTIVE] if active else (), () if active else [ACTIVE])
            changes.append((script.record, script.record._replace(flags=flags)))
    _change_scripts(transaction, changes, chained=chained)


def _delete(transaction: Transaction, name: str, *, chained: bool) -> bool:
    script: StoredScript | None = stored_scripts(transaction.reader).get(name)
    if script is None:
        return False
    gone = script.record._replace(expunged=True, flags=changed_flags(script.record.flags, (), [ACTIVE]))
    _change_scripts(transaction, [(script.record, gone)], chained=chained)
    return True


def _change_scripts(transaction: Transaction, changes: list[tuple[Record, Record]], *, chained: bool) -> None:
    if not changes:
        return
    box = get_box(transaction, sieve_mailbox(transaction.owner))
    modseq, now = next_modseq(transaction), transaction.around.now()
    tally = Tally(box)
    new = [record._replace(modseq=modseq, last_updated=now) for _, record in changes]
    update_records(transaction, box.id, tally, [was for was, _ in changes], new)
    set_columns(transaction, box.id, **tally.columns_at(modseq))
    transaction.log("MAILBOX", box.state.name, chained=chained)
