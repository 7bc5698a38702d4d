"""Digests of files: what they are, old ones too, and that no byte escapes them."""

from __future__ import annotations

import hashlib
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from cyrus_sync.shipping import digest
from cyrus_sync.shipping.digest import BLOCK, digest_file, digest_flow
from cyrus_sync.shipping.order import Order
from tests.shipping.conversation import Conversation, header_for
from tests.shipping.kit import Host, unfinished

Pair = tuple[Host, Host]


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 20 * BLOCK + 5])
def test_a_file_has_the_digest_of_its_bytes_and_keeps_its_position(tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "data").write_bytes(data)
    with (tmp_path / "data").open("rb") as file:
        assert digest_file(file.fileno()) == f"blake3:{blake3(data).hexdigest()}"
        assert file.tell() == 0


@pytest.mark.parametrize("name", ["blake3", "sha256"])
def test_what_flows_in_pieces_of_any_size_comes_out_whole_with_its_digest(name: str) -> None:
    chance = random.Random(3)
    data = chance.randbytes(12 * BLOCK + 7)
    out = bytearray()
    offset = 0

    def read(block: memoryview) -> int:
        nonlocal offset
        count = min(len(block), chance.choice((1, 5000, BLOCK)), len(data) - offset)
        block[:count] = data[offset : offset + count]
        offset += count
        return count

    expected = (blake3 if name == "blake3" else hashlib.sha256)(data).hexdigest()
    assert digest_flow(read, out.extend, len(data), name) == (len(data), f"{name}:{expected}")
    assert out == data


def test_no_more_than_the_size_is_read_and_an_early_end_is_counted() -> None:
    asked: list[int] = []

    def read(block: memoryview) -> int:
        asked.append(len(block))
        return min(len(block), 10)

    assert digest_flow(read, lambda _: None, 25)[0] == 25
    assert asked[-1] == 5
    parts = [3, 0, 0]
    assert digest_flow(lambda _: parts.pop(0), lambda _: None, 25)[0] == 3


def test_an_error_while_digesting_ends_the_flow_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def update(self, _: object) -> None:
            raise MemoryError

    monkeypatch.setitem(digest._ALGORITHMS, "blake3", Broken)
    with pytest.raises(MemoryError):
        digest_flow(len, lambda _: None, 30 * BLOCK)


@pytest.mark.parametrize(
    "text",
    ["", "blake3", "blake3:", "blake3:" + "g" * 64, "md5:" + "0" * 64, "blake3:" + "A" * 64, "0" * 64],
)
def test_what_cannot_be_compared_is_no_digest(text: str) -> None:
    with pytest.raises(ValueError, match="is not a digest"):
        digest.check(text)


def test_an_order_of_before_with_sha_256_is_carried_out(pair: Pair) -> None:
    boston, hub = pair
    path = boston.packet("old", b"data" * 1000, hub.name)
    order = Order.load(path)
    lines = [line for line in order.text().splitlines() if not line.startswith(b"%DATA-DIGEST")]
    lines.append(b"%DATA-SHA256 " + hashlib.sha256(b"data" * 1000).hexdigest().encode())
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert Order.load(path).digest == "sha256:" + hashlib.sha256(b"data" * 1000).hexdigest()
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"old": b"data" * 1000}


def test_a_file_that_was_damaged_since_its_order_of_before_is_refused(pair: Pair) -> None:
    boston, hub = pair
    path = boston.packet("old", b"data", hub.name)
    digested = "sha256:" + hashlib.sha256(b"data").hexdigest()
    path.write_bytes(replace(Order.load(path), digest=digested).text())
    (boston.bay / "outgoing/old").write_bytes(b"dat4")
    assert boston.shipping_server("-poll") == 1
    assert "is not what was announced (sha256)" in boston.log()
    assert hub.incoming() == {} and unfinished(hub) == []


def test_an_order_without_a_digest_gets_one_for_its_transfer(pair: Pair) -> None:
    boston, hub = pair
    path = boston.packet("bare", b"data", hub.name)
    path.write_bytes(replace(Order.load(path), digest=None, size=None).text())
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"bare": b"data"}


def test_a_digest_that_the_receiver_does_not_know_is_refused_with_the_reason(pair: Pair) -> None:
    boston, hub = pair
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(header_for(hub, b"x", digest="blake9:" + "0" * 64))
        assert "'blake9' is not a digest that is known here" in talk.line()
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(header_for(hub, b"x", digest=7))
        assert talk.word() == "NO"


def test_a_copy_into_a_bay_has_the_digest_of_what_was_copied(pair: Pair) -> None:
    boston, hub = pair
    data = os.urandom(3 * BLOCK + 1)
    boston.packet("copy", data, hub.name)
    order = boston.order("copy")
    assert (order.size, order.digest) == (len(data), f"blake3:{blake3(data).hexdigest()}")
