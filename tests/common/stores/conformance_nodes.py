"""What a home promises where several nodes have copies of the same owners, as tests. A test module has the
fixtures `here` and `there`: a store on each of two nodes."""

from __future__ import annotations

import pytest

from cyrus_sync.common.errors import MailboxLocked
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import StaleOwner
from cyrus_sync.common.stores.native.store import NativeStore
from tests.common.stores.tools import ALICE, INBOX, bodies_in, message, records_in


def append(store: NativeStore, *numbers: int, size: int = 0) -> None:
    with store.write(ALICE, timeout=60) as writer:
        if writer.mailbox(INBOX) is None:
            writer.create(INBOX)
        writer.append(INBOX, [(message(number, size), 1, "") for number in numbers])


def uids(store: NativeStore) -> list[int]:
    return [record.uid for record in records_in(store)]


class NodesConformance:
    """What one node commits another one sees, and what it cannot know it does not spoil."""

    def test_what_one_node_commits_another_reads_and_adds_to(self, here, there):
        append(here, 1)
        assert bodies_in(there) == [message(1)]
        append(there, 2)
        append(here, 3)
        assert bodies_in(here) == bodies_in(there) == [message(1), message(2), message(3)]
        assert uids(there) == [1, 2, 3]
        assert list(there.owners()) == [ALICE] and there.userids() == ["alice"]

    def test_who_holds_a_mailbox_is_known_on_every_node(self, here, there):
        append(here, 1)
        with there.read(ALICE) as reader:
            uniqueid = reader.mailbox(INBOX).uniqueid
        assert there.owner_of_uniqueid(uniqueid) == ALICE

    def test_a_commit_on_an_old_head_is_refused_and_leaves_no_trace(self, here, there):
        append(here, 1)
        with pytest.raises(StaleOwner), here.write(ALICE) as writer:
            writer.append(INBOX, [(message(2), 1, "")])
            append(there, 3)
        assert isinstance(StaleOwner(), MailboxLocked), "a replica answers that it is locked"
        assert bodies_in(here) == bodies_in(there) == [message(1), message(3)]
        append(here, 2)
        assert bodies_in(there) == [message(1), message(3), message(2)]

    def test_of_two_who_make_the_same_user_at_once_one_is_refused(self, here, there):
        with pytest.raises(StaleOwner), here.write(ALICE) as writer:
            writer.create(INBOX)
            append(there, 1)
        assert bodies_in(here) == bodies_in(there) == [message(1)]

    def test_a_move_from_one_user_to_another_is_whole_on_every_node(self, here, there):
        append(here, 1)
        with here.write(Owner("user", "bob")) as writer:
            writer.create("user.bob")
        with here.write(ALICE) as writer:
            writer.create("user.alice.Work")
            writer.append("user.alice.Work", [(message(7), 1, "")])
        there.rename("user.alice.Work", "user.bob.Work", log=True)
        assert bodies_in(here, "user.bob.Work") == [message(7)]
        with here.read(ALICE) as reader:
            assert reader.mailbox("user.alice.Work") is None
