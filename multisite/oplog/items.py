"""What an operation on metadata does to the shadow, whether it was recorded here or came from the master."""

from __future__ import annotations

import hashlib
from typing import Any

from cyrus_sync.common.model import MailboxAnnotation, Quota, Seen
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.protocol.codec import SieveFile, SieveUpload, Subscription
from cyrus_sync.multisite.oplog.shadows import Shadows, remember_annotation


def script_digest(content: bytes) -> str:
    """The hexadecimal SHA-1 of a script, by which the shadow knows it and GET META tells it."""
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def remember(shadows: Shadows, owner: Owner, name: str, argument: Any) -> None:
    """Note in the shadow what the log says now: the verb `name` with the argument that its command
    decodes."""
    if name in ("QUOTA", "UNQUOTA"):
        _quota(shadows, owner, argument)
    elif name in ("SUB", "UNSUB"):
        _subscription(shadows, owner, argument, name == "SUB")
    elif name == "SEEN":
        seen: Seen = argument[1]
        shadows.put_seen(owner, seen)
    elif name in ("ANNOTATION", "UNANNOTATION"):
        _annotation(shadows, argument, name == "ANNOTATION")
    elif name == "UNUSER":
        shadows.drop_items(owner)
    else:
        _sieve(shadows, owner, name, argument)


def _quota(shadows: Shadows, owner: Owner, argument: Quota | str) -> None:
    if isinstance(argument, Quota):
        shadows.put_quota(owner, argument)
    else:
        shadows.drop_item(owner, "quota", argument)


def _subscription(shadows: Shadows, owner: Owner, argument: Subscription, subscribed: bool) -> None:
    if subscribed:
        shadows.put_item(owner, "sub", argument.mailbox, True)
    else:
        shadows.drop_item(owner, "sub", argument.mailbox)


def _annotation(shadows: Shadows, note: MailboxAnnotation, there: bool) -> None:
    if note.mailbox:
        remember_annotation(shadows, note.mailbox, note.entry, note.userid, note.value if there else None)
    elif there:
        shadows.put_annotation(SERVER, note)
    else:
        shadows.drop_item(SERVER, "annotation", f"{note.entry}\n{note.userid}")


def _sieve(shadows: Shadows, owner: Owner, name: str, argument: SieveUpload | SieveFile | str) -> None:
    match name, argument:
        case "SIEVE", SieveUpload(_, filename, updated, content):
            shadows.put_item(owner, "sieve", filename, [updated, script_digest(content)])
        case "UNSIEVE", SieveFile(_, filename):
            shadows.drop_item(owner, "sieve", filename)
            if filename.removesuffix(".script") + ".bc" == shadows.item(owner, "active", "sieve"):
                shadows.drop_item(owner, "active", "sieve")
        case "ACTIVATE_SIEVE", SieveFile(_, filename):
            shadows.put_item(owner, "active", "sieve", filename)
        case "UNACTIVATE_SIEVE", _:
            shadows.drop_item(owner, "active", "sieve")
