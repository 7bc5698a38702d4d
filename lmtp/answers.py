"""What is answered: a code of SMTP with an enhanced one (RFC 3463), in the words of Cyrus's lmtpd."""

from __future__ import annotations

from typing import NamedTuple

from cyrus_sync.common.errors import (
    CyrusSyncError,
    MailboxNonexistent,
    PermissionDenied,
    ProtocolError,
    ReplicaOnly,
    UnknownFailure,
)
from cyrus_sync.common.names import BadName


class Answer(NamedTuple):
    """`code` three digits; `text` may have several lines."""

    code: int
    status: str
    text: str

    @property
    def good(self) -> bool:
        return self.code < 300

    @property
    def result(self) -> str:
        """For figures: ``delivered``, ``tempfail`` or ``refused``."""
        return "delivered" if self.good else "tempfail" if self.code < 500 else "refused"

    def octets(self) -> bytes:
        """As it is sent."""
        *before, last = self.text.split("\n")
        lines = [f"{self.code}-{line}" for line in before]
        lines.append(f"{self.code} {self.status + ' ' if self.status else ''}{last}")
        return "".join(f"{line}\r\n" for line in lines).encode("ascii", "replace")


class Refused(Exception):
    """A command, a message or a delivery is not taken; `answer` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.text)
        self.answer = answer


OK = Answer(250, "2.0.0", "ok")
SENDER_OK = Answer(250, "2.1.0", "ok")
RECIPIENT_OK = Answer(250, "2.1.5", "ok")
GO_AHEAD = Answer(354, "", "go ahead")
BYE = Answer(221, "2.0.0", "bye")
TRY_RCPT = Answer(252, "2.3.3", "try RCPT to attempt delivery")
IDLE = Answer(421, "4.4.1", "bye idle for too long")
STOPPING = Answer(421, "4.3.2", "the server is shutting down")
CROWDED = Answer(421, "4.3.2", "too many connections")
CONFUSED = Answer(421, "4.7.0", "too many errors")

SYNTAX = Answer(500, "5.5.2", "Syntax error")
TOO_LONG = Answer(500, "5.5.2", "Line too long")
CANCELLED = Answer(501, "5.7.0", "Authentication cancelled")
BAD_PATH = Answer(501, "5.5.4", "Syntax error in parameters")
BAD_PARAMETER = Answer(501, "5.5.4", "Unrecognized parameters")
BAD_PART = Answer(501, "5.5.4", "BDAT wants a number of octets, and LAST or nothing")
BAD_BODY = Answer(501, "5.5.4", "Unrecognized BODY type")
BAD_SIZE = Answer(501, "5.5.2", "SIZE requires a value")
NESTED = Answer(503, "5.5.1", "Nested MAIL command")
NEED_MAIL = Answer(503, "5.5.1", "Need MAIL command")
NO_RECIPIENTS = Answer(503, "5.5.1", "No recipients")
NOT_NOW = Answer(503, "5.5.0", "not permitted now")
MANY_RECIPIENTS = Answer(452, "4.5.3", "too many recipients")

UNKNOWN = Answer(
    550,
    "5.1.1",
    "Mailbox unknown.  Either there is no mailbox associated with this\n"
    "name or you do not have authorization to see it.\nUser unknown",
)
NOT_PERMITTED = Answer(
    550,
    "5.7.1",
    "You do not have permission to post a message to this mailbox.\nPermission denied",
)
FULL = Answer(452, "4.2.2", "Over quota")
FULL_FOR_GOOD = Answer(552, "5.2.2", "Over quota")
INTERNAL = Answer(451, "4.3.0", "internal error")
NO_MAIL_MAILBOX = Answer(451, "4.2.0", "Operation is not supported on mailbox")

HAS_NUL = Answer(554, "5.6.0", "Message contains NUL characters")
HAS_8BIT = Answer(554, "5.6.0", "Message contains non-ASCII characters in headers")
BAD_HEADER = Answer(554, "5.6.0", "Message contains invalid header")


def part_taken(octets: int) -> Answer:
    """A part of a message is here, and others come."""
    return Answer(250, "2.0.0", f"{octets} octets received")


def too_large(size: int, most: int) -> Answer:
    return Answer(552, "5.2.3", f"Message size ({size}) exceeds fixed maximum message size ({most})")


def announced_too_large(most: int) -> Answer:
    return Answer(552, "5.2.3", f"Message SIZE exceeds fixed maximum message size ({most})")


def takes_nothing(reason: str) -> Answer:
    """The store is a replica, or is being drained."""
    return Answer(451, "4.3.2", printable(f"this mail store takes no changes now: {reason}"))


def of_error(error: BaseException) -> Answer:
    """What a recipient is answered whose delivery failed with `error`. What somebody can put right here (a
    full disk, a lock, damage) is to be tried again, and so is what nobody has foreseen."""
    if isinstance(error, MailboxNonexistent | BadName):
        return UNKNOWN
    if isinstance(error, PermissionDenied):
        return NOT_PERMITTED
    if isinstance(error, ReplicaOnly):
        return Answer(451, "4.3.2", printable(error.message))
    if isinstance(error, ProtocolError | UnknownFailure):
        return Answer(554, "5.6.0", printable(error.message))
    if isinstance(error, CyrusSyncError):
        return Answer(451, "4.3.0", printable(error.message))
    return INTERNAL


def not_made(error: CyrusSyncError) -> Answer:
    """What a recipient is answered who could not be made with the message: whatever the reason is, it is none
    of the message's."""
    return Answer(451, "4.3.0", printable(f"the user cannot be made: {error.message}"))


def printable(text: str) -> str:
    """One line of ASCII, not longer than an answer may be (RFC 5321, 4.5.3.1.5)."""
    one_line = " ".join(text.split())
    return "".join(letter if " " <= letter <= "~" else "?" for letter in one_line)[:450]
