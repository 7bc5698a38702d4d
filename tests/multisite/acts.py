"""What users do in a history, and what of it a history has to know."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Protocol

from cyrus_sync.common.model import MailboxState, Record, Seen
from cyrus_sync.common.names import Owner, is_deleted, root_of
from cyrus_sync.common.stores.mailstore import MailReader, MailStore, MailWriter
from tests.multisite.world import Site

FLAGS = ("\\Seen", "\\Flagged", "\\Answered", "$Junk", "Label")
FOLDERS = ("Work", "Play", "Work.Sub", "Old")


class Life(Protocol):
    """What an act may know of the history in which it happens."""

    chance: Random
    accepted: dict[bytes, str]
    """GUID -> what it is, of every message that a site took and nobody has removed."""

    def message(self) -> tuple[bytes, int, str]: ...

    def accept(self, raw: bytes, where: str) -> None: ...

    def delayed(self) -> bool: ...

    def now(self) -> int: ...


def append(life: Life, writer: MailWriter, mailbox: MailboxState, _: list[Record]) -> None:
    messages = [life.message() for _ in range(life.chance.randint(1, 3))]
    writer.append(mailbox.name, messages)
    for raw, _, _ in messages:
        life.accept(raw, mailbox.name)


def flag(life: Life, writer: MailWriter, mailbox: MailboxState, records: list[Record]) -> None:
    if records:
        uid = life.chance.choice(records).uid
        flag = life.chance.choice(FLAGS)
        if life.chance.random() < 0.6:
            writer.set_flags(mailbox.name, [uid], add=[flag])
        else:
            writer.set_flags(mailbox.name, [uid], remove=[flag])


def expunge(life: Life, writer: MailWriter, mailbox: MailboxState, records: list[Record]) -> None:
    if records:
        record = life.chance.choice(records)
        writer.expunge(mailbox.name, [record.uid])
        life.accepted.pop(record.guid, None)


def copy(life: Life, writer: MailWriter, mailbox: MailboxState, records: list[Record]) -> None:
    if records:
        target = life.chance.choice(in_use(writer))
        move = life.chance.random() < 0.3 and target.name != mailbox.name
        writer.copy(mailbox.name, [life.chance.choice(records).uid], target.name, move=move)


def create(life: Life, writer: MailWriter, mailbox: MailboxState, _: list[Record]) -> None:
    writer.create(f"{root_of(writer.owner)}.{life.chance.choice(FOLDERS)}")


def delete(life: Life, writer: MailWriter, mailbox: MailboxState, records: list[Record]) -> None:
    if mailbox.name != root_of(writer.owner):
        writer.delete(mailbox.name, delayed=life.delayed())
        for record in records:
            life.accepted.pop(record.guid, None)


def expire(life: Life, writer: MailWriter, _: MailboxState, __: list[Record]) -> None:
    """What was set aside is removed for good."""
    aside = [state for state in writer.mailboxes() if is_deleted(state.name)]
    if aside:
        gone = life.chance.choice(aside)
        for record in live(writer, gone):
            life.accepted.pop(record.guid, None)
        writer.delete(gone.name, delayed=False)


def leave(life: Life, writer: MailWriter, mailbox: MailboxState, _: list[Record]) -> None:
    raise AssertionError("is done by the history")


def rename(life: Life, writer: MailWriter, mailbox: MailboxState, _: list[Record]) -> None:
    raise AssertionError("is done by the history")


def mark(life: Life, writer: MailWriter, mailbox: MailboxState, records: list[Record]) -> None:
    """A flag of a message that is known everywhere by now, so that several sites change one."""
    if records:
        uid = life.chance.choice(records[:3]).uid
        some = life.chance.sample(FLAGS, 2)
        writer.set_flags(mailbox.name, [uid], add=some[:1], remove=some[1:])


def meta(life: Life, writer: MailWriter, mailbox: MailboxState, _: list[Record]) -> None:
    chance = life.chance
    match chance.choice((1, 2, 3)) if writer.owner.kind == "shared" else chance.randrange(6):
        case 0:
            writer.subscribe(mailbox.name, chance.random() < 0.6)
        case 1:
            writer.set_acl(mailbox.name, chance.choice(("al", "zoe")), chance.choice(("lrs", "lr", "")))
        case 2:
            writer.annotate(mailbox.name, "/comment", "", str(chance.random()).encode())
        case 3:
            writer.set_quota(root_of(writer.owner), {"STORAGE": chance.randrange(1000, 9000)})
        case 4:
            writer.put_script(chance.choice(("main", "holiday")), b"# %d\r\nkeep;\r\n" % chance.randrange(99))
        case 5:
            writer.set_seen(Seen("f" * 24, 1, chance.randrange(1, 9), life.now(), "1:3"))


Act = Callable[[Life, MailWriter, MailboxState, list[Record]], None]

ACTS: tuple[Act, ...] = (
    append,
    append,
    append,
    flag,
    flag,
    expunge,
    copy,
    create,
    delete,
    rename,
    meta,
)

WAYS: dict[str, tuple[Act, ...]] = {
    "handing over": (),
    "going back": (append,),
    "forgetting": (),
    "born twice": (append, append),
    "setting aside": (append, delete, expire),
    "leaving": (append, append, leave),
    "moving away": (append, append, rename, rename, rename),
    "marking": (mark, mark, mark),
    "time passing": (),
    "one way": (),
    "rotting": (),
    "made anew": (),
}
"""What may happen in a history besides, and the acts that come with it. "forgetting" is of "going back"."""


def lacks_root(store: MailStore, owner: Owner) -> bool:
    """Whether a user has mailboxes and no INBOX."""
    with store.read(owner) as reader:
        names = [state.name for state in in_use(reader)]
    return owner.kind == "user" and bool(names) and root_of(owner) not in names


def all_known(site: Site, guids: Iterable[bytes]) -> set[bytes]:
    """Those of the messages that a site has heard of."""
    with site.member(went_back=True) as member:
        return {guid for guid in guids if member.log.operations.introducers(guid)}


def in_use(reader: MailReader) -> list[MailboxState]:
    """The mailboxes that people see."""
    return [
        state
        for state in reader.mailboxes()
        if not is_deleted(state.name) and "#sieve" not in state.name and not state.intermediate
    ]


def live(reader: MailReader, mailbox: MailboxState) -> list[Record]:
    """Its messages."""
    return [one for batch in reader.records(mailbox.uniqueid) for one in batch if not one.expunged]
