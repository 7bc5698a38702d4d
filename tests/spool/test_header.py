"""cyrus.header in both forms that Cyrus wrote."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import pytest

from cyrus_sync.spool.header import parse_header
from cyrus_sync.spool.trouble import SpoolDamaged

PATH = Path("cyrus.header")
MAGIC = (
    b"\xa1\x02\x8b\x0dCyrus mailbox header\n"
    b'"The best thing about this system was that it had lots of goals."\n\t--Jim Morris on Andrew\n'
)


def test_the_kvlist_of_3_6() -> None:
    data = MAGIC + (
        b"%(T e N user.al I 2kd74h1c Q user.al A %(al lrswipkxtecdan anyone lr)"
        b' U (NonJunk NIL $Label1 "quoted"))\n'
    )
    header = parse_header(data, PATH)
    assert (header.uniqueid, header.name, header.mbtype, header.quotaroot) == (
        "2kd74h1c",
        "user.al",
        "e",
        "user.al",
    )
    assert header.acl == "al\tlrswipkxtecdan\tanyone\tlr\t"
    assert header.keywords == ("NonJunk", None, "$Label1", "quoted")
    assert header.userflags == ("NonJunk", "$Label1", "quoted")
    assert header.crc == crc32(data)


def test_keys_of_later_releases_do_no_harm() -> None:
    header = parse_header(MAGIC + b"%(T c N user.al.Cal I id-1 J P-F A %(al lrs) Z %(x (y)))\n", PATH)
    assert (header.uniqueid, header.mbtype, header.quotaroot, header.keywords) == ("id-1", "c", "", ())


@pytest.mark.parametrize("words", [b"one  three ", b"one  three", b"one  three   "])
def test_the_lines_of_3_4_and_before(words: bytes) -> None:
    """An empty word is a free slot."""
    header = parse_header(MAGIC + b"user.al\t2kd74h1c\n" + words + b"\nal\tlrs\tanyone\tp\t\n", PATH)
    assert (header.uniqueid, header.quotaroot, header.name) == ("2kd74h1c", "user.al", "")
    assert header.keywords == ("one", None, "three")
    assert header.acl == "al\tlrs\tanyone\tp\t"


def test_a_mailbox_without_quota_root_and_keywords() -> None:
    header = parse_header(MAGIC + b"\t2kd74h1c\n\n\n", PATH)
    assert (header.uniqueid, header.quotaroot, header.keywords, header.acl) == ("2kd74h1c", "", (), "")


@pytest.mark.parametrize(
    ("data", "offset", "what"),
    [
        (b"", 0, "does not begin"),
        (MAGIC[:-5], len(MAGIC) - 5, "ends before"),
        (MAGIC, len(MAGIC), "quota root has no end"),
        (MAGIC + b"\tid\none ", len(MAGIC) + 4, "keywords has no end"),
        (MAGIC + b"%(T e N user.al I", len(MAGIC), "cannot be read"),
        (MAGIC + b"%(T e)\nmore", len(MAGIC) + 6, "something follows"),
        (MAGIC + b"%(T e U word)\n", len(MAGIC), "no list"),
        (MAGIC + b"%(T (e))\n", len(MAGIC), "T is no word"),
        (MAGIC + b"%(I \xff)\n", len(MAGIC), "not UTF-8"),
        (MAGIC + b"%(U (" + b" ".join(b"k%d" % n for n in range(129)) + b"))\n", len(MAGIC), "129 keywords"),
        (MAGIC + b"%(U (%(a b)))\n", len(MAGIC), "no keyword"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(data: bytes, offset: int, what: str) -> None:
    with pytest.raises(SpoolDamaged, match=what) as caught:
        parse_header(data, PATH)
    assert (caught.value.file, caught.value.offset) == (PATH, offset)
