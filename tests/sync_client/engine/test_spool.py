"""Fetched messages wait in a file, whatever their size, and come out as they went in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cyrus_sync.common.errors import StoreError, SyncChecksum
from cyrus_sync.common.model import MessageBody
from cyrus_sync.sync_client.engine.spool import PIECE, BodySpool


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[BodySpool]:
    made = BodySpool(tmp_path)
    yield made
    made.close()


def body(data: bytes) -> MessageBody:
    return MessageBody("default", hashlib.sha1(data).digest(), len(data), data)


def octets(found: MessageBody | None) -> bytes:
    assert found is not None
    return found.data if isinstance(found.data, bytes) else b"".join(found.data)


def test_messages_added_from_many_threads_do_not_mix(spool: BodySpool) -> None:
    bodies = [body(bytes([number]) * (50_000 + number)) for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(spool.add, bodies))
    for one in bodies:
        assert octets(spool.get(one.guid)) == one.data


def test_a_large_message_comes_in_pieces_as_often_as_it_is_asked_for(spool: BodySpool) -> None:
    data = b"0123456789" * (PIECE // 4)
    large = body(data)
    spool.add(large._replace(data=[data[:77], data[77:]]))
    found = spool.get(large.guid)
    assert found is not None
    assert not isinstance(found.data, bytes)
    assert octets(found) == data
    assert octets(found) == data
    assert large.guid in spool
    assert bytes(20) not in spool
    assert spool.get(bytes(20)) is None


def test_octets_that_are_not_what_the_guid_says_are_refused(spool: BodySpool) -> None:
    with pytest.raises(SyncChecksum):
        spool.add(body(b"right")._replace(data=b"wrong"))
    assert spool.get(body(b"right").guid) is None


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        BodySpool(tmp_path / "nowhere")
