"""The files of a Maildir: names, flags, UIDs, links. What a real Dovecot makes of it is in tests/interop."""

import os
from pathlib import Path

import pytest

from cyrus_sync.common.names import BadName
from cyrus_sync.mailstore.maildir import letters, names
from cyrus_sync.mailstore.maildir.subscriptions import read_subscriptions, write_subscriptions
from cyrus_sync.mailstore.maildir.uidlist import mailbox_guid, read_uidlist, write_uidlist
from cyrus_sync.mailstore.sources import open_source
from cyrus_sync.mailstore.sources.fields import header_of, status_flags
from cyrus_sync.mailstore.sources.inside import Inside, LeadsOut
from cyrus_sync.mailstore.sources.maildir_folder import arrival
from cyrus_sync.mailstore.sources.message import Counters, SourceMessage
from tests.mailstore.test_sources import Heard, maildir, put, read

ODD = [
    ("INBOX",),
    ("inbox", "x"),
    ("&,yk-NBOX",),
    ("&,yk-NBOX", "x"),
    ("x", "INBOX"),
    ("x", "&,yk-NBOX"),
    ("INBOX", "INBOX"),
    ("INBOX", "x"),
    ("a_b",),
    ("a^b",),
    ("a&AC8-b",),
    ("a&AC4-b",),
    ("a", "b"),
    ("^x",),
    ("Work",),
    ("work",),
    ("WORK",),
    ("back\\slash",),
    ("back\\2eslash",),
    ("~tilde",),
    ("Hey!you",),
    ("R&D",),
    ("R&-D",),
    ("50%",),
    ("Entw&APw-rfe",),
    ("cur",),
    ("new",),
    ("long" * 80,),
    ("long" * 80 + "x",),
    ("&ZeVnLIqe-" * 40,),
    tuple("deep" for _ in range(60)),
]


def test_every_folder_has_a_directory_of_its_own() -> None:
    found = {names.directory_name(folder) for folder in ODD}
    assert len(found) == len(ODD)
    assert all(len(name) <= 255 and "/" not in name and name.startswith(".") for name in found)


@pytest.mark.parametrize("folder", ODD)
def test_a_directory_s_name_leads_back_to_its_folder(folder: tuple[str, ...]) -> None:
    assert names.folder_of(names.full_name(folder)) == folder


def test_names_are_written_as_dovecot_s_listescape_has_them() -> None:
    assert names.directory_name(("Work", "v1^2")) == ".Work.v1\\2e2"
    assert names.directory_name(("~x", "a&AC8-b")) == ".\\7ex.a\\26AC8-b"
    assert names.directory_name(("INBOX",)) == ".&,yk-NBOX"
    assert names.directory_name(("&,yk-NBOX",)) == ".\\26,yk-NBOX"
    assert names.directory_name(("INBOX", "x")) == ".INBOX.x"


def test_what_dovecot_may_have_in_a_name_and_we_have_not_is_written_wide() -> None:
    assert names.folder_of(".a\\2fb.c^d") == ("a&,w8-b", "c&,z4-d")
    with pytest.raises(BadName):
        names.folder_of(".a..b")


# -- flags


@pytest.mark.parametrize("separator", [":", ";", "!"])
def test_flags_are_read_behind_every_separator(separator: str) -> None:
    assert letters.split_name(f"1.M2.host,S=3{separator}2,FSa") == ("1.M2.host,S=3", "FSa")


def test_flags_count_in_new_as_well(tmp_path: Path) -> None:
    maildir(tmp_path)
    put(tmp_path / "new" / "1.a:2,S", b"x")
    put(tmp_path / "new" / "2.a;2,F", b"y")
    assert [m.flags for m in read(tmp_path)[0]] == ["\\Seen", "\\Flagged"]


def test_keywords_in_other_letters_are_kept_as_thunderbird_writes_them(tmp_path: Path) -> None:
    maildir(tmp_path)
    (tmp_path / "dovecot-keywords").write_bytes("0 Später\n1 two words\n² x\n27 y\n".encode())
    put(tmp_path / "cur" / "1.a:2,Sa", b"x")
    put(tmp_path / "cur" / "2.a:2,bz", b"y")
    put(tmp_path / "cur" / "3.a:2,bZ", b"z")
    messages, heard = read(tmp_path)
    assert [m.flags for m in messages] == ["\\Seen Sp&AOQ-ter", "", ""]
    assert sorted(heard) == sorted(
        [
            f"{tmp_path}/dovecot-keywords: '1 two words' can be no keyword",
            f"{tmp_path}/dovecot-keywords: '² x' can be no keyword",
            f"{tmp_path}/dovecot-keywords: '27 y' can be no keyword",
            f"{tmp_path}: the flag 'b' is left out: nothing says what it means (2 messages)",
            f"{tmp_path}: the flag 'z' is left out: nothing says what it means (1 messages)",
            f"{tmp_path}: the flag 'Z' is left out: nothing says what it means (1 messages)",
        ]
    )


def test_courier_s_keywords_subscriptions_and_uids_are_read(tmp_path: Path) -> None:
    maildir(tmp_path)
    maildir(tmp_path / ".Sent")
    (tmp_path / "courierimapsubscribed").write_text("INBOX\nINBOX.Sent\nINBOX.Nowhere\n")
    (tmp_path / "courierimapuiddb").write_text("1 1234567890 20\n4 2.b.host\n9 1.a.host\n")
    (tmp_path / "courierimapkeywords").mkdir()
    (tmp_path / "courierimapkeywords" / ":list").write_text(
        "$Label1\nWichtig\nbad one\n\n1.a.host:0 1\n2.b.host:2\n"
    )
    (tmp_path / "courierimapkeywords" / "3.c.host").write_text("Alt\n")
    (tmp_path / "courierimapkeywords" / ".7.3.c.host").write_text("Neu\n")
    (tmp_path / "courierimapkeywords" / ".12.3.c.host").write_text("Neuer\n")
    for name in ("1.a.host", "2.b.host", "3.c.host"):
        put(tmp_path / "cur" / f"{name}:2,S", b"x" + name.encode())
    source = open_source(tmp_path, heard := Heard())
    assert [(m.uid, m.flags) for m in source.messages()] == [
        (4, "\\Seen"),
        (9, "\\Seen $Label1 Wichtig"),
        (0, "\\Seen Neuer"),
    ]
    assert source.counters(()) == Counters(1234567890, 20, "")
    assert source.subscriptions() == [(), ("Sent",), ("Nowhere",)]
    assert heard == [f"{tmp_path}: 'bad one' is left out: it can be no keyword (1 messages)"]


def test_thunderbird_s_marks_are_read_only_where_thunderbird_wrote_them(tmp_path: Path) -> None:
    maildir(tmp_path)
    fields = b"X-Mozilla-Status: 0005\nX-Mozilla-Keys: $label1 Sp\xc3\xa4ter\n"
    put(tmp_path / "cur" / "1", fields + b"Subject: x\n\n")
    put(tmp_path / "cur" / "2", b"Received: by a\n" + fields + b"\n")
    put(tmp_path / "cur" / "3", b"X-Mozilla-Status: 0009\n\n")
    messages, heard = read(tmp_path)
    assert [m.flags for m in messages] == ["\\Flagged \\Seen $label1 Sp&AOQ-ter", ""]
    assert heard == [f"{tmp_path}: left out what Thunderbird has marked as deleted (1 messages)"]


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        (b"Status: RESOLVED\n", []),
        (b"Status: NOT ANSWERED\n", []),
        (b"X-Status: DONE\n", []),
        (b"Status: RO\nX-Status: AF\n", ["\\Seen", "\\Answered", "\\Flagged"]),
        (b"Status: O\n", []),
        (b"X-Mozilla-Keys: $label1  NonJunk\n", ["$label1", "NonJunk"]),
        ("X-Keywords: Später\n".encode(), ["Sp&AOQ-ter"]),
        ("X-Keywords: Später\n".encode("latin-1"), ["Sp&AOQ-ter"]),
    ],
)
def test_a_status_field_of_somebody_else_is_no_flag(fields: bytes, flags: list[str]) -> None:
    assert status_flags(header_of(fields + b"Subject: x\n\n")) == flags


def test_the_27th_keyword_has_no_letter() -> None:
    table = letters.LetterTable()
    words = [f"k{number}" for number in range(28)]
    assert table.letters("\\Seen \\Flagged " + " ".join(words)) == (
        "FSabcdefghijklmnopqrstuvwxyz",
        ["k26", "k27"],
    )
    assert table.letters("k25 k27") == ("z", ["k27"])


# -- UIDs and order

GUID = "88fc05111c2a0d6b0a66000083ecc375"


def test_a_uidlist_of_version_3_is_read_with_all_that_it_says() -> None:
    text = (
        f"3 V1796024861 N30 G{GUID} Pxyz\n"
        "1 :1796024860.M286617P26122.vm,S=5,W=6\n"
        "7 S12 W13 P00000001 O3 G0123456789abcdef0123456789abcdef :2.a\n"
        "9 :with space:2,S\n"
    )
    found = read_uidlist(text.encode())
    assert (found.uidvalidity, found.next_uid, found.guid, found.damaged) == (1796024861, 30, GUID, 0)
    assert found.uids == {"1796024860.M286617P26122.vm,S=5,W=6": 1, "2.a": 7, "with space": 9}


def test_a_uidlist_of_version_1_is_read() -> None:
    found = read_uidlist(b"1 1200000000 13\n3 1.a.host\n12 2.b.host,S=7:2,S\n")
    assert (found.uidvalidity, found.next_uid, found.guid) == (1200000000, 13, "")
    assert found.uids == {"1.a.host": 3, "2.b.host,S=7": 12}


@pytest.mark.parametrize("head", ["", "3", "3 V0 N1", "3 Vx N2", "3 V² N2", "2 1 2", "1 5", "1 5 x", "3 V5"])
def test_a_uidlist_without_a_header_has_no_uids(head: str) -> None:
    found = read_uidlist(f"{head}\n1 :a\n".encode())
    assert (found.uidvalidity, found.uids, found.damaged) == (0, {}, 1)


def test_damaged_lines_of_a_uidlist_are_counted_and_the_others_kept(tmp_path: Path) -> None:
    maildir(tmp_path)
    lines = (
        "3 V5 N3\n1 :a\nnonsense\n2 :b/c\n1 :late\n4294967295 :high\n99999999999 :x\n4 S5 lacks\n7 :d\n8 :cut"
    )
    found = read_uidlist(lines.encode())
    assert (found.uids, found.damaged, found.next_uid) == ({"a": 1, "d": 7, "cut": 8}, 6, 9)
    (tmp_path / "dovecot-uidlist").write_text(lines)
    put(tmp_path / "cur" / "a:2,", b"x")
    messages, heard = read(tmp_path)
    assert [m.uid for m in messages] == [1]
    assert heard == [f"{tmp_path}/dovecot-uidlist: 6 lines are damaged: those UIDs are not kept"]


def test_a_uidlist_is_written_as_dovecot_writes_it() -> None:
    assert write_uidlist(5, 9, GUID, [(1, "a"), (8, "b")]) == f"3 V5 N9 G{GUID}\n1 :a\n8 :b\n".encode()
    assert mailbox_guid("88fc0511-1c2a-0d6b-0a66-000083ecc375") == GUID
    assert len(mailbox_guid("6o5z2q0x0d3m7p1n9k4j8h2g")) == 32


def test_messages_come_in_the_order_of_uids_and_then_of_arrival(tmp_path: Path) -> None:
    maildir(tmp_path)
    (tmp_path / "dovecot-uidlist").write_text("3 V5 N9\n3 :9.x\n8 :1.x\n")
    for name in ("cur/1.x:2,S", "cur/9.x:2,", "new/20.M9P1.h", "new/20.M10P1.h", "new/3.M1.h"):
        put(tmp_path / name, name.encode())
    messages, heard = read(tmp_path)
    assert [(m.uid, m.raw) for m in messages] == [
        (3, b"cur/9.x:2,"),
        (8, b"cur/1.x:2,S"),
        (0, b"new/3.M1.h"),
        (0, b"new/20.M9P1.h"),
        (0, b"new/20.M10P1.h"),
    ]
    assert heard == []


def test_numbers_in_names_count_as_numbers_and_exports_go_by_uid() -> None:
    exported = ["99.U0000000002.export,S=1", "5.U0000000010.export,S=1"]
    arrived = ["7.M9.h", "7.M10.h", "9.z", "10.a"]
    assert sorted([*reversed(arrived), *reversed(exported)], key=arrival) == [*exported, *arrived]
    assert len(sorted(["²", "٣", "1²", "1٣"], key=arrival)) == 4


def test_a_file_that_we_exported_has_its_date_in_its_name(tmp_path: Path) -> None:
    maildir(tmp_path)
    put(tmp_path / "cur" / "1500000000.U0000000007.export,S=1:2,", b"x", 1700000000)
    assert [m.internaldate for m in read(tmp_path)[0]] == [1500000000]


# -- what may be lacking


@pytest.mark.parametrize("part", ["cur", "new"])
def test_a_maildir_of_which_a_backup_dropped_empty_directories_is_read(tmp_path: Path, part: str) -> None:
    put(tmp_path / part / "1.a:2,S", b"x")
    put(tmp_path / ".Work" / part / "1.a:2,S", b"y")
    put(tmp_path / ".Empty" / "maildirfolder", b"")
    source = open_source(tmp_path, Heard())
    assert source.folders() == [(), ("Empty",), ("Work",)]
    assert [(m.folder, m.raw) for m in source.messages()] == [((), b"x"), (("Work",), b"y")]


def test_a_maildir_whose_inbox_is_empty_is_one(tmp_path: Path) -> None:
    put(tmp_path / ".Work" / "new" / "1.a", b"y")
    assert [m.folder for m in read(tmp_path)[0]] == [("Work",)]


def test_a_folder_of_eml_files_called_new_is_no_maildir(tmp_path: Path) -> None:
    put(tmp_path / "new" / "a.eml", b"Subject: a\n\n")
    put(tmp_path / "old" / "b.eml", b"Subject: b\n\n")
    assert [m.folder for m in read(tmp_path)[0]] == [("new",), ("old",)]


# -- what must not end it


def test_one_folder_that_cannot_be_had_does_not_end_the_rest(tmp_path: Path) -> None:
    maildir(tmp_path)
    for name in (".a..b", ".a\tb", ".Good"):
        maildir(tmp_path / name)
    put(tmp_path / ".Good" / "cur" / "1.a:2,", b"x")
    (tmp_path / ".Good" / "cur" / "dir").mkdir()
    os.mkfifo(tmp_path / ".Good" / "new" / "fifo")
    put(tmp_path / ".a^b" / "cur" / "1.a", b"x")
    put(tmp_path / ".a\\5Eb" / "cur" / "1.a", b"y")
    messages, heard = read(tmp_path)
    assert (("Good",), b"x") in [(m.folder, m.raw) for m in messages]
    assert any(".a..b: folder left out" in line for line in heard)
    assert any("cur/dir: left out" in line for line in heard)
    assert any("new/fifo: left out" in line for line in heard)
    assert any(".a^b: folder left out: it has the name of" in line for line in heard)


def test_directories_deeper_than_a_path_may_be_are_named_and_passed_over(tmp_path: Path) -> None:
    maildir(tmp_path)
    put(tmp_path / "ok" / "cur" / "1.a", b"x")
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.mkdir("cur", dir_fd=fd)
    os.close(fd)
    messages, heard = read(tmp_path)
    assert [m.raw for m in messages] == [b"x"]
    assert len(heard) == 1
    assert "folder left out: its name is too long" in heard[0]


def test_a_name_that_was_cut_is_read_whole(tmp_path: Path) -> None:
    maildir(tmp_path)
    folder = ("long" * 80,)
    name = names.directory_name(folder)
    put(tmp_path / name / "cur" / "1.a", b"x")
    (tmp_path / name / "maildirfolder").write_text(names.full_name(folder) + "\n")
    put(tmp_path / names.directory_name(("other" * 80,)) / "cur" / "1.a", b"y")
    (tmp_path / "subscriptions").write_bytes(write_subscriptions([name[1:]]))
    source = open_source(tmp_path, heard := Heard())
    assert folder in source.folders()
    assert source.subscriptions() == [folder]
    assert len(heard) == 1
    assert "does not hold its name" in heard[0]


# -- links


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Somebody else's mail."""
    put(tmp_path / "other" / "cur" / "1.secret:2,", b"secret")
    put(tmp_path / "other" / "new" / "2.secret", b"secret")
    put(tmp_path / "other" / "dovecot-keywords", b"0 secret\n")
    return tmp_path / "other"


@pytest.mark.parametrize("target", ["{other}", "../other", "../mine/../other", ".Sub/../../other"])
def test_links_that_lead_out_are_not_followed(tmp_path: Path, other: Path, target: str) -> None:
    mine = maildir(tmp_path / "mine")
    put(mine / ".Sub" / "cur" / "1.a", b"x")
    where = target.format(other=other)
    (mine / ".Stolen").symlink_to(where)
    (mine / "nested").symlink_to(where)
    (mine / "cur" / "3.a:2,").symlink_to(other / "cur" / "1.secret:2,")
    (mine / ".Sub" / "new").symlink_to(other / "new")
    (mine / "dovecot-keywords").symlink_to(other / "dovecot-keywords")
    (mine / "subscriptions").symlink_to(other / "dovecot-keywords")
    source = open_source(mine, heard := Heard())
    source.size()
    assert [m.raw for m in source.messages()] == [b"x"]
    assert source.subscriptions() == []
    for name in (".Stolen", "nested", "cur/3.a:2,", ".Sub/new", "dovecot-keywords", "subscriptions"):
        assert [
            line for line in heard if line.startswith(f"{mine}/{name}: left out: a symbolic link that leads")
        ]


def test_links_within_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    mine = maildir(tmp_path / "mine")
    put(mine / "cur" / "1.a:2,S", b"x")
    put(mine / "store" / "cur" / "1.b", b"y")
    (mine / ".Linked").symlink_to("store")
    (mine / ".Absolute").symlink_to(mine / "store")
    (mine / ".Circle").symlink_to(".Circle")
    (mine / "cur" / "2.a:2,").symlink_to("../cur/1.a:2,S")
    (tmp_path / "typed").symlink_to(mine)
    messages, heard = read(tmp_path / "typed")
    assert [(m.folder, m.raw) for m in messages] == [
        ((), b"x"),
        ((), b"x"),
        (("Absolute",), b"y"),
        (("Linked",), b"y"),
        (("store",), b"y"),
    ]
    assert [line for line in heard if ".Circle" in line] == heard


def test_a_directory_that_becomes_a_link_meanwhile_is_not_followed(tmp_path: Path, other: Path) -> None:
    mine = maildir(tmp_path / "mine")
    put(mine / "cur" / "1.a", b"x")
    inside = Inside(mine)
    assert inside.read(("cur", "1.a")) == b"x"
    (mine / "cur").rename(mine / "was")
    (mine / "cur").symlink_to(other / "cur")
    with pytest.raises(LeadsOut):
        inside.read(("cur", "1.secret:2,"))
    with pytest.raises(LeadsOut):
        inside.entries(("cur",))


# -- while a server is running


def test_a_message_whose_flags_change_meanwhile_is_found_under_its_new_name(tmp_path: Path) -> None:
    maildir(tmp_path)
    for number in (1, 2, 3):
        put(tmp_path / "new" / f"{number}.a", b"%d" % number)
    found: list[SourceMessage] = []
    for message in open_source(tmp_path, heard := Heard()).messages():
        if not found:
            (tmp_path / "new" / "2.a").rename(tmp_path / "cur" / "2.a:2,S")
            (tmp_path / "new" / "3.a").unlink()
        found.append(message)
    assert [(m.raw, m.flags) for m in found] == [(b"1", ""), (b"2", "\\Seen")]
    assert heard == [f"{tmp_path}/new/3.a: left out: it has gone while it was imported"]


def test_subscriptions_go_there_and_back() -> None:
    names_ = ["INBOX", "Work.2026", "a\\2eb"]
    assert write_subscriptions(names_) == b"V\t2\n\nINBOX\nWork\t2026\na\\2eb\n"
    assert read_subscriptions(write_subscriptions(names_)) == names_
    assert read_subscriptions(b"V\t2\n\na\x01tb\tc\n") == ["a\tb.c"]
