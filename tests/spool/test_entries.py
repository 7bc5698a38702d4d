"""Entries of mailboxes.db, as every release writes them."""

from __future__ import annotations

import pytest

from cyrus_sync.spool.entries import BadEntry, Entry, is_live, parse_entry


def test_an_entry_of_3_6_is_read() -> None:
    value = (
        b"%(A %(al.b lrswipkxtecdan bob lrs) I lec594gqus7mp5i8hsn0ston T el P default V 1796038312 C 16 F 17"
        b" M 1796038308)"
    )
    assert parse_entry(value, "user.al^b.Work") == Entry(
        "user.al^b.Work",
        "lec594gqus7mp5i8hsn0ston",
        "el",
        "default",
        acl="al.b\tlrswipkxtecdan\tbob\tlrs\t",
        uidvalidity=1796038312,
        createdmodseq=16,
        foldermodseq=17,
        changed=1796038308,
    )


def test_the_order_of_the_keys_does_not_matter() -> None:
    one = parse_entry(b"%(T e I id P p V 1 F 2 A %(al lrs))", "user.al")
    assert one == parse_entry(b"%(A %(al lrs) F 2 V 1 P p I id T e)", "user.al")


def test_an_entry_by_unique_id_tells_its_name_and_the_names_that_it_had() -> None:
    value = (
        b"%(N user\x1fal.b\x1fNew T e V 9 C 1 F 3 P default A %(al.b lrs) H (%(N user\x1fal.b\x1fOlder F 2"
        b" T e P default V 9 C 1 M 3) %(N user\x1fal.b\x1fOldest T e)))"
    )
    entry = parse_entry(value)
    assert entry.name == "user.al^b.New"
    assert entry.former == ("user.al^b.Older", "user.al^b.Oldest")
    assert entry.foldermodseq == 3


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b"%(T ed I x F 4 M 5)", "tombstone"),
        (b"%(T d I x F 4 M 5)", "tombstone"),
        (b"%(I x T i C 1 F 1 M 2)", "intermediate"),
        (b"%(T er I x P p S other.example)", "elsewhere"),
        (b"%(T ez I x P p)", "elsewhere"),
        (b"%(T em I x P p S other.example!p)", "elsewhere"),
    ],
)
def test_types_say_what_an_entry_is(value: bytes, kind: str) -> None:
    entry = parse_entry(value, "user.al.Box")
    assert [name for name in ("tombstone", "intermediate", "elsewhere") if getattr(entry, name)] == [kind]
    assert entry.live == is_live(value) == (kind == "intermediate")


def test_an_identifier_with_blanks_and_quotes_keeps_them() -> None:
    entry = parse_entry(b'%(A %("group:all \\"us\\"" lrs T ipd) I x T e P p)', "user.al")
    assert entry.acl == 'group:all "us"\tlrs\tT\tipd\t'
    assert entry.mbtype == "e"


def test_the_text_of_old_releases_is_read() -> None:
    assert parse_entry(b"0 default al\tlrswipcda\tanyone\tlr\t", "user.al") == Entry(
        "user.al", "", "e", "default", acl="al\tlrswipcda\tanyone\tlr\t"
    )
    entry = parse_entry(b"(uniqueid 1a2b3c4d5e6f7a8b specialuse \\Sent) 0 p2 al\tlrs\t", "user.al.Sent")
    assert (entry.uniqueid, entry.partition, entry.acl) == ("1a2b3c4d5e6f7a8b", "p2", "al\tlrs\t")
    away = parse_entry(b"1 other.example!p al\tlrs\t", "user.al")
    assert (away.elsewhere, away.server, away.partition) == (True, "other.example", "p")
    assert parse_entry(b"32 default ", "user.al").tombstone


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"%",
        b"%(T",
        b"%(T e V x)",
        b"%(T (a b) I x)",
        b"%(A (al lrs))",
        b"%(H (a b))",
        b"%(T e) more",
        b"nonsense",
        b"%(T \xff\xfe)",
    ],
)
def test_what_no_cyrus_writes_is_refused(value: bytes) -> None:
    with pytest.raises(BadEntry):
        parse_entry(value, "user.al")


@pytest.mark.parametrize(
    "value",
    [
        b"%(A %(d lrs) I d T e P d)",
        b"%(P default A %(T d) I x T e)",
        b'%(A %("a ) T d" lrs) I x T e P p)',
        b"%(A %(al lrs) I x P T V 3)",
        b"%(T",
        b"0 default al\tlrs\t",
    ],
)
def test_nothing_that_looks_like_a_type_makes_a_mailbox_vanish(value: bytes) -> None:
    assert is_live(value)
