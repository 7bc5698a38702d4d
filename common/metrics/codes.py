"""What a failure is called in a label: one of a bounded set of words, whatever a peer says.

>>> from cyrus_sync.common.errors import ConnectionLost, MailboxLocked
>>> code_of(MailboxLocked()), code_of(ConnectionLost()), code_of(ValueError("user.alice"))
('IMAP_MAILBOX_LOCKED', 'ConnectionLost', 'other')
>>> code_of_reply("NO", "IMAP_SYNC_CHECKSUM Checksum Failure"), code_of_reply("NO", "Mallory was here")
('IMAP_SYNC_CHECKSUM', 'NO')
"""

from __future__ import annotations

from cyrus_sync.common.errors import REPLY_ERRORS, CyrusSyncError, ReplyError

OTHER = "other"


def code_of(error: BaseException) -> str:
    """The protocol's word for it, else the name of our class, else `OTHER`."""
    if isinstance(error, ReplyError):
        return error.code or "NO"
    return type(error).__name__ if isinstance(error, CyrusSyncError) else OTHER


def code_of_reply(status: str, text: str) -> str:
    """The same of a reply as it was read: its code if the protocol has it, else ``NO`` or ``BAD``."""
    if status == "OK":
        return status
    code = text.partition(" ")[0]
    return code if code in REPLY_ERRORS else status if status in ("NO", "BAD") else OTHER
