"""Every answer of the session layer, in the words of a Cyrus 3.6 server. Handlers' errors word themselves
(`common.errors.ReplyError.reply`). `common.wire.replies` has those of a SASL exchange. One table, so that
tests can name each answer.

`X` in Cyrus's own texts is the command with a capital letter: ``Missing required argument to Compress``.
"""

from __future__ import annotations

from cyrus_sync.common.protocol import connection_server

SUCCESS = b"OK success"
NOOP = b"OK Noop completed"
RESTARTING = b"OK Restarting"
FINISHED = b"OK Finished"
DEFLATE_ACTIVE = b"OK DEFLATE active"
BEGIN_TLS = b"OK Begin TLS negotiation now"

NULL_COMMAND = b"BAD Null command"
UNRECOGNIZED = b"BAD IMAP_PROTOCOL_ERROR Unrecognized command"
UNKNOWN_NAME = b"NO IMAP_PROTOCOL_ERROR Protocol error"
LOGIN_FIRST, unparsable = connection_server.LOGIN_FIRST, connection_server.unparsable
"""Said by the grammar."""
PERMISSION_DENIED = b"NO Permission denied"
UNKNOWN_ERROR = b"NO Unknown error"
"""Where nothing better can be said."""

INVALID_MECHANISM = b"BAD Invalid mechanism"
TOO_MANY_ATTEMPTS = b"NO too many failed logins, try again later"
ALREADY_AUTHENTICATED = b"BAD Already authenticated"

TLS_AFTER_LOGIN = b"BAD Can't Starttls after authentication"
TLS_TWICE = b"BAD Already did a successful Starttls"
TLS_AFTER_COMPRESS = b"BAD Can't Starttls after Compress"

COMPRESSED_ALREADY = b"NO Compression already active: DEFLATE"

IN_DOUBT = b"* Fatal error: message does not match its GUID, cannot tell content from commands"

LONGEST_REASON = 400
"""Octets of a reason behind NO: a real client logs the line as it is."""

SHUTTING_DOWN = b"BYE shutting down"


def bye(why: str) -> bytes:
    """The end of a connection that nobody has logged in on; in place of the greeting too. A real client
    takes it for a server without a mechanism, ours says why."""
    return b"* BYE " + why.encode("ascii", "replace") + b", try again later"


def missing_argument(verb: str) -> bytes:
    return b"BAD Missing required argument to " + _cyrus_word(verb)


def extra_arguments(verb: str) -> bytes:
    return b"BAD Unexpected extra arguments to " + _cyrus_word(verb)


def unknown_compression(algorithm: bytes) -> bytes:
    return b"NO Unknown compression algorithm: " + algorithm


def not_imap(tag: bytes) -> bytes:
    """To a client that takes this for an IMAP port: a tagged answer ends its waiting at once."""
    return tag + b" BAD this is csync"


def fatal(text: str) -> bytes:
    return b"* Fatal error: " + text.encode("ascii", "replace")


def refusal(reason: str) -> bytes:
    """NO with the reason why the replica cannot do it, in place of a code. Whoever replicates to us is an
    administrator, so paths may be named. Text that would read as a code is not let through."""
    text = " ".join(reason.split())[:LONGEST_REASON].encode("ascii", "replace")
    if not text:
        return UNKNOWN_ERROR
    return b"NO " + (b"error: " + text if text.startswith(b"IMAP_") else text)


def line(reply: bytes) -> bytes:
    """`reply` as a line. A text that came from elsewhere cannot break out of it."""
    if b"\r" in reply or b"\n" in reply:
        reply = reply.replace(b"\r", b" ").replace(b"\n", b" ")
    return reply + b"\r\n"


def _cyrus_word(verb: str) -> bytes:
    return verb.capitalize().encode("ascii", "replace")
