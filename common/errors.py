"""Every error of the project: its text, its word on the wire, its exit status.

Two families matter to a protocol: the peer said NO (`ReplyError`, one class per code of the protocol)
and the peer broke the rules (`ProtocolViolation`). Anything that goes wrong while replicating carries
its address (`at`): user, mailbox, uniqueid, channel, command, reply.

>>> raise MailboxLocked().at(user="alice", mailbox="user.alice")
Traceback (most recent call last):
common.errors.MailboxLocked: Mailbox locked [user=alice mailbox=user.alice]
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Self

EX_OK = 0
EX_FAILURE = 1
EX_USAGE = 64
EX_SOFTWARE = 70
EX_TEMPFAIL = 75
EX_CONFIG = 78
EX_INTERRUPTED = 130


class CyrusSyncError(Exception):
    """Base of all our errors. `exit_status` is what a command ends with that meets it."""

    exit_status: ClassVar[int] = EX_FAILURE
    text: ClassVar[str] = "failed"

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.text)
        self.message = message or self.text
        self.address: dict[str, str] = {}

    def at(self, **address: str | None) -> Self:
        """Add where it happened (user=, mailbox=, uniqueid=, channel=, command=, reply=).

        What is already known stays: the innermost place knows best.
        """
        for key, value in address.items():
            if value:
                self.address.setdefault(key, value)
        return self

    def __str__(self) -> str:
        if not self.address:
            return self.message
        return f"{self.message} [{' '.join(f'{k}={v}' for k, v in self.address.items())}]"


class UsageError(CyrusSyncError):
    """The command line makes no sense."""

    exit_status = EX_USAGE
    text = "usage error"


class ConfigError(CyrusSyncError):
    """A key of imapd.conf that we read has a bad value. The message begins ``file:line: ``."""

    exit_status = EX_CONFIG
    text = "bad configuration"


class StoreError(CyrusSyncError):
    """The mail store cannot do what was asked (disk full, damage, I/O error)."""

    exit_status = EX_TEMPFAIL
    text = "mail store error"


class ReplicaOnly(StoreError):
    """The store is a replica, or is being drained: nobody but replication may change it. What was to be
    delivered may be tried again, at the master or when this has become it."""

    text = "this mail store is a replica"

    def __init__(self, reason: str = "") -> None:
        super().__init__(f"the mail store takes no changes: {reason}" if reason else "")


class StoreCorrupt(StoreError):
    """What is stored does not agree with itself, until an administrator has repaired it. Whoever delivers
    through us must try again then (an MTA bounces what ends with EX_SOFTWARE)."""

    text = "mail store damaged"


class NotRemembered(StoreError):
    """A time is asked for of which the store does not know what was then."""

    exit_status = EX_FAILURE
    text = "what was at that time is not known"

    def __init__(self, since: int = 0, *, reason: str = "") -> None:
        """`since`: the first second that is known (Unix seconds), unless another `reason` is given."""
        begin = datetime.fromtimestamp(since).astimezone().isoformat(" ")
        super().__init__(f"{self.text}: {reason or f'the history begins at {begin}'}")


class SnapshotLost(StoreError):
    """A mailbox was changed while it was read, and cannot be shown as it was at one moment. Whoever reads it
    begins anew."""

    text = "the mailbox was changed while it was read"


class ObjectsUnavailable(StoreError):
    """An object store does not answer, or not to us. Nothing is known to be lost; it may answer later. The
    message names the store, the bucket and the key."""

    text = "the object store cannot be reached"


class ObjectMissing(StoreError):
    """An object store has no object of that name."""

    text = "no such object"


class ObjectDamaged(StoreError):
    """What an object store gave back is not what was put there."""

    text = "an object is damaged"


class MessageUnavailable(StoreError):
    """A message is in an object store that does not answer. It is not lost, nor known to be damaged: who asks
    later gets it. guid= is in the address."""

    text = "the message is unavailable for now"


class SettlementRefused(CyrusSyncError):
    """Both sides of a replication changed a mailbox, and the master takes no changes from us: nothing was
    done. The message says what differs and what to do."""

    text = "the mailbox cannot be changed on this side"


class PeerError(CyrusSyncError):
    """Anything that the other end of a connection did or failed to do."""

    explained: bool = False
    """What made the other end do so is known, and the next try leaves it out."""

    exit_status = EX_FAILURE
    text = "replication peer failed"


class CannotConnect(PeerError):
    """No connection: refused, timed out, no route, or the greeting never came."""

    text = "Can not connect to server"


class AuthenticationFailed(CannotConnect):
    """The server refused our credentials, or offers no mechanism that we may use."""

    text = "authentication failed"


class TLSFailed(CannotConnect):
    """The TLS handshake failed, or the certificate did not verify."""

    text = "TLS negotiation failed"


class CompressionRefused(CannotConnect):
    """``-z``/sync_compress demanded compression and the server does not have it."""

    text = "Failed to enable compression"


class ConnectionLost(PeerError):
    """The connection ended in the middle of a conversation, or a read timed out."""

    text = "connection lost"


class QuietLogout(PeerError):
    """The server said BYE: it is shutting down and has lost nothing."""

    text = "server is shutting down"


class ProtocolViolation(PeerError):
    """The peer sent what the protocol does not allow."""

    text = "received bad response"


class ReplyError(PeerError):
    """The server's NO. `code` is the protocol's word for it, "" for a refusal without one."""

    code: ClassVar[str] = ""
    text = "Unknown error"

    @property
    def reply(self) -> str:
        """What follows ``NO `` on the wire (reference 1.8: one space after the code)."""
        return f"{self.code} {self.message}" if self.code else self.message


class RemoteDenied(ReplyError):
    """A NO without a code that we know."""


class UnknownFailure(ReplyError):
    """A refusal for which the protocol has no code. A real server says ``NO Unknown error`` and logs why;
    here its message stands behind the NO, so that the master's administrator reads it. A client takes every
    text that begins with none of the codes for "remote denied"."""


class PartitionUnknown(ReplyError):
    """A partition that is not configured. (A real server ends its connection over it.)"""

    code = "IMAP_PARTITION_UNKNOWN"
    text = "Unknown/invalid partition"


class InvalidUser(ReplyError):
    code = "IMAP_INVALID_USER"
    text = "No Such User"


class MailboxNonexistent(ReplyError):
    code = "IMAP_MAILBOX_NONEXISTENT"
    text = "No Such Mailbox"


class MailboxLocked(ReplyError):
    """Somebody else works on the owner. Whoever delivers through us must try again, not bounce."""

    exit_status = EX_TEMPFAIL
    code = "IMAP_MAILBOX_LOCKED"
    text = "Mailbox locked"


class MailboxMoved(ReplyError):
    code = "IMAP_MAILBOX_MOVED"
    text = "Mailbox exists with another name or uniqueid"


class MailboxNotSupported(ReplyError):
    code = "IMAP_MAILBOX_NOTSUPPORTED"
    text = "Operation is not supported on mailbox"


class SyncChecksum(ReplyError):
    code = "IMAP_SYNC_CHECKSUM"
    text = "Checksum Failure"


class SyncChanged(ReplyError):
    code = "IMAP_SYNC_CHANGED"
    text = "Changed since last sync"


class SyncBadSieve(ReplyError):
    code = "IMAP_SYNC_BADSIEVE"
    text = "Sieve script compilation failure"


class ProtocolError(ReplyError):
    code = "IMAP_PROTOCOL_ERROR"
    text = "Protocol error"


class BadParameters(ReplyError):
    """A required key is missing or of the wrong type.

    A real server's reply ends after the code and its trailing space.
    """

    code = "IMAP_PROTOCOL_BAD_PARAMETERS"
    text = ""

    @property
    def reply(self) -> str:
        return f"{self.code} "


class PermissionDenied(ReplyError):
    code = "IMAP_PERMISSION_DENIED"
    text = "Permission denied"


REPLY_ERRORS: dict[str, type[ReplyError]] = {cls.code: cls for cls in ReplyError.__subclasses__() if cls.code}
"""Reply class by code."""


def reply_error(rest: str) -> ReplyError:
    """The error that the text after ``NO `` stands for."""
    code, _, text = rest.partition(" ")
    cls = REPLY_ERRORS.get(code)
    return cls(text) if cls else RemoteDenied(rest)
