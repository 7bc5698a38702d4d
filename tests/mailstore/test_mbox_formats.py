"""mbox files as real mail programs write them, and what must not be taken for one of their lines."""

import mailbox
import subprocess
import sys
from pathlib import Path

import pytest

from cyrus_sync.mailstore.errors import BadInput
from cyrus_sync.mailstore.sources import open_source
from cyrus_sync.mailstore.sources.message import SourceMessage
from cyrus_sync.mailstore.sources.postmark import Kind, read_postmark

MARK = b"From bob@example.org Mon Jan  1 10:00:00 2024\n"


def read(path: Path) -> tuple[list[SourceMessage], list[str]]:
    heard: list[str] = []
    return list(open_source(path, heard.append).messages()), heard


def raws(tmp_path: Path, text: bytes) -> list[bytes]:
    (tmp_path / "box").write_bytes(text)
    messages, heard = read(tmp_path / "box")
    assert heard == []
    return [bytes(message.raw) for message in messages]


@pytest.mark.parametrize(
    ("line", "when"),
    [
        (b"From bob@example.org Mon Jan  1 10:00:00 2024", 1704103200),
        (b"From 1787@xxx Mon Jan 01 10:00:00 +0000 2024", 1704103200),
        (b"From - Mon Jan 01 10:00:00 2024\r\n", 1704103200),
        (b"From ???@??? Mon Jan 01 10:00:00 2024", 1704103200),
        (b'From "Joe Q. Public"@example.org Mon Jan  1 10:00:00 2024', 1704103200),
        (b"From <> Mon Jan  1 10:00:00 2024", 1704103200),
        (b"From Mon Jan  1 10:00:00 2024", 1704103200),
        (b"From bob Mon Jan  1 10:00 2024", 1704103200),
        (b"From bob Mon Jan  1 10:00 PST 2024", 1704132000),
        (b"From bob Mon Jan  1 10:00:00 MET DST 2024", 1704103200),
        (b"From bob Mon Jan  1 10:00:00 2024 +0100", 1704099600),
        (b"From bob Mon Jan  1 10:00:00 2024 PDT-0700", 1704128400),
        (b"From host!bob Mon Jan  1 10:00:00 2024 remote from host", 1704103200),
        (b"From bob Mon, 1 Jan 2024 10:00:00 +0100", 1704099600),
        (b"From bob 2024-01-01T10:00:00Z", 1704103200),
        (b"From bob@example.org Mon Jan  1 10:00:00 24", 1704103200),
    ],
)
def test_a_postmark_is_known_in_every_form_that_programs_write(line: bytes, when: int) -> None:
    assert read_postmark(line) == (Kind.SURE, when)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"From bob at example.org  Mon Jan  1 10:00:00 2024", Kind.LIKELY),
        (b"From \r\n", Kind.BARE),
        (b"From -", Kind.BARE),
        (b"From memory I would say that it was Mon", Kind.LOOSE),
        (b"From here on Jan 1 2024", Kind.LOOSE),
        (b"From a Monday Jan 1 10:00:00 2024", Kind.LOOSE),
        (b"From bob Mon Jan  1 10:00:00 2024 he was gone", Kind.LOOSE),
        (b"From " + b"a " * 2000 + b"Mon Jan  1 10:00:00 2024", Kind.LOOSE),
    ],
)
def test_text_is_no_postmark(line: bytes, kind: Kind) -> None:
    assert read_postmark(line).kind is kind


@pytest.mark.covers("mailstore: commands and options", "import")
def test_text_that_begins_with_from_splits_nothing(tmp_path: Path) -> None:
    text = (
        b"From memory it was so.\n\nFrom what I know, Subject: this\n\n"
        b"From the beginning\nNote: a line like a field\n"
    )
    assert raws(tmp_path, MARK + b"Subject: a\n\n" + text + b"\n" + MARK + b"Subject: b\n\n") == [
        b"Subject: a\r\n\r\n" + text.replace(b"\n", b"\r\n"),
        b"Subject: b\r\n\r\n",
    ]


def test_messages_without_a_blank_line_between_are_several(tmp_path: Path) -> None:
    one, two = b"Subject: a\n\nx\n", b"Subject: b\n\ny\n"
    assert raws(tmp_path, MARK + one + MARK + two) == [b"Subject: a\r\n\r\nx\r\n", b"Subject: b\r\n\r\ny\r\n"]
    assert raws(tmp_path, MARK + b"Subject: a\n" + MARK + two) == [
        b"Subject: a\r\n",
        b"Subject: b\r\n\r\ny\r\n",
    ]


def test_many_messages_without_any_blank_line_are_read_in_one_pass(tmp_path: Path) -> None:
    found = raws(tmp_path, (MARK + b"Subject: a\n") * 20_000)
    assert found == [b"Subject: a\r\n"] * 20_000


def test_a_postmark_in_text_without_a_header_behind_it_is_text(tmp_path: Path) -> None:
    assert len(raws(tmp_path, MARK + b"Subject: a\n\nwrote:\n" + MARK + b"hello there\n")) == 1


def test_new_thunderbird_writes_postmarks_without_anything(tmp_path: Path) -> None:
    text = b"From \r\nSubject: a\r\n\r\n>From x\r\nFrom \r\nx\r\n\r\nFrom \r\nSubject: b\r\n\r\ny\r\n\r\n"
    assert raws(tmp_path, text) == [
        b"Subject: a\r\n\r\nFrom x\r\nFrom \r\nx\r\n",
        b"Subject: b\r\n\r\ny\r\n",
    ]


def test_content_length_is_believed_where_it_ends_at_a_message_or_the_end(tmp_path: Path) -> None:
    inner = b"hi\n\n" + MARK + b"Subject: inside\n\n>From y\n"
    text = MARK + b"Content-Length: %d\n\n" % len(inner) + inner + b"\n"
    for end in (b"", MARK + b"Subject: b\n\n"):
        found = raws(tmp_path, text + end)
        assert found[0] == b"Content-Length: %d\r\n\r\n" % len(inner) + inner.replace(b"\n", b"\r\n")
        assert len(found) == (2 if end else 1)


@pytest.mark.parametrize("length", [0, 3, 5, 10**9, 10**14])
def test_a_content_length_that_is_wrong_is_not_believed(tmp_path: Path, length: int) -> None:
    one = MARK + b"Content-Length: %d\nSubject: a\n\nsome text\n\n" % length
    assert len(raws(tmp_path, one + MARK + b"Subject: b\n\ny\n")) == 2


def test_the_data_of_a_uw_folder_is_no_mail(tmp_path: Path) -> None:
    text = (
        b"From MAILER-DAEMON Mon Jan  1 10:00:00 2024\nDate: 01 Jan 2024 10:00:00 +0000\n"
        b"From: Mail System Internal Data <MAILER-DAEMON@host>\n"
        b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n"
        b"X-IMAP: 1704103200 0000000007 Later\nStatus: RO\n\n"
        b"This text is part of the internal format of your mail folder.\n\n"
        + MARK
        + b"Subject: a\nStatus: RO\nX-Status: A\nX-Keywords: Later                \nX-UID: 7\n\nx\n"
    )
    (tmp_path / "box").write_bytes(text)
    messages, heard = read(tmp_path / "box")
    assert [(m.raw, m.flags, m.uid) for m in messages] == [
        (b"Subject: a\r\n\r\nx\r\n", "\\Answered \\Seen Later", 7)
    ]
    assert heard == []
    source = open_source(tmp_path / "box", heard.append)
    assert source.counters(()) == (1704103200, 8, "")


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\n\r\n\n", b"\xef\xbb\xbf\n"])
def test_a_byte_order_mark_and_blank_lines_in_front_are_passed_over(tmp_path: Path, before: bytes) -> None:
    assert raws(tmp_path, before + MARK + b"Subject: a\n\nx\n") == [b"Subject: a\r\n\r\nx\r\n"]


def test_crlf_files_are_read_as_they_are(tmp_path: Path) -> None:
    text = (MARK + b"Subject: a\n\nx\n\n" + MARK + b"Subject: b\n\ny\n\n").replace(b"\n", b"\r\n")
    assert raws(tmp_path, text) == [b"Subject: a\r\n\r\nx\r\n", b"Subject: b\r\n\r\ny\r\n"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (MARK.replace(b"\n", b"\r") + b"Subject: secret\r\rx\r", "lines end in CR alone"),
        ("From a Mon".encode("utf-16"), "UTF-16"),
        (b"BABYL OPTIONS: -*- rmail -*-\nVersion: 5\n", "Babyl"),
        (b"Subject: secret\n\n" * 1000, "neither a Maildir"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, text: bytes, why: str) -> None:
    (tmp_path / "box").write_bytes(text)
    with pytest.raises(BadInput, match=why) as caught:
        read(tmp_path / "box")
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [mailbox.mbox, mailbox.MMDF])
def test_python_s_mbox_and_mmdf_are_read_as_they_were_written(
    tmp_path: Path, kind: type[mailbox.mbox] | type[mailbox.MMDF]
) -> None:
    box = kind(tmp_path / "box")
    for number in range(3):
        text = f"Subject: {number}\n\nto you\n\nend {number}\n"
        message = mailbox.mboxMessage(text) if kind is mailbox.mbox else mailbox.MMDFMessage(text)
        message.set_flags("RFA" if number else "")
        box.add(message)
    box.close()
    messages, heard = read(tmp_path / "box")
    assert heard == []
    # Python puts one line end more before the end of a message into an MMDF file.
    more = "\r\n" if kind is mailbox.MMDF else ""
    assert [m.raw for m in messages] == [
        f"Subject: {n}\r\n\r\nto you\r\n\r\nend {n}\r\n{more}".encode() for n in range(3)
    ]
    assert [m.flags for m in messages] == ["", *["\\Answered \\Flagged \\Seen"] * 2]


_CHILD = """
import resource, sys
from pathlib import Path
from cyrus_sync.mailstore.sources import open_source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = octets = 0
for message in open_source(Path(sys.argv[1]), print).messages():
    count += 1
    if isinstance(message.raw, bytes):
        octets += len(message.raw)
    else:
        octets += sum(len(piece) for piece in message.raw.data)
print(count, octets, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("kind", ["one large", "many", "blank lines", "blank in front", "no line end", "eml"])
def test_a_large_file_is_read_in_the_memory_of_a_few_blocks(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("x.eml" if kind == "eml" else "box")
    line = b"x" * 72 + b"\n"
    text = {
        "one large": MARK + b"Subject: a\n\n" + line * 1_000_000,
        "many": (MARK + b"Subject: a\n\n" + line * 50 + b"\n") * 20_000,
        "blank lines": MARK + b"Subject: a\n\n" + b"\n" * 20_000_000 + b"x\n",
        "blank in front": b"\n" * 20_000_000 + MARK + b"Subject: a\n\nx\n",
        "no line end": MARK + b"Subject: a\n\n" + b">" * 20_000_000,
        "eml": b"Subject: a\n\n" + line * 1_000_000,
    }[kind]
    path.write_bytes(text)
    result = subprocess.run(
        [sys.executable, "-c", _CHILD, path], capture_output=True, text=True, check=True, timeout=300
    )
    count, octets, grown = map(int, result.stdout.split())
    assert count == (20_000 if kind == "many" else 1)
    if kind != "blank in front":
        assert octets > 15_000_000
    assert grown < 24
