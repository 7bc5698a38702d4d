"""Messages are read from the partition in which they are, and only as what their GUIDs say."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.stores.frames import frame_content
from cyrus_sync.spool import messages
from cyrus_sync.spool.mailbox import MailboxFiles
from cyrus_sync.spool.messages import LARGE, Messages, read_message

SMALL = b"Subject: small\r\n\r\nA few words.\r\n"
BIG = b"Subject: big\r\n\r\n" + b"All work and no play.\r\n" * (3 * LARGE // 20)


@pytest.fixture
def mailbox(tmp_path: Path) -> MailboxFiles:
    (tmp_path / "spool").mkdir()
    (tmp_path / "archive").mkdir()
    return MailboxFiles.below(tmp_path / "spool", tmp_path / "archive")


def sha1(content: bytes) -> bytes:
    return hashlib.sha1(content).digest()


def put(mailbox: MailboxFiles, uid: int, content: bytes, *, archived: bool = False) -> tuple[int, bytes]:
    mailbox.message(uid, archived=archived).write_bytes(content)
    return uid, sha1(content)


def content(body: object) -> bytes:
    data = body.data  # type: ignore[attr-defined]
    return data if isinstance(data, bytes) else b"".join(data)


@pytest.mark.parametrize("message", [SMALL, BIG, b"", b"x" * LARGE, b"x" * (LARGE + 1)])
@pytest.mark.parametrize("archived", [False, True])
def test_a_message_is_found_in_either_partition(
    mailbox: MailboxFiles, message: bytes, archived: bool
) -> None:
    uid, guid = put(mailbox, 7, message, archived=archived)
    body = read_message(mailbox, uid, guid, "elsewhere")
    assert (body.partition, body.guid, body.size, body.encoding) == (
        "elsewhere",
        guid,
        len(message),
        "identity",
    )
    assert content(body) == content(body) == message


@pytest.mark.parametrize("message", [SMALL, BIG])
def test_a_message_that_is_not_what_its_guid_says_is_damaged(mailbox: MailboxFiles, message: bytes) -> None:
    _, guid = put(mailbox, 7, message)
    mailbox.message(7).write_bytes(message[:-1] + b"X")
    with pytest.raises(StoreCorrupt, match="its SHA-1 is") as caught:
        read_message(mailbox, 7, guid)
    assert caught.value.address["guid"] == guid.hex()
    assert str(mailbox.message(7)) in str(caught.value)


def test_a_large_message_that_is_spoilt_after_the_first_look_is_damaged(mailbox: MailboxFiles) -> None:
    body = read_message(mailbox, *put(mailbox, 7, BIG))
    mailbox.message(7).write_bytes(BIG[:-1] + b"X")
    with pytest.raises(StoreCorrupt, match="its SHA-1 is"):
        content(body)
    mailbox.message(7).unlink()
    with pytest.raises(StoreCorrupt, match="gone"):
        content(body)


def test_a_message_that_is_moved_back_between_two_looks_is_found(
    mailbox: MailboxFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid, guid = put(mailbox, 7, SMALL, archived=True)
    read = messages._read

    def moving(path: str, guid: bytes, partition: str) -> object:
        if Path(path).parent == mailbox.archive:
            Path(path).rename(mailbox.message(7))
        return read(path, guid, partition)

    monkeypatch.setattr(messages, "_read", moving)
    assert content(read_message(mailbox, uid, guid)) == SMALL


def test_a_list_comes_in_batches_without_what_cannot_be_given(mailbox: MailboxFiles) -> None:
    good = [put(mailbox, uid, b"x" * 300_000 + str(uid).encode()) for uid in range(1, 9)]
    wanted = [*good[:4], (99, sha1(b"gone")), *good[4:]]
    mailbox.message(3).write_bytes(b"something else")
    left_out: dict[bytes, str] = {}
    source = Messages(mailbox, wanted, unreadable=lambda guid, why: left_out.update({guid: str(why)}))
    batches = list(source)
    assert [body.guid for batch in batches for body in batch] == [guid for uid, guid in good if uid != 3]
    assert max(sum(body.size for body in batch) for batch in batches) <= 1024 * 1024
    assert left_out.keys() == {good[2][1], sha1(b"gone")}
    assert "no such message" in left_out[sha1(b"gone")]
    with pytest.raises(StoreCorrupt):
        list(Messages(mailbox, wanted))


def test_a_message_that_may_not_be_read_says_why(mailbox: MailboxFiles) -> None:
    mailbox.message(7).mkdir()
    with pytest.raises(StoreCorrupt, match=r"directory.*7\."):
        read_message(mailbox, 7, sha1(SMALL))


def test_who_takes_frames_gets_frames_of_all_that_fits_into_memory(mailbox: MailboxFiles) -> None:
    wanted = [put(mailbox, 1, SMALL), put(mailbox, 2, BIG), put(mailbox, 3, b""), put(mailbox, 4, SMALL * 2)]
    bodies = [body for batch in Messages(mailbox, wanted, encoding="zstd") for body in batch]
    assert [body.encoding for body in bodies] == ["zstd", "identity", "zstd", "zstd"]
    assert [body.guid for body in bodies] == [guid for _, guid in wanted]
    for body, raw in zip(bodies, (SMALL, BIG, b"", SMALL * 2), strict=True):
        assert body.size == len(raw)
        assert (frame_content(content(body), body.size) if body.encoding == "zstd" else content(body)) == raw
