"""The replication protocol as an imapd speaks it: the same commands and answers, with tags.

An imapd that has the capability X-REPLICATION takes what a csync server takes, with a tag and ``SYNC`` in
front of the verb, and ends its answers with the tag::

    csync                               IMAP
    GET USER alice                      S0 SYNCGET USER alice
    * MAILBOX %(…)                      * MAILBOX %(…)
    OK success                          S0 OK success
    RESTART                             S1 SYNCRESTART
    NOOP, EXIT                          N01 NOOP, Q01 LOGOUT
    STARTTLS, AUTHENTICATE …            S01 STARTTLS, A01 AUTHENTICATE …
    (greeting)                          C01 CAPABILITY

What the tags of the answers have to be is the business of `common.protocol.connection_client`.

The rule guarded here: every command has the tag that is next, so that a piece may not hold the beginnings of
two of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cyrus_sync.common.model import MessageBody, MessageSource
from cyrus_sync.common.wire import outgoing
from cyrus_sync.common.wire.outgoing import BYTES_IN_A_COMMAND, FILES_IN_A_COMMAND, Piece

REPLICATION = "X-REPLICATION"
"""Without this capability an imapd knows none of the commands."""

_SESSION_COMMANDS = {
    b"CAPABILITY": b"C01 CAPABILITY",
    b"STARTTLS": b"S01 STARTTLS",
    b"AUTHENTICATE": b"A01 AUTHENTICATE",
    b"NOOP": b"N01 NOOP",
    b"EXIT": b"Q01 LOGOUT",
}

_CSYNC_NAMES = {"X-SIEVE-MAILBOX": "SIEVE-MAILBOX", "X-REPLICATION-ARCHIVE": "REPLICATION-ARCHIVE"}


def session_command(line: bytes) -> bytes:
    """A command of the session layer, as csync has it, with its IMAP tag. Raises KeyError for any other."""
    verb = line.split(None, 1)[0]
    return _SESSION_COMMANDS[verb] + line[len(verb) :]


def capabilities(line: str) -> dict[str, str]:
    """What follows ``* CAPABILITY``, as a csync greeting would say it; mechanisms are the words of SASL.

    >>> capabilities("IMAP4rev1 AUTH=PLAIN AUTH=SCRAM-SHA-256 X-REPLICATION X-SIEVE-MAILBOX")
    {'IMAP4REV1': '', 'X-REPLICATION': '', 'SIEVE-MAILBOX': '', 'SASL': 'PLAIN SCRAM-SHA-256'}
    """
    words = line.upper().split()
    found = {_CSYNC_NAMES.get(word, word): "" for word in words if not word.startswith("AUTH=")}
    mechanisms = [word.removeprefix("AUTH=") for word in words if word.startswith("AUTH=")]
    if mechanisms:
        found["SASL"] = " ".join(mechanisms)
    return found


class ImapCommands:
    """Gives the commands of one connection their tags, in the order in which they are sent."""

    def __init__(self) -> None:
        self._next = 0

    def tagged(self, piece: Piece) -> Piece:
        """`piece`, which begins with the command that it holds, or goes on with the one before."""
        if not piece.commands:
            return piece
        if piece.commands > 1:
            raise ValueError("two commands in a piece: only the first could be tagged")
        if piece.data.split(None, 1)[0] in _SESSION_COMMANDS:
            return piece._replace(data=session_command(piece.data))
        tag, self._next = self._next, self._next + 1
        return piece._replace(data=b"S%d SYNC%b" % (tag, piece.data))


def message_pieces(messages: MessageSource) -> Iterator[Piece]:
    """APPLY MESSAGE as `outgoing.message_pieces` has it, with each command at the beginning of a piece."""
    for batch in messages:
        for part in _parts(batch):
            yield from outgoing.message_pieces([part])


def _parts(batch: Sequence[MessageBody]) -> Iterator[Sequence[MessageBody]]:
    """`batch` in parts of a command each."""
    part: list[MessageBody] = []
    octets = 0
    for body in batch:
        if len(part) >= FILES_IN_A_COMMAND or octets >= BYTES_IN_A_COMMAND:
            yield part
            part, octets = [], 0
        part.append(body)
        octets += body.octets
    if part:
        yield part
