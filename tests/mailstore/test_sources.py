import os
from pathlib import Path

import pytest

from cyrus_sync.mailstore.errors import BadInput, NoInput
from cyrus_sync.mailstore.sources import open_source
from cyrus_sync.mailstore.sources.content import stored_form, to_crlf
from cyrus_sync.mailstore.sources.message import SourceMessage, parse_date


class Heard(list[str]):
    """What a source reported."""

    def __call__(self, problem: str) -> None:
        self.append(problem)


def read(path: Path) -> tuple[list[SourceMessage], Heard]:
    heard = Heard()
    return list(open_source(path, heard).messages()), heard


def maildir(path: Path) -> Path:
    for part in ("cur", "new", "tmp"):
        (path / part).mkdir(parents=True, exist_ok=True)
    return path


def put(path: Path, raw: bytes, when: int = 1700000000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    os.utime(path, (when, when))


# -- Maildir


def test_a_maildir_gives_flags_dates_and_order_of_delivery(tmp_path: Path) -> None:
    maildir(tmp_path)
    put(tmp_path / "cur" / "1700000002.M1.host,S=9:2,FRSTDP", b"Subject: b\n\nb\n", 1600000000)
    put(tmp_path / "cur" / "1700000001.M1.host:2,", b"Subject: a\r\n\r\na\r\n", 1600000001)
    put(tmp_path / "new" / "1700000003.M1.host", b"Subject: c\n\nc\n", 1600000002)
    put(tmp_path / "tmp" / "1700000004.M1.host", b"unfinished")
    messages, heard = read(tmp_path)
    assert [(m.folder, m.raw, m.internaldate, m.flags) for m in messages] == [
        ((), b"Subject: a\r\n\r\na\r\n", 1600000001, ""),
        (
            (),
            b"Subject: b\r\n\r\nb\r\n",
            1600000000,
            "\\Deleted \\Answered \\Flagged \\Draft \\Seen $Forwarded",
        ),
        ((), b"Subject: c\r\n\r\nc\r\n", 1600000002, ""),
    ]
    assert heard == []


def test_dovecot_keywords_are_those_of_the_folder(tmp_path: Path) -> None:
    maildir(tmp_path)
    maildir(tmp_path / ".Work.2026")
    (tmp_path / "dovecot-keywords").write_text("0 $Label1\n1 Later\n2 bad word\nx y\n")
    put(tmp_path / "cur" / "1.a:2,Sabc", b"x")
    put(tmp_path / ".Work.2026" / "cur" / "1.a:2,a", b"x")
    messages, _ = read(tmp_path)
    assert [(m.folder, m.flags) for m in messages] == [((), "\\Seen $Label1 Later"), (("Work", "2026"), "")]


def test_folders_are_found_in_both_layouts_and_named_for_the_wire(tmp_path: Path) -> None:
    maildir(tmp_path)
    maildir(tmp_path / ".Entw&APw-rfe")
    maildir(tmp_path / ".a&AC4-b.c")
    maildir(tmp_path / "nested" / "\u00dcber uns" / "v1.2")
    (tmp_path / ".notes").mkdir()
    source = open_source(tmp_path, Heard())
    assert source.folders() == [
        (),
        ("Entw&APw-rfe",),
        ("a^b", "c"),
        ("nested", "&ANw-ber uns", "v1^2"),
    ]


def test_what_cannot_be_imported_is_reported(tmp_path: Path) -> None:
    maildir(tmp_path)
    maildir(tmp_path / ".bad\tname")
    put(tmp_path / "cur" / "1.empty:2,S", b"")
    put(tmp_path / "cur" / "2.good:2,S", b"x")
    messages, heard = read(tmp_path)
    assert [m.raw for m in messages] == [b"x"]
    assert len(heard) == 2
    assert "folder left out" in heard[0]
    assert heard[1].endswith("1.empty:2,S: left out: it is empty")


@pytest.mark.parametrize(
    "text", ["Work\nWork.2026\nINBOX\n", "V\t2\n\nWork\nWork\t2026\nINBOX\n", "Work\nWork/2026\nINBOX"]
)
def test_subscriptions_are_read_in_every_form(tmp_path: Path, text: str) -> None:
    maildir(tmp_path)
    (tmp_path / "subscriptions").write_text(text)
    assert open_source(tmp_path, Heard()).subscriptions() == [("Work",), ("Work", "2026"), ()]


# -- mbox

MBOX = b"""From bob@example.org Mon Jan  1 10:00:00 2024
Status: RO
X-Status: AF
X-Keywords: Later $Label1 (bad
Subject: one
X-UID: 7

>From here
>>From there
From not a separator

From carol@example.org  Tue, 02 Jan 2024 10:00:00 +0100
Subject: two
\tfolded

last

From dave@example.org nonsense
Subject: three
Date: Wed, 3 Jan 2024 10:00:00 +0000
X-Mozilla-Status: 1003

x
From: not a separator either

From eve@example.org Mon Jan  1 10:00:00 2024
Subject: deleted in Thunderbird
X-Mozilla-Status: 0009

gone

From frank@example.org Mon Jan  1 10:00:00 2024

"""


def test_an_mbox_gives_messages_flags_and_dates(tmp_path: Path) -> None:
    (tmp_path / "box").write_bytes(MBOX)
    messages, heard = read(tmp_path / "box")
    assert [(m.raw, m.internaldate, m.flags) for m in messages] == [
        (
            b"Subject: one\r\n\r\nFrom here\r\n>From there\r\nFrom not a separator\r\n",
            1704103200,
            "\\Answered \\Flagged \\Seen Later $Label1",
        ),
        (b"Subject: two\r\n\tfolded\r\n\r\nlast\r\n", 1704186000, ""),
        (
            b"Subject: three\r\nDate: Wed, 3 Jan 2024 10:00:00 +0000\r\nX-Mozilla-Status: 1003\r\n\r\n"
            b"x\r\nFrom: not a separator either\r\n",
            1704276000,
            "\\Answered \\Seen $Forwarded",
        ),
    ]
    assert heard == [
        f"{tmp_path}/box: message 5 left out: it is empty",
        f"{tmp_path}/box: 1 messages left out: they are marked as deleted for good",
        f"{tmp_path}/box: 1 keywords left out, which IMAP does not allow: (bad",
    ]


def test_an_empty_file_is_an_empty_mbox(tmp_path: Path) -> None:
    (tmp_path / "box").touch()
    assert read(tmp_path / "box") == ([], [])


# -- trees


def test_a_tree_of_eml_files_becomes_folders(tmp_path: Path) -> None:
    put(
        tmp_path / "b.eml",
        b"Subject: b\nReceived: by x; Mon, 1 Jan 2024 10:00:00 +0000\n"
        b"Date: Tue, 2 Jan 2024 10:00:00 +0000\n\n",
    )
    put(tmp_path / "a.EML", b"Subject: a\nDate: Tue, 2 Jan 2024 10:00:00 +0000\n\n")
    put(tmp_path / "Pr\u00fcfung" / "v1.0" / "c.eml", b"Subject: c\nStatus: R\n\n", 1650000000)
    put(tmp_path / "Pr\u00fcfung" / "readme.txt", b"no mail")
    put(tmp_path / ".hidden" / "x.eml", b"Subject: x\n\n")
    put(tmp_path / "empty.eml", b" \n")
    messages, heard = read(tmp_path)
    assert [(m.folder, m.raw[:10], m.internaldate, m.flags) for m in messages] == [
        ((), b"Subject: a", 1704189600, ""),
        ((), b"Subject: b", 1704103200, ""),
        (("Pr&APw-fung", "v1^0"), b"Subject: c", 1650000000, "\\Seen"),
    ]
    assert heard == [
        f"{tmp_path}: 2 entries passed over that hold no mail: .hidden/, Pr\u00fcfung/readme.txt",
        f"{tmp_path}/empty.eml: left out: it is empty",
    ]
    assert open_source(tmp_path / "b.eml", Heard()).folders() == [()]


def test_mboxes_and_maildirs_in_a_tree_are_folders_too(tmp_path: Path) -> None:
    (tmp_path / "Local.sbd").mkdir()
    (tmp_path / "Inbox").write_bytes(b"From x Mon Jan  1 10:00:00 2024\nSubject: i\n\n")
    (tmp_path / "Inbox.msf").write_bytes(b"From x index, not mail")
    (tmp_path / "Local.sbd" / "Old.mbox").write_bytes(b"From x Mon Jan  1 10:00:00 2024\nSubject: o\n\n")
    maildir(tmp_path / "md")
    maildir(tmp_path / "md" / ".sub")
    put(tmp_path / "md" / ".sub" / "cur" / "1.a:2,S", b"Subject: m\n\n")
    messages, _ = read(tmp_path)
    assert [(m.folder, m.raw) for m in messages] == [
        ((), b"Subject: i\r\n\r\n"),
        (("Local", "Old"), b"Subject: o\r\n\r\n"),
        (("md", "sub"), b"Subject: m\r\n\r\n"),
    ]
    source = open_source(tmp_path, Heard())
    assert source.folders() == [(), ("Local", "Old"), ("md",), ("md", "sub")]
    assert source.size() == sum(m.consumed for m in messages)


def test_what_is_no_mail_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="neither a Maildir"):
        open_source(tmp_path / "text", Heard())
    with pytest.raises(BadInput, match=r"no \.eml file"):
        open_source(tmp_path / "empty", Heard())
    with pytest.raises(NoInput, match="No such file"):
        open_source(tmp_path / "none", Heard())


# -- line ends and dates


def test_a_file_whose_first_line_ends_in_crlf_is_taken_as_it_is() -> None:
    assert stored_form(b"a: b\r\n\r\nbare\nlf\rcr\r\n") == b"a: b\r\n\r\nbare\nlf\rcr\r\n"
    assert stored_form(b"a: b\n\nbare\r\nlf\n") == b"a: b\r\n\r\nbare\r\nlf\r\n"
    assert stored_form(b"no line end") == b"no line end"
    assert to_crlf(b"\n\r\n\n") == b"\r\n\r\n\r\n"


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("Mon Jan  1 10:00:00 2024", 1704103200),
        ("Mon, 1 Jan 2024 10:00:00 +0100", 1704099600),
        ("Fri, 31 Dec 1969 23:00:00 +0000", None),
        ("Mon, 1 Jan 99999 10:00:00 +0000", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_dates_are_read_leniently(text: str, when: int | None) -> None:
    assert parse_date(text) == when


def test_a_sequence_that_only_looks_like_a_system_flag_is_left_out_and_the_message_is_not(
    tmp_path: Path,
) -> None:
    put(tmp_path / "mh/1", b"Subject: one\n\n1\n")
    (tmp_path / "mh/.mh_sequences").write_text("\\ed: 1\n\\Expunged: 1\n\\flagged: 1\n")
    messages, heard = read(tmp_path)
    assert [m.flags for m in messages] == ["\\Flagged \\Seen"]
    assert [line for line in heard if "2 keywords left out" in line]
