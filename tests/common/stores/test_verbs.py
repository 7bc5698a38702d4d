"""One verb on one transaction, without a store around it; and the writer that gathers all verbs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.errors import MailboxNonexistent, ProtocolError
from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailWriter
from cyrus_sync.common.stores.native import schema
from cyrus_sync.common.stores.native.bodies import BodyReader, lookup
from cyrus_sync.common.stores.native.marks import Marks
from cyrus_sync.common.stores.native.packs import PackFiles, PackReader, PackWriter
from cyrus_sync.common.stores.native.tables.boxes import get_box
from cyrus_sync.common.stores.native.transaction import Ground, Transaction
from cyrus_sync.common.stores.native.verbs import adopt, folders, messages, meta
from cyrus_sync.common.stores.native.writer import Writer
from tests.common.stores.tools import ALICE, INBOX, START, guid_of, message, text_of


class Alone:
    """Nothing is around the transaction but a clock and an empty directory."""

    servername = "localhost"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.found_on: list[str] = []
        self.opened: list[Ground] = []

    def refuses_changes(self) -> str:
        return ""

    def now(self) -> int:
        return START

    def check_partition(self, partition: str) -> str:
        return partition or "default"

    def found(self, owner: Owner, partition: str, *, large: bool) -> Ground:
        self.found_on.append(partition)
        schema.blank(self.directory, large=large)
        connection = schema.building(self.directory)
        damaged = Marks(self.directory / "damaged", owner)
        packs = PackReader(PackFiles(self.directory))
        bodies = BodyReader(connection, packs, lambda guids: lookup(connection, guids), damaged)
        ground = Ground(connection, PackWriter(self.directory, {}), bodies)
        self.opened.append(ground)
        return ground

    def other_holder(self, uniqueid: str) -> Owner | None:
        return None

    def close(self) -> None:
        for ground in self.opened:
            ground.packs.close()
            ground.bodies.packs.close()
            ground.connection.close()


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Alone]:
    alone = Alone(tmp_path)
    yield alone
    alone.close()


@pytest.fixture
def transaction(around: Alone) -> Transaction:
    return Transaction(ALICE, around, None, schema.memory_index())


def lines(transaction: Transaction) -> list[tuple[bool, tuple[str, ...]]]:
    """What a commit would write into the action log."""
    return transaction.commit(keep_lines=())


def test_reading_an_owner_who_is_not_stored_makes_nothing(transaction: Transaction, around: Alone) -> None:
    assert transaction.reader.mailboxes() == []
    with pytest.raises(MailboxNonexistent):
        messages.append(transaction, INBOX, [(message(1), START, "")])
    assert not transaction.stored and around.found_on == []


def test_create_makes_the_owner_on_the_partition_of_the_mailbox_and_logs_it(
    transaction: Transaction, around: Alone
) -> None:
    made = folders.create(transaction, INBOX, partition="other")
    assert around.found_on == ["other"]
    assert transaction.reader.mailboxes() == [made]
    assert transaction.hints == [(made.uniqueid, ALICE)]
    assert lines(transaction) == [(False, ("MAILBOX", INBOX))]


def test_append_is_seen_by_the_transactions_own_reader_before_the_commit(transaction: Transaction) -> None:
    folders.create(transaction, INBOX)
    assert messages.append(transaction, INBOX, [(message(1), START, "\\Seen"), (message(2), START, "")]) == [
        1,
        2,
    ]
    body = transaction.reader.body(guid_of(message(2)))
    assert body is not None and text_of(body) == message(2)
    box = get_box(transaction, INBOX)
    assert (box.messages, box.bytes) == (2, len(message(1)) + len(message(2)))


def test_a_savepoint_takes_back_rows_bytes_lines_and_hints(transaction: Transaction, tmp_path: Path) -> None:
    folders.create(transaction, INBOX)
    with pytest.raises(KeyError), transaction.savepoint():
        folders.create(transaction, f"{INBOX}.Work")
        messages.append(transaction, INBOX, [(message(1), START, "")])
        raise KeyError
    assert [state.name for state in transaction.reader.mailboxes()] == [INBOX]
    assert len(transaction.hints) == 1
    assert lines(transaction) == [(False, ("MAILBOX", INBOX))]
    assert [path for path in tmp_path.glob("pack-*.zst") if path.stat().st_size] == []


def test_what_a_master_says_moves_no_counter_and_is_logged_as_chained(transaction: Transaction) -> None:
    state = folders.create(transaction, INBOX)
    messages.append(transaction, INBOX, [(message(1), START, "")])
    before = transaction.reader.highest_modseq()
    meta.apply_expunge(transaction, INBOX, state.uniqueid, [1])
    assert transaction.reader.highest_modseq() == before
    assert (True, ("MAILBOX", INBOX)) in lines(transaction)


def test_a_message_that_is_not_what_its_guid_says_is_refused(transaction: Transaction) -> None:
    wrong = MessageBody("", guid_of(message(1)), len(message(2)), message(2))
    with pytest.raises(ProtocolError):
        adopt.heal(transaction, wrong)


# -- the writer


def contract() -> dict[str, Callable[..., object]]:
    """What a `MailWriter` can be asked for."""
    return {
        name: verb
        for protocol in MailWriter.__mro__
        for name, verb in vars(protocol).items()
        if inspect.isfunction(verb) and not name.startswith("_")
    }


def parameters(verb: Callable[..., object]) -> list[tuple[str, object, object]]:
    """Name, kind and default of what a verb is given, besides whom it is done to."""
    given = list(inspect.signature(verb).parameters.values())[1:]
    return [(one.name, one.kind, one.default) for one in given]


@pytest.mark.parametrize("name", contract())
def test_the_writer_has_the_verb_with_the_parameters_of_the_contract(name: str) -> None:
    assert parameters(getattr(Writer, name)) == parameters(contract()[name])


def test_the_writer_has_no_verb_that_is_not_in_the_contract() -> None:
    assert {name for name in vars(Writer) if not name.startswith("_")} == set(contract())
