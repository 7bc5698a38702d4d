"""Trees of mail as other programs leave them: Apple Mail, MH, Thunderbird, links, and what is no mail."""

import mailbox
import os
import plistlib
from pathlib import Path

import pytest

from cyrus_sync.mailstore.sources import open_source
from cyrus_sync.mailstore.sources.message import SourceMessage
from tests.mailstore.conftest import Site
from tests.mailstore.test_sources import put

MBOX = b"From x Mon Jan  1 10:00:00 2024\nSubject: m\n\n"


def read(path: Path) -> tuple[list[SourceMessage], list[str]]:
    heard: list[str] = []
    return list(open_source(path, heard.append).messages()), heard


def emlx(raw: bytes, flags: int) -> bytes:
    return b"%-10d\n" % len(raw) + raw + plistlib.dumps({"flags": flags, "date-received": 1600000000})


def test_apple_mail_s_files_become_messages_with_flags_in_the_folders_that_it_shows(tmp_path: Path) -> None:
    spread = "0A1B2C3D-0000-1111-2222-333344445555"
    put(
        tmp_path / "Work.mbox" / spread / "Data" / "1" / "Messages" / "11.emlx",
        emlx(b"Subject: b\n\nx\n", 0b11),
    )
    put(tmp_path / "Work.mbox" / spread / "Data" / "Messages" / "9.emlx", emlx(b"Subject: a\n\nx\n", 0b10100))
    put(tmp_path / "Work.mbox" / "Sub.mbox" / "Messages" / "3.partial.emlx", emlx(b"Subject: c\n\n", 1 << 8))
    messages, heard = read(tmp_path)
    assert sorted((m.folder, m.raw, m.flags, m.internaldate) for m in messages) == [
        (("Work",), b"Subject: a\r\n\r\nx\r\n", "\\Answered \\Flagged", 1600000000),
        (("Work",), b"Subject: b\r\n\r\nx\r\n", "\\Deleted \\Seen", 1600000000),
        (("Work", "Sub"), b"Subject: c\r\n\r\n", "$Forwarded", 1600000000),
    ]
    assert len(heard) == 1 and "3.partial.emlx: imported without the attachments" in heard[0]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"Subject: x\n\n", "does not begin with the length"),
        (b"999\nSubject: x\n\n", "shorter than its first line says"),
        (b"1\nx<plist", "property list cannot be read"),
        (b"", "does not begin with the length"),
    ],
)
def test_a_bad_emlx_is_named_and_the_rest_is_imported(tmp_path: Path, content: bytes, why: str) -> None:
    put(tmp_path / "1.emlx", content)
    put(tmp_path / "2.emlx", emlx(b"Subject: a\n\n", 0))
    messages, heard = read(tmp_path)
    assert len(messages) == 1
    assert len(heard) == 1 and why in heard[0] and "1.emlx" in heard[0]


def test_mh_folders_are_read_as_python_writes_them(tmp_path: Path) -> None:
    box = mailbox.MH(tmp_path / "mh")
    for number in range(12):
        message = mailbox.MHMessage(f"Subject: {number}\n\nx\n")
        for name in ["unseen"] * (number == 1) + ["replied", "flagged", "later"] * (number == 2):
            message.add_sequence(name)
        box.add(message)
    below = box.add_folder("sub")
    below.add(mailbox.MHMessage("Subject: below\n\n"))
    box.close()
    (tmp_path / "mh" / ",3").write_bytes(b"Subject: removed\n\n")
    (tmp_path / "mh" / "#4").write_bytes(b"Subject: removed\n\n")
    messages, heard = read(tmp_path / "mh")
    assert [m.raw for m in messages if not m.folder] == [
        f"Subject: {n}\r\n\r\nx\r\n".encode() for n in range(12)
    ]
    assert [m.folder for m in messages][12:] == [("sub",)]
    assert [m.flags for m in messages[:4]] == ["\\Seen", "", "\\Answered \\Flagged \\Seen later", "\\Seen"]
    assert heard == [f"{tmp_path}/mh: 2 messages left out: MH has removed them (, or # in front)"]


def test_numbers_can_be_mboxes_of_a_year_and_other_things(tmp_path: Path) -> None:
    put(tmp_path / "2024", MBOX)
    put(tmp_path / "7", b"\x89PNG no mail")
    messages, heard = read(tmp_path)
    assert [m.folder for m in messages] == [("2024",)]
    assert heard == [f"{tmp_path}: 1 entries passed over that hold no mail: 7"]


def test_links_that_lead_out_or_nowhere_are_named_and_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "else" / "secret.eml", b"Subject: secret\n\n")
    put(tmp_path / "in" / "a.eml", b"Subject: a\n\n")
    (tmp_path / "in" / "out.eml").symlink_to(tmp_path / "else" / "secret.eml")
    (tmp_path / "in" / "outdir").symlink_to(tmp_path / "else")
    (tmp_path / "in" / "broken.eml").symlink_to("nowhere")
    (tmp_path / "in" / "circle.eml").symlink_to("circle.eml")
    (tmp_path / "in" / "inside.eml").symlink_to("a.eml")
    os.mkfifo(tmp_path / "in" / "pipe.eml")
    messages, heard = read(tmp_path / "in")
    assert [m.raw for m in messages] == [b"Subject: a\r\n\r\n"] * 2
    assert len(heard) == 5
    for name, why in [
        ("broken.eml", "leads nowhere"),
        ("circle.eml", "leads nowhere"),
        ("out.eml", "leads out"),
        ("outdir", "leads out"),
        ("pipe.eml", "no file"),
    ]:
        assert sum(f"/{name}: " in line and why in line for line in heard) == 1


def test_a_link_that_is_put_in_the_place_of_a_file_meanwhile_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "secret", b"Subject: secret\n\n")
    put(tmp_path / "in" / "a.eml", b"Subject: a\n\n")
    put(tmp_path / "in" / "box", MBOX)
    heard: list[str] = []
    source = open_source(tmp_path / "in", heard.append)
    for name in ("a.eml", "box"):
        (tmp_path / "in" / name).unlink()
        (tmp_path / "in" / name).symlink_to(tmp_path / "secret")
    assert list(source.messages()) == []
    assert len(heard) == 2 and all("symbolic link" in line for line in heard)


def test_what_thunderbird_has_deleted_or_keeps_beside_its_mail_is_no_mail(tmp_path: Path) -> None:
    put(tmp_path / "a.eml", b"Subject: a\nX-Mozilla-Status: 0008\n\nx\n")
    put(tmp_path / "b.eml", b"Subject: b\nX-Mozilla-Status: 0007\nX-Mozilla-Keys: $label1 later\n\nx\n")
    put(tmp_path / "Trash", b"")
    for name in ("Trash.msf", "Inbox.msf"):
        put(tmp_path / name, b"// <!-- <mdb:mork:z")
    put(tmp_path / "Inbox", MBOX)
    messages, heard = read(tmp_path)
    assert [(m.raw[:10], m.flags) for m in messages if isinstance(m.raw, bytes)] == [
        (b"Subject: b", "\\Answered \\Flagged \\Seen $label1 later"),
        (b"Subject: m", ""),
    ]
    assert ("Trash",) in open_source(tmp_path, heard.append).folders()
    assert heard == [f"{tmp_path}: 1 messages left out: they are marked as deleted for good"]


@pytest.mark.covers("mailstore: commands and options", "import")
def test_what_holds_no_mail_is_counted_and_the_exit_status_says_so(alice: Site) -> None:
    source = alice.path / "mail"
    for number in range(7):
        put(source / f"{number}.pdf", b"%PDF")
    put(source / "a.eml", b"Subject: a\n\n")
    put(source / "rmail", b"BABYL OPTIONS:\n")
    result = alice.run("import", "alice", str(source))
    assert (result.status, result.lines) == (1, ["1 message imported into 1 mailbox"])
    assert "7 entries passed over that hold no mail: 0.pdf, 1.pdf, 2.pdf, 3.pdf, 4.pdf, …" in result.err
    assert "rmail: left out: it is a Babyl file" in result.err


def test_two_files_of_one_name_become_two_folders(tmp_path: Path) -> None:
    put(tmp_path / "Work", MBOX)
    put(tmp_path / "Work.mbox", MBOX)
    messages, heard = read(tmp_path)
    assert [m.folder for m in messages] == [("Work",), ("Work^mbox",)]
    assert heard == []


def test_an_unreadable_directory_or_box_does_not_end_the_import(tmp_path: Path) -> None:
    put(tmp_path / "box", MBOX)
    put(tmp_path / "zbox", MBOX)
    heard: list[str] = []
    source = open_source(tmp_path, heard.append)
    (tmp_path / "box").unlink()
    assert [m.folder for m in source.messages()] == [("zbox",)]
    assert len(heard) == 1 and "box" in heard[0]
