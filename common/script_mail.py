"""A user's Sieve scripts out of the records and messages of his ``#sieve`` (the active one is \\Flagged).

Peers without SIEVE-MAILBOX see files: ``NAME.script`` with the SHA-1 of the script and, for the active
one, ``NAME.bc`` besides, without GUID.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cyrus_sync.common.errors import SyncBadSieve
from cyrus_sync.common.model import MailboxState, MessageBody, Record, SieveScript
from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.common.sieve import SIEVE_FOLDER, bytecode_filename, from_message, name_of, script_filename

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


def holds_scripts(state: MailboxState | None) -> bool:
    """False for mail in a folder that is only called ``#sieve``."""
    return state is not None and "f" in state.mbtype


def scripts_in(records: Iterable[Record], bodies: Iterable[MessageBody]) -> dict[str, StoredScript]:
    """The scripts by name, in order of name. Of two with one name the newer counts; a message that is no
    script, or that is missing, is passed over."""
    messages = {body.guid: body for body in bodies}
    found: dict[str, StoredScript] = {}
    for record in records:
        body = messages.get(record.guid)
        if body is None or record.expunged:
            continue
        data = body.data if isinstance(body.data, bytes) else b"".join(body.data)
        try:
            script = from_message(data)
        except SyncBadSieve:
            continue
        found[script.name] = StoredScript(script.name, script.content, record)
    return dict(sorted(found.items()))


def listing(scripts: Mapping[str, StoredScript]) -> list[SieveScript]:
    """The lines of a script list, in order of file name."""
    lines = []
    for script in scripts.values():
        when = script.record.internaldate
        lines.append(SieveScript(script_filename(script.name), when, hashlib.sha1(script.content).digest()))
        if script.active:
            lines.append(SieveScript(bytecode_filename(script.name), when, active=True))
    return lines


def content(scripts: Mapping[str, StoredScript], filename: str) -> bytes | None:
    """The script called ``NAME.script``."""
    name = name_of(filename)
    script = scripts.get(name) if name and filename.endswith(".script") else None
    return script.content if script else None
