"""deliver: what it takes, what it refuses, and that done is done."""

import subprocess
import sys
from pathlib import Path

import pytest

from cyrus_sync.mailstore.arriving import without_postmark
from tests.mailstore.conftest import MESSAGE, Site


def child(site: Site, *argv: str, output: str, text: bytes = MESSAGE) -> subprocess.CompletedProcess[bytes]:
    """The command as a process whose standard output goes to `output`, as a shell writes it."""
    command = f'"{sys.executable}" -m cyrus_sync.mailstore.cli -C "{site.conf}" deliver "$@" {output}'
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}", "bash", *argv],
        input=text,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        timeout=120,
    )


@pytest.mark.covers("mailstore: commands and options", "deliver")
@pytest.mark.parametrize("output", [">/dev/full", ">&-", "| true", "| head -c 0"])
def test_what_is_delivered_is_delivered_whoever_reads_what_we_print(alice: Site, output: str) -> None:
    result = child(alice, "alice", output=output)
    assert (result.returncode, result.stderr) == (0, b"")
    assert len(alice.records("user.alice")) == 1


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ("bob@x.example", b"<bob@x.example>"),
        ("<bob@x.example>", b"<bob@x.example>"),
        ("", b"<>"),
        ("<>", b"<>"),
        ('"b b"@x.example', b'<"b b"@x.example>'),
        ("bob@m\u00fcller.example", b"<bob@xn--mller-kva.example>"),
    ],
)
def test_a_return_path_is_one_field_of_ascii(alice: Site, typed: str, field: bytes) -> None:
    alice.ok("deliver", "alice", f"--return-path={typed}", stdin=MESSAGE)
    assert alice.ok("show", "user/alice", "1").raw == b"Return-Path: " + field + b"\r\n" + MESSAGE


@pytest.mark.covers("mailstore: commands and options", "deliver -f")
@pytest.mark.parametrize(
    "argv",
    [
        ["--return-path=a@x\r\nBcc: all@x"],
        ["--return-path=a@x\nSubject: y"],
        ["--return-path=a@x\n"],
        ["--return-path=a\rb@x"],
        ["--return-path=a\tb@x"],
        ["--return-path=a@x>\x0bB: <c"],
        ["--return-path=a@x> B: <c"],
        ["--return-path=j\u00fcrgen@x.example"],
        ["--return-path=\udcff@x"],
        ["--return-path=a@" + "x" * 1000],
        ["-f", "Later\n"],
        ["-f", "La ter"],
        ["-f", "\\Seen\n"],
        ["-m", "Work\n"],
        ["-m", "Wo\r\nrk"],
    ],
)
def test_no_argument_brings_a_line_of_its_own(alice: Site, argv: list[str]) -> None:
    result = alice.run("deliver", "alice", *argv, stdin=MESSAGE)
    assert result.status in (64, 67)
    assert "\r" not in result.err and "Traceback" not in result.err
    assert alice.records("user.alice") == [] and alice.records("user.alice.Work") == []


def test_a_userid_with_a_line_end_is_nobody(alice: Site) -> None:
    assert alice.run("deliver", "alice\n", stdin=MESSAGE).status == 67


@pytest.mark.parametrize(
    ("pieces", "kept"),
    [
        ([b"From bob Mon\nSubject: x\n"], b"Subject: x\n"),
        ([b"Fr", b"om bob", b" Mon", b"\n", b"Subject: x\n"], b"Subject: x\n"),
        ([b"From: bob\n"], b"From: bob\n"),
        ([b"F"], b"F"),
        ([b"From bob"], b""),
        ([b"From ", b"a", b""], b""),
        ([], b""),
    ],
)
def test_a_postmark_in_front_is_dropped_wherever_the_pipe_cuts_it(pieces: list[bytes], kept: bytes) -> None:
    assert b"".join(without_postmark(pieces)) == kept


@pytest.mark.parametrize("text", [b"From bob Mon Jan  1 10:00:00 2024\n", b""])
def test_nothing_is_no_message(alice: Site, text: bytes) -> None:
    assert alice.run("deliver", "alice", "-r", "a@x", stdin=text).status == 65


_MEASURED = """
import resource, sys
from cyrus_sync.mailstore.cli import main
status = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
sys.exit(status)
"""


def measured(site: Site, *argv: str, source: Path) -> int:
    """The most memory that the command took, in MiB."""
    with source.open("rb") as text:
        result = subprocess.run(
            [sys.executable, "-c", _MEASURED, "-C", str(site.conf), *argv],
            stdin=text,
            capture_output=True,
            check=True,
            timeout=300,
        )
    return int(result.stderr.split()[-1])


@pytest.mark.parametrize("argv", [["deliver", "alice"], ["import", "alice", "FILE"]])
def test_a_large_message_takes_the_memory_of_a_few_blocks(
    alice: Site, tmp_path: Path, argv: list[str]
) -> None:
    small, large = tmp_path / "small.eml", tmp_path / "large.eml"
    small.write_bytes(b"Subject: small\n\nx\n")
    with large.open("wb") as file:
        file.write(b"Subject: large\n\n")
        for number in range(100):
            file.write(b"%078d\n" % number * 12_000)
    usual, most = (
        measured(alice, *[str(path) if word == "FILE" else word for word in argv], source=path)
        for path in (small, large)
    )
    out = str(tmp_path / "out")
    assert measured(alice, "export", "alice", f"{out}1", source=small) < usual + 32
    assert measured(alice, "export", "alice", f"{out}2", "--format", "mbox", source=small) < usual + 32
    assert (tmp_path / "out2" / "INBOX.mbox").stat().st_size > large.stat().st_size
    records = alice.records("user.alice")
    assert records[-1].size == large.stat().st_size + 1_200_002
    assert most < usual + 32
