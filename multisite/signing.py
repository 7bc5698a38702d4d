"""What a replica signs of each operation, so that nobody who passes it on can change it or make one up.

    cyrus-sync operation 1 / family / origin / number / time / owner / attributes (JSON) / SHA-256 of the line

A replica that passes an operation on may have to tell it anew: messages that were cleaned up since are told
as expunged. Then that replica signs the operation itself (`RETOLD` names it). This is allowed for MAILBOX
only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace

from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.oplog.operations import SIGNATURE, LogEntry, owner_text
from cyrus_sync.multisite.packet.keys import SIGNATURE_BYTES, PublicKeys, SecretKeys, decode64, encode64
from cyrus_sync.multisite.packet.restores import Restore

RETOLD = "retold"
"""The attribute that names the replica by whom an operation was told anew."""


def statement(family: str, entry: LogEntry) -> bytes:
    """The octets that are signed: the words above, a line each."""
    attributes = {key: value for key, value in entry.attributes.items() if key != SIGNATURE}
    words = (
        "cyrus-sync operation 1",
        family,
        entry.origin,
        str(entry.id),
        str(entry.time),
        owner_text(entry.owner),
        json.dumps(attributes, sort_keys=True, separators=(",", ":")),
        hashlib.sha256(entry.line).hexdigest(),
    )
    return "\n".join(words).encode("utf-8", "surrogatepass")


def sign(family: str, entry: LogEntry, secret: SecretKeys) -> str:
    """The signature with `secret`, as it stands in the attributes: base64."""
    return encode64(secret.sign(statement(family, entry)))


def retell(family: str, entry: LogEntry, teller: str, secret: SecretKeys) -> LogEntry:
    """The operation of another replica, which was changed on its way, signed by the replica `teller` (id)."""
    told = replace(entry, attributes={**entry.attributes, RETOLD: teller})
    return replace(told, attributes={**told.attributes, SIGNATURE: sign(family, told, secret)})


def fault(family: Family, entry: LogEntry) -> str:
    """Why it is not believed that an operation was said by its origin; "" if it is."""
    teller = entry.attributes.get(RETOLD, entry.origin)
    if teller != entry.origin and entry.verb != "MAILBOX":
        return f"{entry.verb} was told anew by {family.name_of(teller)}"
    origin = family.replicas.get(entry.origin)
    if origin is None:
        return f"{entry.origin}, who said it, is not known here" if family.has_keys else ""
    if not origin.signed or entry.id < origin.signed:
        return ""
    signer = family.replicas.get(teller)
    history = signer.key_history if signer else None
    if history is None:
        return f"the keys of {family.name_of(teller)} are not known here"
    # It was told anew with the teller's keys of some day; which day that was is not known.
    keys = [link.keys for link in history.links] if RETOLD in entry.attributes else [history.at(entry.id)]
    if not _is_signed(keys, statement(family.id, entry), entry.attributes.get(SIGNATURE, "")):
        return f"it is not signed by {family.name_of(teller)}"
    return ""


# -- restores


def _restore_statement(family: str, replica: str, restore: Restore) -> bytes:
    said = (restore.incarnation, dict(restore.row), dict(restore.trail), dict(restore.taken))
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return "\n".join(("cyrus-sync restore 1", family, replica, text)).encode()


def sign_restore(family: str, replica: str, restore: Restore, secret: SecretKeys) -> Restore:
    """What this replica (id) has after it was restored, signed, so that others can pass it on."""
    said = secret.sign(_restore_statement(family, replica, restore))
    return restore._replace(signature=encode64(said))


def is_restore_believed(family: Family, replica: str, restore: Restore) -> bool:
    """Whether a replica (id) has said itself that it was restored: it is signed with its keys. Of a replica
    that has none, others are believed."""
    known = family.replicas.get(replica)
    history = known.key_history if known else None
    if history is None:
        return known is not None and not known.signed
    return _is_signed([history.current], _restore_statement(family.id, replica, restore), restore.signature)


def _is_signed(keys: Iterable[PublicKeys], said: bytes, text: str) -> bool:
    try:
        signature = decode64(text, SIGNATURE_BYTES)
    except ValueError:
        return False
    return any(one.verifies(said, signature) for one in keys)
