"""Reading Sieve scripts out of ``user.X.#sieve`` of this store."""

from __future__ import annotations

from cyrus_sync.common.script_mail import StoredScript, holds_scripts, scripts_in, sieve_mailbox
from cyrus_sync.common.stores.mailstore import MailReader


def stored_scripts(reader: MailReader) -> dict[str, StoredScript]:
    """The scripts by name, in order of name."""
    name = sieve_mailbox(reader.owner)
    state = reader.mailbox(name) if name else None
    if state is None or not holds_scripts(state):
        return {}
    records = [record for batch in reader.records(state.uniqueid) for record in batch if not record.expunged]
    bodies = (body for batch in reader.bodies([record.guid for record in records]) for body in batch)
    return scripts_in(records, bodies)
