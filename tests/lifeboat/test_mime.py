"""Messages as trees of parts: whatever the octets are, every part lies in its message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.lifeboat.fetch import Section, extract
from cyrus_sync.lifeboat.mime import DEEPEST, Part, parse
from cyrus_sync.lifeboat.structure import body_structure, envelope
from cyrus_sync.lifeboat.words import body_text, header_text

from .corpus import CORPUS, message

PIECES = st.sampled_from([
    *(b"\r\n", b"\n", b"\r", b":", b";", b"--", b'"', b"(", b")", b"\\", b"<", b"@", b",", b" ", b"\t"),
    *(b"Content-Type: multipart/mixed; boundary=b\r\n", b"--b\r\n", b"--b--\r\n", b"\r\n\r\n", b"--b"),
    *(b"Content-Type: message/rfc822\r\n", b"Content-Type: text/html; charset=nowhere\r\n", b"=?utf-8?b?"),
    *(b"\xff", b"From: a@b\r\n", b"Subject: x\r\n", b"Content-Transfer-Encoding: base64\r\n"),
    b"To: g: a@b, c;\r\n",
    b"Content-Disposition: attachment; filename=\"\r\n",
])  # fmt: skip


@given(st.lists(PIECES, max_size=60).map(b"".join))
def test_any_octets_have_a_tree_and_every_answer(data: bytes) -> None:
    tree = parse(data)
    _lies_within(tree, 0, len(data))
    for said in (body_structure(tree, extended=True), body_structure(tree, extended=False), envelope(tree)):
        assert said.startswith(b"(") and said.endswith(b")")
    assert extract(tree, Section()) == data
    assert isinstance(header_text(tree) + body_text(tree), str)


def _lies_within(part: Part, start: int, end: int) -> None:
    assert start <= part.start <= part.body <= part.end <= end
    for one in part.parts:
        _lies_within(one, part.body, part.end)


def test_header_and_content_together_are_the_message() -> None:
    for data in CORPUS.values():
        tree = parse(data)
        assert tree.header + tree.content == data


def test_a_message_that_nests_for_ever_is_cut_at_some_depth() -> None:
    data = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(3000)
    )
    tree, depth = parse(data), 0
    while tree.parts:
        tree, depth = tree.parts[0], depth + 1
    assert depth <= DEEPEST + 1


@pytest.mark.timeout(20)
def test_a_message_made_of_boundaries_is_no_work_for_a_day() -> None:
    data = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * 200_000
    assert parse(data).multipart
    fields = b"".join(b"X-%d: y\r\n" % n for n in range(50_000)) + b"\r\n"
    assert len(list(parse(fields).fields())) == 50_000
    assert parse(b"Subject: " + b" \r\n" * 100_000 + b"\r\n").value(b"subject") is not None
    assert parse(b'Content-Type: a/b; c="' + b"\\" * 100_000) is not None


def test_texts_are_read_as_people_read_them() -> None:
    tree = parse(CORPUS["a file and a message in a message"])
    assert "grüsse" in body_text(tree)
    assert "grüsse aus dem norden" in body_text(tree), "the header of the message inside"
    assert header_text(parse(message("Subject: =?x-unknown?q?a?=\n\n")), b"subject") == "=?x-unknown?q?a?="
