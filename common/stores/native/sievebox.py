"""Reading Sieve scripts out of ``user.X.#sieve``, where each is a message (the active one \\Flagged).

Peers without SIEVE-MAILBOX see files: ``NAME.script`` with the SHA-1 of the script and, for the active
one, ``NAME.bc`` besides, without GUID.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from cyrus_sync.common.errors import SyncBadSieve
from cyrus_sync.common.model import Record, SieveScript
from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.common.sieve import SIEVE_FOLDER, bytecode_filename, from_message, name_of, script_filename
from cyrus_sync.common.stores.mailstore import MailReader

ACTIVE = "\\Flagged"


class StoredScript(NamedTuple):
    """A script with the record that holds it."""

    name: str
    content: bytes
    record: Record

    @property
    def active(self) -> bool:
        return ACTIVE in self.record.flags.split()


def sieve_mailbox(owner: Owner) -> str:
    """The name of the mailbox that holds the user's scripts, "" for an owner that is not a user."""
    return f"{inbox_of(owner.name)}.{SIEVE_FOLDER}" if owner.kind == "user" else ""


def stored_scripts(reader: MailReader) -> dict[str, StoredScript]:
    """The scripts by name, in order of name. Of two with one name the newer counts; a message that is
    no script is passed over, and so is mail in a folder that is only called ``#sieve``."""
    name = sieve_mailbox(reader.owner)
    state = reader.mailbox(name) if name else None
    if state is None or "f" not in state.mbtype:
        return {}
    records = [record for batch in reader.records(state.uniqueid) for record in batch if not record.expunged]
    bodies = {
        body.guid: body for batch in reader.bodies([record.guid for record in records]) for body in batch
    }
    found: dict[str, StoredScript] = {}
    for record in records:
        body = bodies.get(record.guid)
        if body is None:
            continue
        data = body.data if isinstance(body.data, bytes) else b"".join(body.data)
        try:
            script = from_message(data)
        except SyncBadSieve:
            continue
        found[script.name] = StoredScript(script.name, script.content, record)
    return dict(sorted(found.items()))


def listing(reader: MailReader) -> list[SieveScript]:
    """The lines of a script list, in order of file name."""
    lines = []
    for script in stored_scripts(reader).values():
        when = script.record.internaldate
        lines.append(SieveScript(script_filename(script.name), when, hashlib.sha1(script.content).digest()))
        if script.active:
            lines.append(SieveScript(bytecode_filename(script.name), when, active=True))
    return lines


def content(reader: MailReader, filename: str) -> bytes | None:
    """The script called ``NAME.script``."""
    name = name_of(filename)
    script = stored_scripts(reader).get(name) if name and filename.endswith(".script") else None
    return script.content if script else None
