"""Attacks a running sync_server with spoiled conversations, for as long as one likes::

    python -m tests.faults.fuzz_server --seconds 3600 --seed 1

Each case is a connection of its own: a few good commands, a spoiled one, two markers, EXIT, and no more.
What must hold, whatever was sent:

* the server answers and closes within seconds (no hang), and still runs (no crash, no traceback logged);
* once a marker is answered, the answers are in step to the end;
* nothing is made outside the store's directories; memory stays bounded;
* a user who was never named is unchanged, although messages contain commands against him.

A failing case is printed with its number and seed: `--only N` repeats just that one.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import socket
import struct
import sys
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import corpus
from tests.faults.server import ADMIN, PASSWORD, RunningServer, mailbox, plain, sha1_hex, upload

ANSWER_SECONDS = 20.0
MAX_RSS_KB = 400_000
CHECK_EVERY = 100
_LITERAL = re.compile(rb"\{(\d+)\+?\}\r\n\Z")
_FILE = re.compile(rb"%\{(?:[^ ]+|\"[^\"]*\") [0-9a-f]{40} (\d+)\}\r\n\Z")
_FINAL = re.compile(rb"(?:OK|NO|BAD|BYE|\+)(?: |\r\n)|[A-Z]\d\d (?:OK|BAD) ")


class Broken(Exception):
    """What must hold does not."""


@dataclass
class Figures:
    cases: int = 0
    commands: int = 0
    in_step: int = 0
    swallowed: int = 0
    answers: dict[bytes, int] = field(default_factory=dict)
    peak_rss_kb: int = 0

    def __str__(self) -> str:
        kinds = ", ".join(f"{k.decode()} {n}" for k, n in sorted(self.answers.items()))
        return (
            f"{self.cases} cases, {self.commands} commands; markers in step {self.in_step}, swallowed by an "
            f"unfinished command {self.swallowed}; answers: {kinds}; peak RSS {self.peak_rss_kb // 1024} MB"
        )


def answer_lines(stream: bytes) -> list[bytes]:
    """The lines of what a server has said; literals and messages belong to their line."""
    lines = []
    start = at = 0
    while at < len(stream):
        end = stream.find(b"\n", at)
        if end < 0:
            raise Broken(f"the last answer has no end: {stream[start:][-200:]!r}")
        at = end + 1
        announced = _LITERAL.search(stream, max(start, at - 40), at) or _FILE.search(stream, start, at)
        if announced and stream.startswith(b"* ", start):
            at += int(announced[1])
            continue
        lines.append(stream[start:at])
        start = at
    return lines


class Fuzzer:
    """One server, many cases. Case N of a seed is always the same."""

    def __init__(self, server: RunningServer, seed: int, data: Path = corpus.DATA) -> None:
        self.server = server
        self.seed = seed
        self.conversations = list(corpus.conversations(data).values())
        self.all_commands = [c for own in self.conversations for c in own] + corpus.RARE
        self.figures = Figures()
        self._bystander = b""

    def prepare(self) -> None:
        """A user with mail in him, of whom no case speaks."""
        self.server.talk(bystander_commands())
        self._bystander = self._look_at_bystander()
        if self._bystander.count(b"* MAILBOX") < 3:
            raise Broken(f"the bystander could not be made: {self._bystander!r}")

    def _look_at_bystander(self) -> bytes:
        return self.server.talk(
            [
                b"APPLY CAPABILITIES (SIEVE-MAILBOX)",
                b"GET USER bystander",
                b"GET META bystander",
                b"GET FULLMAILBOX user.bystander",
                b"GET FULLMAILBOX user.bystander.kept",
                b"GET ANNOTATION user.bystander",
                b"GET FETCH %(MBOXNAME user.bystander PARTITION default UNIQUEID bystander00000000000000a "
                b"UID 1 GUID " + BYSTANDER_GUID + b")",
            ]
        )

    # -- one case

    def case(self, number: int) -> None:
        rng = random.Random(f"{self.seed}/{number}")
        logged_in = rng.random() < 0.85
        commands = self._commands(rng, logged_in)
        deflate = rng.random() < 0.15
        marker = b"M%d" % number
        tail = b"\r\nCOMPRESS %s\r\nCOMPRESS N%s\r\nEXIT\r\n" % (marker, marker)
        plan = b"\r\n".join(commands) + tail
        answer = self._converse(rng, logged_in, deflate, plan)
        self.figures.cases += 1
        self.figures.commands += len(commands)
        if answer is not None:
            self._check_answer(answer, marker)

    def _commands(self, rng: random.Random, logged_in: bool) -> list[bytes]:
        if rng.random() < 0.12:
            return [corpus.canary(rng, b"")]
        if rng.random() < 0.3:
            own = [rng.choice(self.all_commands) for _ in range(rng.randrange(1, 6))]
        else:
            own = rng.choice(self.conversations)
        if not logged_in:
            own = [*own[:1], rng.choice(PRE_LOGIN)]
        until = rng.randrange(len(own))
        return [*own[max(0, until - 6) : until], corpus.spoil(rng, own[until])]

    def _converse(self, rng: random.Random, logged_in: bool, deflate: bool, plan: bytes) -> bytes | None:
        """Everything that the server says; None where we hang up ourselves."""
        with self.server.connect(trusted=logged_in and rng.random() < 0.05) as line:
            line.settimeout(ANSWER_SECONDS)
            trusted = line.family == socket.AF_UNIX
            login = b"" if trusted or not logged_in else plain(ADMIN, PASSWORD)
            if deflate:
                deflater = zlib.compressobj(1, zlib.DEFLATED, -15)
                packed = deflater.compress(plan) + deflater.flush(zlib.Z_SYNC_FLUSH)
                if rng.random() < 0.2 and corpus.CANARY not in plan:
                    packed = corpus.flip(rng, packed)
                plan = b"COMPRESS DEFLATE\r\n" + packed
            data = login + plan
            if rng.random() < 0.1:
                self._hang_up(line, data[: rng.randrange(len(data) + 1)])
                return None
            pieces = _pieces(rng, data)
            heard = _exchange(line, pieces)
        if deflate:
            return _inflate_answer(heard)
        return heard

    def _hang_up(self, line: socket.socket, data: bytes) -> None:
        """In the middle of something, politely or with a reset."""
        try:
            line.sendall(data)
        except OSError:
            return
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _check_answer(self, heard: bytes, marker: bytes) -> None:
        lines = answer_lines(heard)
        for each in lines:
            final = _FINAL.match(each)
            if final:
                word = each.split(None, 1)[0]
                kind = word if word in (b"OK", b"NO", b"BAD", b"BYE", b"+") else b"tagged"
                self.figures.answers[kind] = self.figures.answers.get(kind, 0) + 1
            elif not each.startswith(b"* "):
                raise Broken(f"no line of the protocol: {each[:200]!r}")
        first = b"NO Unknown compression algorithm: %s\r\n" % marker
        if first not in lines:
            self.figures.swallowed += 1
            return
        rest = lines[lines.index(first) + 1 :]
        if rest != [b"NO Unknown compression algorithm: N%s\r\n" % marker, b"OK Finished\r\n"]:
            raise Broken(f"out of step after the marker: {rest!r}")
        self.figures.in_step += 1

    # -- between cases

    def check_server(self) -> None:
        """Alive, small, tidy, and the bystander untouched."""
        self.server.check_alive()
        self.figures.peak_rss_kb = max(self.figures.peak_rss_kb, self.server.peak_rss_kb())
        if self.figures.peak_rss_kb > MAX_RSS_KB:
            raise Broken(f"memory: {self.figures.peak_rss_kb} kB")
        strangers = self.server.strange_files()
        if strangers:
            raise Broken(f"files outside the store: {strangers}")
        now = self._look_at_bystander()
        if now != self._bystander:
            raise Broken(f"the bystander has changed:\n{self._bystander!r}\n{now!r}")

    def run(self, seconds: float, first: int = 0) -> Figures:
        """Cases until the time is up; raises `Broken` with the number of the case."""
        end = time.monotonic() + seconds
        number = first
        while time.monotonic() < end:
            try:
                self.case(number)
                if number % CHECK_EVERY == CHECK_EVERY - 1:
                    self.check_server()
            except (Broken, OSError, AssertionError) as error:
                raise Broken(f"seed {self.seed}, case {number}: {error}") from error
            number += 1
        self.check_server()
        return self.figures


BYSTANDER_MESSAGE = b"From: someone@example.org\r\nSubject: kept\r\n\r\nnever touch this\r\n"
BYSTANDER_GUID = sha1_hex(BYSTANDER_MESSAGE)

PRE_LOGIN = [
    b"AUTHENTICATE PLAIN AGZ1enoAd3Jvbmc=",
    b"AUTHENTICATE PLAIN\r\n*",
    b"AUTHENTICATE PLAIN\r\nAGZ1enoAd3Jvbmc=",
    b"AUTHENTICATE LOGIN\r\nZnV6eg==\r\nd3Jvbmc=",
    b"AUTHENTICATE SCRAM-SHA-256 biwsbj1mdXp6LHI9YWJj\r\nYz1iaXdzLHI9YWJjLHA9eA==",
    b"AUTHENTICATE CRAM-MD5",
    b"STARTTLS",
    b"COMPRESS DEFLATE x",
    b"C01 CAPABILITY",
    b"NOOP",
    b"RESTART",
    b"GET USER alice",
    b"APPLY MESSAGE (%{default 0123456789012345678901234567890123456789 3}\r\nabc)",
]


def bystander_commands() -> list[bytes]:
    """What makes the bystander: two mailboxes with a message each, and something of everything else."""
    notes = ((b"/comment", b"leave me"),)
    return [
        upload(BYSTANDER_MESSAGE),
        mailbox(b"user.bystander", b"bystander00000000000000a", [BYSTANDER_MESSAGE], notes=notes),
        mailbox(b"user.bystander.kept", b"bystander00000000000000b", [BYSTANDER_MESSAGE], notes=notes),
        b"APPLY QUOTA %(ROOT user.bystander LIMIT 1000 STORAGE 1000 MODSEQ 3)",
        b"APPLY SUB %(USERID bystander MBOXNAME user.bystander.kept)",
        b"APPLY SEEN %(USERID bystander UNIQUEID elsewhere LASTREAD 1 LASTUID 1 LASTCHANGE 1 SEENUIDS 1)",
    ]


def _pieces(rng: random.Random, data: bytes) -> list[bytes]:
    """`data` as it might be cut by a network."""
    if rng.random() < 0.6:
        return [data]
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 12)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _exchange(line: socket.socket, pieces: list[bytes]) -> bytes:
    """Send the pieces, say that no more comes, hear everything; `Broken` when it does not end."""
    heard = []
    try:
        for piece in pieces:
            line.sendall(piece)
            if len(pieces) > 1:
                time.sleep(0.0005)
        line.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the server may close early; what it said is still there
    while True:
        try:
            data = line.recv(1 << 16)
        except TimeoutError:
            raise Broken(f"hangs, having said {b''.join(heard)[-300:]!r}") from None
        except ConnectionResetError:
            break
        if not data:
            break
        heard.append(data)
    return b"".join(heard)


def _inflate_answer(heard: bytes) -> bytes:
    head, found, packed = heard.partition(b"OK DEFLATE active\r\n")
    if not found:
        return heard
    inflater = zlib.decompressobj(-15)
    try:
        return head + found + inflater.decompress(packed)
    except zlib.error as error:
        raise Broken(f"the answer does not inflate: {error}") from None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", type=int, help="run just this case")
    parser.add_argument(
        "--keep", type=Path, help="directory for the server's files (default: a temporary one)"
    )
    options = parser.parse_args()
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        base = options.keep or Path(scratch)
        with RunningServer(base, failed_login_pause=0) as server:
            fuzzer = Fuzzer(server, options.seed)
            try:
                fuzzer.prepare()
                if options.only is not None:
                    fuzzer.case(options.only)
                    fuzzer.check_server()
                else:
                    fuzzer.run(options.seconds)
            except Broken as error:
                print(f"BROKEN {error}\n{fuzzer.figures}\n{server.log_tail()}", file=sys.stderr)
                return 1
            print(f"seed {options.seed}: {fuzzer.figures}")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    sys.exit(main())
