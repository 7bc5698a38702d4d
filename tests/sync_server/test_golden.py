"""Our server, given the client's half of real conversations, answers as the real server did, byte for byte.

The conversations are replayed in the order in which they were recorded, against one server, each connection's
octets in one piece (compressed where they were). What must differ: the text of the greeting, the answer to a
client that tries IMAP, STARTTLS (ours has no certificate here), and what depends on changes that were made in
between and not recorded (`UNRECORDED`).
"""

from __future__ import annotations

import re
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from cyrus_sync.sync_server.handlers import GRANTED
from tests.faults.fuzz_server import answer_lines
from tests.faults.server import RunningServer

DATA = Path(__file__).parent.parent / "data" / "transcripts"
NAMES = sorted(path.name.removesuffix(".c2s.bin") for path in DATA.glob("*.c2s.bin"))

RELEASES = sorted(path.name for path in DATA.iterdir() if path.is_dir())

UNRECORDED = {
    "10-all-users": "a folder of alice was renamed and deleted in between",
    "18-user-delete": "carol's ACLs were changed in between",
    "22-compress": "alice's mail had many changes in between",
}
_BANNER = re.compile(rb"^\* OK [^\r\n]*", re.M)
_DEFLATE_COMMAND = b"COMPRESS DEFLATE\r\n"
_DEFLATE_ANSWER = b"OK DEFLATE active\r\n"


def connections(stream: bytes, first_line: bytes) -> list[bytes]:
    """The connections of a recording: each begins with `first_line`."""
    starts = [found.start() for found in re.finditer(b"^" + re.escape(first_line), stream, re.M)]
    starts = [0, *(start for start in starts if start)]
    return [stream[a:b] for a, b in zip(starts, [*starts[1:], len(stream)], strict=True)]


def inflated(stream: bytes, switch: bytes) -> bytes:
    head, found, packed = stream.partition(switch)
    return head + found + zlib.decompressobj(-15).decompress(packed) if found else stream


@contextmanager
def replica(base: Path, password: str) -> Iterator[RunningServer]:
    options = {"servername": "replica.lab", "admins": "cyrus", "sasl_mech_list": "PLAIN"}
    with RunningServer(base, options=options, failed_login_pause=0) as running:
        PasswordFile(running.root / "passwd").set_password("cyrus", password)
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with replica(tmp_path_factory.mktemp("golden"), "labsecret") as running:
        yield running


def replay(server: RunningServer, octets: bytes) -> bytes:
    """Everything that our server says to these octets and their end."""
    with server.connect() as line:
        line.sendall(octets)
        line.shutdown(socket.SHUT_WR)
        heard = b""
        while data := line.recv(1 << 16):
            heard += data
    return inflated(heard, _DEFLATE_ANSWER)


def words(stream: bytes) -> list[bytes]:
    """The answers line by line, without the greeting's text and what 3.6.1 did not offer."""
    newer = {b"* %s\r\n" % name.encode() for name in GRANTED if name != "SIEVE-MAILBOX"}
    return [line for line in answer_lines(_BANNER.sub(b"* OK", stream, count=1)) if line not in newer]


def test_real_conversations_are_answered_as_a_real_server_answers(server: RunningServer) -> None:
    assert len(NAMES) >= 18
    for name in NAMES:
        said = connections((DATA / f"{name}.c2s.bin").read_bytes(), b"AUTHENTICATE ")
        answered = connections((DATA / f"{name}.s2c.bin").read_bytes(), b"* SASL PLAIN\r\n")
        assert len(said) == len(answered), name
        for octets, recorded in zip(said, answered, strict=True):
            ours = words(replay(server, octets))
            real = words(inflated(recorded, _DEFLATE_ANSWER))
            if name in UNRECORDED:
                ours, real = finals(ours), finals(real)
            if octets.startswith(b"C01 "):
                assert ours.pop() == b"C01 BAD this is csync\r\n"
                assert real.pop() == b"BAD IMAP_PROTOCOL_ERROR Unrecognized command\r\n"
            if name == "33-bad-password" and len(real) < len(ours):
                assert ours.pop() == b"NO authentication failure\r\n", "the client was killed in the pause"
            if name == "30-starttls-offered":
                real.remove(b"* STARTTLS\r\n")
            assert ours == real, name
    server.check_alive()


def finals(lines: list[bytes]) -> list[bytes]:
    return [line for line in lines if not line.startswith(b"* ")]


@pytest.mark.parametrize("release", RELEASES)
def test_other_releases_are_answered_as_their_own_server_answers(release: str, tmp_path: Path) -> None:
    """Byte for byte, but for what a release says in other words (`as_of`)."""
    recordings = sorted((DATA / release).glob("*.c2s.bin"))
    assert len(recordings) == 7
    with replica(tmp_path, "lab-secret") as server:
        for recording in recordings:
            name = recording.name.removesuffix(".c2s.bin")
            said = connections(recording.read_bytes(), b"AUTHENTICATE ")
            answered = connections((DATA / release / f"{name}.s2c.bin").read_bytes(), b"* SASL PLAIN\r\n")
            assert len(said) == len(answered), name
            for octets, recorded in zip(said, answered, strict=True):
                assert as_of(words(replay(server, octets))) == as_of(words(recorded)), name
        server.check_alive()


_OTHER_WORDS = {
    rb"\{(\d+)\+\}\r\n": rb"{\1}\r\n",  # 3.2 announces literals as a client does
    rb" USERFLAGS \(\)": b"",  # 3.12 says that there are none
    rb"(?<= )ANNOTATION-STORAGE \d+ ": b"",  # from 3.10 on both names of it are told
    rb"(FILENAME \S+\.bc LAST_UPDATE \d+ GUID )[0-9a-f]{40}": rb"\1-",  # each compiles scripts itself
}


def as_of(lines: list[bytes]) -> list[bytes]:
    """The answers after the greeting, in words of all releases, and with scripts in any order."""
    lines = lines[lines.index(b"* OK\r\n") + 1 :]
    for other, one in _OTHER_WORDS.items():
        lines = [re.sub(other, one, line) for line in lines]
    scripts = iter(sorted(line for line in lines if line.startswith(b"* SIEVE ")))
    return [next(scripts) if line.startswith(b"* SIEVE ") else line for line in lines]
