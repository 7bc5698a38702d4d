"""One handler per command of the replica: read the arguments, call the verb, word the answer.

A handler is a coroutine that calls its verb before it first waits for anything, because verbs take effect
in the order of their calls. What it raises becomes a NO in `sync_server.commands`.

`HANDLERS` is made from the table of commands (`common.protocol.commands`): a command declared there
without a handler here, or the other way round, is an error at import.

A question about a name that nobody can have (``GET USER a/b``) is answered as a real server answers it:
there is no such thing. A change under such a name is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from cyrus_sync.common.errors import BadParameters, MailboxNonexistent, ProtocolError
from cyrus_sync.common.model import MailboxState, MailboxUpdate, MessageBody, RecordSource, UserMeta
from cyrus_sync.common.names import BadName
from cyrus_sync.common.protocol import codec, dlist
from cyrus_sync.common.protocol.commands import (
    ADDITIONS,
    COMMANDS,
    DIGESTS,
    HEAL,
    UNMAILBOX_ID,
    USERS,
    VERIFY,
    WAITING,
    ZSTD,
)
from cyrus_sync.common.protocol.connection_server import ServerConnection
from cyrus_sync.common.stores.queries import FullMailbox
from cyrus_sync.sync_server.request import Answer, Blocking, Request

T = TypeVar("T")

GRANTED = ("SIEVE-MAILBOX", UNMAILBOX_ID, ADDITIONS, HEAL, USERS, DIGESTS, VERIFY, WAITING, ZSTD)
"""What the greeting offers, and APPLY CAPABILITIES switches on."""

GET_COST = 16
"""An answer that is a list waits in memory for its turn, so fewer of them may be under way."""


line = ServerConnection.answer


def _known(decode: Callable[[Any], T], value: Any, otherwise: T) -> T:
    """`decode(value)`, or `otherwise` for what can be the name of nothing."""
    try:
        return decode(value)
    except (BadParameters, BadName):
        return otherwise


def _all_known(decode: Callable[[Any], T], value: Any) -> list[T]:
    found = []
    for item in value if isinstance(value, list) else []:
        try:
            found.append(decode(item))
        except (BadParameters, BadName):
            continue
    return found


def _existing(decode: Callable[[Any], T], value: Any) -> T:
    """`decode(value)`; a name that no mailbox can have is that of no mailbox."""
    try:
        return decode(value)
    except BadName as error:
        raise MailboxNonexistent() from error


# -- GET


def _mailbox_lines(states: Iterable[MailboxState]) -> Iterator[bytes]:
    for state in states:
        yield line("MAILBOX", codec.encode_mailbox(state))


def _meta_lines(meta: UserMeta) -> Iterator[bytes]:
    for seen in meta.seen:
        yield line("SEEN", codec.encode_seen(seen))
    if meta.subscriptions:
        yield line("LSUB", codec.encode_names(meta.subscriptions))
    for script in meta.sieve:
        yield line("SIEVE", codec.encode_sieve_script(script))


async def get_user(request: Request) -> Answer:
    userid = _known(codec.decode_userid, request.value, "")
    if not userid:
        return None
    user = await request.replica.get_user(userid)

    def lines() -> Iterator[bytes]:
        yield from _mailbox_lines(user.mailboxes)
        for quota in user.quotas:
            yield line("QUOTA", codec.encode_quota(quota))
        yield from _meta_lines(user.meta)

    return lines()


async def get_meta(request: Request) -> Answer:
    userid = _known(codec.decode_userid, request.value, "")
    return _meta_lines(await request.replica.get_meta(userid)) if userid else None


async def get_mailboxes(request: Request) -> Answer:
    names = _all_known(codec.decode_mailbox_name, request.value)
    return _mailbox_lines(await request.replica.get_mailboxes(names)) if names else None


async def get_uniqueids(request: Request) -> Answer:
    uniqueids = _all_known(lambda item: codec.decode_uniqueids([item])[0], request.value)
    return _mailbox_lines(await request.replica.get_uniqueids(uniqueids)) if uniqueids else None


async def get_fullmailbox(request: Request) -> Answer:
    name = _existing(codec.decode_mailbox_name, request.value)
    state, records = await request.replica.get_full_mailbox(name)
    snapshot = records if isinstance(records, FullMailbox) else None
    return Blocking(_full_mailbox(state, records), snapshot)


def _full_mailbox(state: MailboxState, records: RecordSource) -> Generator[bytes, None, None]:
    yield b"* MAILBOX " + codec.mailbox_head(codec.encode_mailbox(state), server=True)
    separator = b""
    for batch in records:
        if batch:
            yield separator + codec.encode_records(batch, server=True)
            separator = b" "
    yield codec.MAILBOX_TAIL + b"\r\n"


NAMES_AT_ONCE = 10_000
"""Userids in one answer to XUSERS, names in one to XSHARED; the client asks on from the last."""


async def get_xusers(request: Request) -> Answer:
    after = codec.decode_after(request.value)
    _check_agreed(request, USERS)
    found = await request.replica.get_users(after, NAMES_AT_ONCE)
    return [line("XUSERS", codec.encode_names(found))] if found else None


DIGESTS_AT_ONCE = 5_000
"""In one answer to XDIGESTS; whoever is not known has to be read for it."""


async def get_xdigests(request: Request) -> Answer:
    after = codec.decode_after(request.value)
    _check_agreed(request, DIGESTS)
    found = await request.replica.get_digests(after, DIGESTS_AT_ONCE)
    return [line("XDIGESTS", codec.encode_digests(found))] if found else None


async def get_xdamaged(request: Request) -> Answer:
    """Of a user the GUIDs; of "" the users."""
    userid = codec.decode_after(request.value)
    _check_agreed(request, HEAL)
    if userid:
        guids = await request.replica.get_damaged(codec.decode_userid(request.value))
        return [line("XDAMAGED", codec.encode_guids(guids))] if guids else None
    users = await request.replica.get_damaged_users()
    return [line("XDAMAGED", codec.encode_names(users))] if users else None


async def get_xshared(request: Request) -> Answer:
    after = codec.decode_after(request.value)
    _check_agreed(request, VERIFY)
    found = await request.replica.get_shared(after, NAMES_AT_ONCE)
    return [line("XSHARED", codec.encode_names(found))] if found else None


async def get_xverify(request: Request) -> Answer:
    wanted = _existing(codec.decode_verify, request.value)
    _check_agreed(request, VERIFY)
    found = await request.replica.verify(*wanted)
    return [line("XVERIFY", codec.encode_verified(found))]


def _check_agreed(request: Request, capability: str) -> None:
    if capability not in request.replica.capabilities:
        raise ProtocolError(f"{capability} was not agreed")


async def get_quota(request: Request) -> Answer:
    root = _known(codec.decode_root, request.value, "")
    quota = await request.replica.get_quota(root) if root else None
    return [line("QUOTA", codec.encode_quota(quota))] if quota else None


async def get_annotation(request: Request) -> Answer:
    mailbox = _known(codec.decode_annotation_mailbox, request.value, None)
    if mailbox is None:
        return None
    found = await request.replica.get_annotations(mailbox)
    return [line("ANNOTATION", codec.encode_annotation(each)) for each in found]


async def get_fetch(request: Request) -> Answer:
    wanted = _existing(codec.decode_fetch, request.value)
    body = await request.replica.fetch(*wanted)
    return Blocking(_message(body)) if body else [line("MESSAGE", None)]


def _message(body: MessageBody) -> Generator[bytes, None, None]:
    yield b"* MESSAGE " + dlist.file_head(
        body.partition.encode(), body.guid.hex().encode(), body.size, server=True
    )
    if isinstance(body.data, bytes):
        yield body.data
    else:
        yield from body.data
    yield b"\r\n"


async def get_fetch_sieve(request: Request) -> Answer:
    wanted = _existing(codec.decode_sieve_file, request.value)
    content = await request.replica.fetch_sieve(*wanted)
    return [line("SIEVE", codec.encode_sieve_content(*wanted, content))]


# -- APPLY


async def apply_message(request: Request) -> Answer:
    await request.bulk.complete()
    return None


async def apply_xframe(request: Request) -> Answer:
    await request.bulk.complete()
    if ZSTD not in request.replica.capabilities:
        raise ProtocolError(f"{ZSTD} was not agreed")
    return None


async def apply_reserve(request: Request) -> Answer:
    wanted = codec.decode_reserve(request.value)
    missing = await request.replica.reserve(*wanted)
    return [line("MISSING", codec.encode_guids(missing))] if missing else None


async def apply_mailbox(request: Request) -> Answer:
    found = codec.decode_mailbox_line(request.value)
    update = MailboxUpdate(found.state, request.bulk.records, found.since, found.partial)
    request.bulk.check()
    await request.replica.mailbox(update, local=request.local)
    return None


async def apply_rename(request: Request) -> Answer:
    wanted = _existing(codec.decode_rename, request.value)
    await request.replica.rename(*wanted, local=request.local)
    return None


async def apply_unmailbox(request: Request) -> Answer:
    if isinstance(request.value, dict):
        name, uniqueid, uidvalidity = _existing(codec.decode_unmailbox, request.value)
    else:
        name, uniqueid, uidvalidity = _known(codec.decode_mailbox_name, request.value, ""), "", 0
    if not name:
        raise MailboxNonexistent()
    identity: dict[str, Any] = {"uniqueid": uniqueid, "uidvalidity": uidvalidity} if uniqueid else {}
    await request.replica.unmailbox(name, local=request.local, **identity)
    return None


async def apply_unuser(request: Request) -> Answer:
    userid = _known(codec.decode_unuser, request.value, "")
    if userid:
        await request.replica.unuser(userid, local=request.local)
    return None


async def apply_expunge(request: Request) -> Answer:
    wanted = _existing(codec.decode_expunge, request.value)
    await request.replica.expunge(*wanted)
    return None


async def apply_quota(request: Request) -> Answer:
    await request.replica.quota(codec.decode_quota(request.value))
    return None


async def apply_unquota(request: Request) -> Answer:
    root = _known(codec.decode_root, request.value, "")
    if root:
        await request.replica.unquota(root)
    return None


async def apply_sub(request: Request) -> Answer:
    await request.replica.sub(*codec.decode_subscription(request.value))
    return None


async def apply_unsub(request: Request) -> Answer:
    await request.replica.unsub(*codec.decode_subscription(request.value))
    return None


async def apply_seen(request: Request) -> Answer:
    await request.replica.seen(*codec.decode_apply_seen(request.value))
    return None


async def apply_annotation(request: Request) -> Answer:
    await request.replica.annotation(codec.decode_annotation(request.value))
    return None


async def apply_unannotation(request: Request) -> Answer:
    which = codec.decode_unannotation(request.value)
    await request.replica.unannotation(which.mailbox, which.entry, which.userid)
    return None


async def apply_sieve(request: Request) -> Answer:
    await request.replica.sieve(*codec.decode_sieve_upload(request.value))
    return None


async def apply_unsieve(request: Request) -> Answer:
    await request.replica.unsieve(*codec.decode_sieve_file(request.value))
    return None


async def apply_activate_sieve(request: Request) -> Answer:
    await request.replica.activate_sieve(*codec.decode_sieve_file(request.value))
    return None


async def apply_unactivate_sieve(request: Request) -> Answer:
    await request.replica.unactivate_sieve(codec.decode_user(request.value))
    return None


async def apply_xheal(request: Request) -> Answer:
    userid = codec.decode_userid(request.value)
    _check_agreed(request, HEAL)
    await request.replica.heal(userid)
    return None


async def apply_xwaiting(request: Request) -> Answer:
    word = codec.decode_waiting(request.value)
    _check_agreed(request, WAITING)
    await request.replica.waiting(word)
    return None


async def apply_force(request: Request) -> Answer:
    await request.replica.force()
    return None


async def apply_capabilities(request: Request) -> Answer:
    asked = _all_known(lambda item: codec.decode_capabilities([item])[0], request.value)
    granted = [name for name in GRANTED if name in asked]
    request.replica.capabilities = frozenset(granted)
    return [line("ENABLED", codec.encode_names(granted))]


# -- RESTORE


async def restore_mailbox(request: Request) -> Answer:
    state = codec.decode_restore(request.value)
    request.bulk.check()
    await request.work.restore(state, request.bulk.records)
    return None


# -- the table


class Handler(NamedTuple):
    """`cost`: how much of a connection's allowance for commands under way it takes."""

    function: Callable[[Request], Coroutine[Any, Any, Answer]]
    cost: int


def _table() -> dict[tuple[str, str], Handler]:
    return {
        (command.verb, command.name): Handler(
            globals()[f"{command.verb}_{command.name}".lower()], GET_COST if command.verb == "GET" else 1
        )
        for command in COMMANDS.values()
    }


HANDLERS = _table()
