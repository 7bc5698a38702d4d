"""Where the messages of operations are found, and operations that go without some of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import zstandard

from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.stores.native.care.expire import expire
from cyrus_sync.multisite.bodies import Bodies
from cyrus_sync.multisite.oplog.apply_command import parse, without_messages
from cyrus_sync.multisite.oplog.held import Held
from tests.multisite.mail import BOB, append, create, expunge, guid_of, message, operations
from tests.multisite.world import Site, family_of


@pytest.fixture
def boston(tmp_path: Path) -> Site:
    (site,) = family_of(tmp_path, "boston")
    create(site, "user.bob")
    return site


def held(raw: bytes) -> MessageBody:
    return MessageBody("", guid_of(raw), len(raw), zstandard.compress(raw), "zstd")


def octets(body: MessageBody) -> bytes:
    return body.data if isinstance(body.data, bytes) else b"".join(body.data)


@pytest.mark.parametrize("size", [100, 5 << 20], ids=["small", "large"])
def test_messages_come_out_of_the_store_or_of_what_is_held(boston: Site, size: int) -> None:
    stored, waiting = message("stored", size), message("held", size)
    append(boston, "user.bob", stored)
    with boston.member() as member:
        Held(member.log.db).put([held(waiting)])
        bodies = Bodies(member.store, member.log)
        wanted = [guid_of(waiting), guid_of(stored), b"x" * 20]
        found = {
            body.guid: hashlib.sha1(octets(body)).digest()
            for batch in bodies.batches(BOB, wanted)
            for body in batch
        }
        assert found == {guid: guid for guid in wanted[:2]}
        assert bodies.lacking(BOB, wanted) == {b"x" * 20}
        assert not bodies.damaged


def test_held_messages_are_kept_once_and_dropped(boston: Site) -> None:
    with boston.member() as member:
        here = Held(member.log.db)
        here.put([held(b"a"), held(b"b"), held(b"a")])
        assert sorted(here.guids()) == sorted([guid_of(b"a"), guid_of(b"b")]) and guid_of(b"a") in here
        here.drop([guid_of(b"a")])
        assert here.guids() == [guid_of(b"b")] and here.get(guid_of(b"a")) is None


def test_what_was_expunged_and_cleaned_up_is_not_missed(boston: Site) -> None:
    gone, kept = append(boston, "user.bob", message(1), message(2))
    entry = next(one for one in operations(boston) if gone in one.guids)
    expunge(boston, "user.bob", 1)
    with boston.store() as store:
        expire(store, BOB, -5)  # type: ignore[arg-type]
    with boston.member() as member:
        bodies = Bodies(member.store, member.log)
        assert bodies.lacking(BOB, [gone, kept]) == {gone}
        assert bodies.live(entry, {gone, kept}) == {kept}


def test_an_operation_goes_without_messages_as_one_of_expunged_records(boston: Site) -> None:
    gone, kept = append(boston, "user.bob", message(1), message(2))
    entry = next(one for one in operations(boston) if gone in one.guids)
    less = without_messages(entry, {gone})
    said = parse(less.line)
    assert less.guids == (kept,) and (less.id, less.origin) == (entry.id, entry.origin)
    assert [record.expunged for record in said.records] == [True, False]
    assert said.update.state.sync_crc == 0, "the records are not those of the state any more"
    assert set(said.messages) == {kept}
