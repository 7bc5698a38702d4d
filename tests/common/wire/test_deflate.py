"""What is stored and what is compressed comes out as one stream, whoever inflates it."""

from __future__ import annotations

import random
import zlib

from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.wire.deflate import Deflater, Inflater

WORDS = st.lists(st.sampled_from([b"RECORD ", b"UID ", b"MODSEQ ", b"\\Seen "]), min_size=1, max_size=400)
WRITES = st.lists(st.tuples(st.booleans(), WORDS.map(b"".join)), max_size=12)


@given(WRITES)
def test_stored_and_compressed_writes_may_follow_one_another(
    writes: list[tuple[bool, bytes]],
) -> None:
    deflater, plain, ours = Deflater(), zlib.decompressobj(-15), Inflater()
    for stored, data in writes:
        sent = deflater.store(data) if stored else deflater.compress(data)
        assert plain.decompress(sent) == data
        ours.feed(sent)
        assert ours.take(1 << 20) == data


def test_what_is_stored_costs_five_bytes_in_64_kb() -> None:
    data = random.Random(1).randbytes(1_000_000)
    sent = Deflater().store(data)
    assert len(sent) == len(data) + 16 * 5
    assert zlib.decompressobj(-15).decompress(sent) == data
