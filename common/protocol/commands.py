"""Every command of the protocol, declared once: what server dispatch, client encoder, docs and tests read.

>>> COMMANDS["APPLY", "SUB"].line("alice", "user.alice.lists")
b'APPLY SUB %(USERID alice MBOXNAME user.alice.lists)\\r\\n'
>>> COMMANDS["APPLY", "SUB"].decode({b"USERID": b"alice", b"MBOXNAME": b"user.alice.lists"})
Subscription(userid='alice', mailbox='user.alice.lists')
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import (
    BadParameters,
    InvalidUser,
    MailboxLocked,
    MailboxMoved,
    MailboxNonexistent,
    MailboxNotSupported,
    ProtocolError,
    ReplyError,
    SyncBadSieve,
    SyncChanged,
    SyncChecksum,
)
from cyrus_sync.common.names import BadName
from cyrus_sync.common.protocol import codec, dlist
from cyrus_sync.common.protocol.value_stream import Bulk


@dataclass(frozen=True, slots=True)
class Command:
    """One GET, APPLY or RESTORE.

    `decode` turns the dlist value into the argument (raises ReplyError); `encode` turns the client's
    arguments into the dlist value. MESSAGE, XFRAME and MAILBOX are streamed: their bulk does not pass here.
    """

    verb: str
    name: str
    argument: str
    """The argument's shape, in the notation of the protocol's documentation."""
    decode: Callable[[Any], Any]
    encode: Callable[..., Any]
    answers: tuple[str, ...] = ()
    """Names of the ``* NAME`` lines that may come before OK."""
    local: bool = False
    """Whether there is a LOCAL_ form."""
    bulk: Bulk = Bulk.NONE
    errors: tuple[type[ReplyError], ...] = ()
    """Refusals of its own, next to those that every command can meet (`COMMON_ERRORS`)."""
    since: str = "2.4"
    """The release of Cyrus that has it first, or the capability that it is part of."""

    @property
    def title(self) -> str:
        return f"{self.verb} {self.name}"

    def line(self, *arguments: Any, local: bool = False, **options: Any) -> bytes:
        """The whole line as a client sends it."""
        return self.head(local) + dlist.encode(self.encode(*arguments, **options), server=False) + b"\r\n"

    def head(self, local: bool = False) -> bytes:
        """The line up to its value, blank included. Raises ValueError for a LOCAL_ that does not exist."""
        if local and not self.local:
            raise ValueError(f"there is no LOCAL_ form of {self.title}")
        return f"{self.verb} {'LOCAL_' if local else ''}{self.name} ".encode("ascii")


COMMON_ERRORS: tuple[type[ReplyError], ...] = (BadParameters, BadName, ProtocolError, MailboxLocked)


ZSTD = "X-CYRUS-SYNC-ZSTD"
"""The capability under which messages travel as zstd frames (``docs/protocol-extension.md``)."""


USERS = "X-CYRUS-SYNC-USERS"
"""The capability under which a server lists its users (``docs/protocol-extension.md``)."""


DIGESTS = "X-CYRUS-SYNC-DIGESTS"
"""The capability under which a server tells digests of its users (``docs/protocol-extension.md``)."""


HEAL = "X-CYRUS-SYNC-HEAL"
"""The capability under which a replica says which messages are damaged there, and takes them anew."""


VERIFY = "X-CYRUS-SYNC-VERIFY"
"""The capability under which a replica reads its stored messages again, and lists its shared mailboxes, for
who compares (``docs/protocol-extension.md``)."""


ADDITIONS = "X-CYRUS-SYNC-ADDITIONS"
"""The capability under which a client promises only to add to what a server has: one that was promoted takes
that, and nothing else (``docs/protocol-extension.md``)."""


WAITING = "X-CYRUS-SYNC-WAITING"
"""The capability under which a client says what waits at the master (``docs/protocol-extension.md``)."""


UNMAILBOX_ID = "UNMAILBOX-ID"
"""The capability under which UNMAILBOX says which mailbox it means, not only its name."""


def _same(value: Any) -> Any:
    return value


_STATE = ("MAILBOX", "QUOTA", "SEEN", "LSUB", "SIEVE")
_FILE_KEYS = "%(USERID str FILENAME str)"

_DECLARED = (
    Command("GET", "USER", "str", codec.decode_userid, _same, _STATE, errors=(InvalidUser,)),
    Command("GET", "META", "str", codec.decode_userid, _same, _STATE[2:], errors=(InvalidUser,)),
    Command("GET", "MAILBOXES", "(str …)", codec.decode_mailbox_names, codec.encode_names, ("MAILBOX",)),
    Command(
        "GET", "UNIQUEIDS", "(str …)", codec.decode_uniqueids, codec.encode_names, ("MAILBOX",), since="3.2"
    ),
    Command(
        "GET",
        "FULLMAILBOX",
        "str",
        codec.decode_mailbox_name,
        _same,
        ("MAILBOX",),
        errors=(MailboxNonexistent,),
    ),
    Command("GET", "XDAMAGED", "str", codec.decode_after, _same, ("XDAMAGED",), since=HEAL),
    Command("GET", "XDIGESTS", "str", codec.decode_after, _same, ("XDIGESTS",), since=DIGESTS),
    Command("GET", "XUSERS", "str", codec.decode_after, _same, ("XUSERS",), since=USERS),
    Command("GET", "XSHARED", "str", codec.decode_after, _same, ("XSHARED",), since=VERIFY),
    Command(
        "GET",
        "XVERIFY",
        "%(MBOXNAME str UNIQUEID str FIRST n32 LAST n32)",
        codec.decode_verify,
        codec.encode_verify,
        ("XVERIFY",),
        errors=(MailboxNonexistent, MailboxMoved),
        since=VERIFY,
    ),
    Command("GET", "QUOTA", "str", codec.decode_root, _same, ("QUOTA",)),
    Command("GET", "ANNOTATION", "str", codec.decode_annotation_mailbox, _same, ("ANNOTATION",)),
    Command(
        "GET",
        "FETCH",
        "%(MBOXNAME str PARTITION str UNIQUEID str GUID guid UID n32)",
        codec.decode_fetch,
        codec.encode_fetch,
        ("MESSAGE",),
        errors=(MailboxNonexistent,),
    ),
    Command(
        "GET",
        "FETCH_SIEVE",
        _FILE_KEYS,
        codec.decode_sieve_file,
        codec.encode_sieve_file,
        ("SIEVE",),
        errors=(MailboxNonexistent,),
    ),
    Command(
        "APPLY", "MESSAGE", "(%{part guid size}⏎… …)", codec.decode_message_list, _same, bulk=Bulk.MESSAGES
    ),
    Command(
        "APPLY",
        "XFRAME",
        "(n32 %{part guid framesize}⏎… …)",
        codec.decode_message_list,
        _same,
        bulk=Bulk.FRAMES,
        since=ZSTD,
    ),
    Command(
        "APPLY",
        "RESERVE",
        "%(PARTITION str MBOXNAME (str …) GUID (guid …))",
        codec.decode_reserve,
        codec.encode_reserve,
        ("MISSING",),
    ),
    Command(
        "APPLY",
        "MAILBOX",
        "%(UNIQUEID str MBOXNAME str … RECORD (%(…) …))",
        codec.decode_mailbox_line,
        codec.encode_mailbox,
        local=True,
        bulk=Bulk.RECORDS,
        errors=(SyncChecksum, SyncChanged, MailboxMoved, MailboxNotSupported, SyncBadSieve),
    ),
    Command(
        "APPLY",
        "RENAME",
        "%(OLDMBOXNAME str NEWMBOXNAME str PARTITION str [UIDVALIDITY n32])",
        codec.decode_rename,
        codec.encode_rename,
        local=True,
        errors=(MailboxNonexistent,),
    ),
    Command(
        "APPLY",
        "UNMAILBOX",
        "str | %(MBOXNAME str [UNIQUEID str] [UIDVALIDITY n32])",
        codec.decode_unmailbox,
        codec.encode_unmailbox,
        local=True,
        errors=(MailboxNonexistent, MailboxMoved),
    ),
    Command("APPLY", "UNUSER", "str", codec.decode_unuser, _same, local=True),
    Command(
        "APPLY",
        "EXPUNGE",
        "%(MBOXNAME str UNIQUEID str UID (n32 …))",
        codec.decode_expunge,
        codec.encode_expunge,
        errors=(MailboxNonexistent, MailboxMoved),
    ),
    Command(
        "APPLY",
        "QUOTA",
        "%(ROOT str LIMIT n32 … [MODSEQ n64])",
        codec.decode_quota,
        codec.encode_quota,
    ),
    Command("APPLY", "UNQUOTA", "str", codec.decode_root, _same),
    Command(
        "APPLY", "SUB", "%(USERID str MBOXNAME str)", codec.decode_subscription, codec.encode_subscription
    ),
    Command(
        "APPLY", "UNSUB", "%(USERID str MBOXNAME str)", codec.decode_subscription, codec.encode_subscription
    ),
    Command(
        "APPLY",
        "SEEN",
        "%(USERID str UNIQUEID str LASTREAD date LASTUID n32 LASTCHANGE date SEENUIDS str)",
        codec.decode_apply_seen,
        codec.encode_apply_seen,
    ),
    Command(
        "APPLY",
        "ANNOTATION",
        "%(MBOXNAME str ENTRY str USERID str VALUE map)",
        codec.decode_annotation,
        codec.encode_annotation,
        errors=(MailboxNonexistent,),
    ),
    Command(
        "APPLY",
        "UNANNOTATION",
        "%(MBOXNAME str ENTRY str USERID str)",
        codec.decode_unannotation,
        codec.encode_unannotation,
        errors=(MailboxNonexistent,),
    ),
    Command(
        "APPLY",
        "SIEVE",
        "%(USERID str FILENAME str LAST_UPDATE date CONTENT map)",
        codec.decode_sieve_upload,
        codec.encode_sieve_upload,
        errors=(SyncBadSieve,),
    ),
    Command("APPLY", "UNSIEVE", _FILE_KEYS, codec.decode_sieve_file, codec.encode_sieve_file),
    Command("APPLY", "ACTIVATE_SIEVE", _FILE_KEYS, codec.decode_sieve_file, codec.encode_sieve_file),
    Command("APPLY", "UNACTIVATE_SIEVE", "%(USERID str)", codec.decode_user, codec.encode_user),
    Command("APPLY", "XHEAL", "str", codec.decode_userid, _same, since=HEAL),
    Command(
        "APPLY",
        "XWAITING",
        "%(MASTER str CHANNEL str WAITING n32 DRAINED n32 OWNERS (str …))",
        codec.decode_waiting,
        codec.encode_waiting,
        since=WAITING,
    ),
    Command("APPLY", "FORCE", "%()", codec.decode_nothing, codec.encode_nothing, since="3.6"),
    Command(
        "APPLY",
        "CAPABILITIES",
        "(str …)",
        codec.decode_capabilities,
        codec.encode_names,
        ("ENABLED",),
        since="3.6",
    ),
    Command(
        "RESTORE",
        "MAILBOX",
        "%(MBOXNAME str … [RECORD (%(…) …)])",
        codec.decode_restore,
        codec.encode_mailbox,
        local=True,
        bulk=Bulk.RECORDS,
        since="3.0",
    ),
)

COMMANDS: dict[tuple[str, str], Command] = {(command.verb, command.name): command for command in _DECLARED}
"""By (verb, name without LOCAL_)."""

DLIST_VERBS = frozenset(command.verb for command in _DECLARED)
"""Verbs that are followed by a dlist."""


@dataclass(frozen=True, slots=True)
class SessionVerb:
    """A command of the session layer."""

    verb: str
    before_login: bool = True
    minimum: int = 0
    """Arguments that must be there, and …"""
    maximum: int = 0
    success: str = ""


SESSION_VERBS = {
    declared.verb: declared
    for declared in (
        SessionVerb("AUTHENTICATE", minimum=1, maximum=2, success="OK Success"),
        SessionVerb("STARTTLS", success="OK Begin TLS negotiation now"),
        SessionVerb("COMPRESS", minimum=1, maximum=1, success="OK DEFLATE active"),
        SessionVerb("NOOP", success="OK Noop completed"),
        SessionVerb("RESTART", success="OK Restarting"),
        SessionVerb("EXIT", success="OK Finished"),
    )
}
"""Commands without a dlist."""


def find(verb: str, name: str) -> tuple[str, bool, Command | None]:
    """(name without LOCAL_, whether it had it, its declaration) of a command's name as it was read.

    LOCAL_ before a command that has no such form is part of an unknown name.
    """
    command = COMMANDS.get((verb, name))
    if command is None and name.startswith("LOCAL_"):
        plain = name.removeprefix("LOCAL_")
        command = COMMANDS.get((verb, plain))
        if command is not None and command.local:
            return plain, True, command
        return name, False, None
    return name, False, command
