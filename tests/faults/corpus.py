"""The recorded conversations of a real client, cut into commands, ways to spoil them, and a pool in which
spoiled input that led somewhere new is spoiled further.

A command is its bytes with every literal and message in it, without the line end. Cutting needs no parser
of ours: a literal announces itself at the end of a line.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path

DATA = Path(__file__).parent.parent / "data" / "transcripts"

_ANNOUNCED = re.compile(rb"(?:\{(\d+)\+?\}|%\{[^ ]+ [^ ]+ (\d+)\})\r?\n\Z")
_NUMBER = re.compile(rb"(?<![\w.])\d+(?![\w.])")
_WORD = re.compile(rb"[^\s()\"{}%]+")


def inflated(stream: bytes, switch: bytes = b"COMPRESS DEFLATE\r\n") -> bytes:
    """`stream` with everything after `switch` inflated."""
    head, found, packed = stream.partition(switch)
    if not found:
        return stream
    inflater = zlib.decompressobj(-15)
    return head + switch + inflater.decompress(packed)


def commands(stream: bytes) -> Iterator[bytes]:
    """The commands of a client's side of a conversation."""
    at = start = 0
    while at < len(stream):
        end = stream.find(b"\n", at)
        if end < 0:
            return
        at = end + 1
        announced = _ANNOUNCED.search(stream, max(start, at - 200), at)
        if announced:
            at += int(announced[1] or announced[2])
            continue
        yield stream[start:at].rstrip(b"\r\n")
        start = at


def conversations(data: Path = DATA) -> dict[str, list[bytes]]:
    """Commands of each recorded conversation, login and EXIT left out."""
    found = {}
    for path in sorted(data.glob("*.c2s.bin")):
        own = [
            command
            for command in commands(inflated(path.read_bytes()))
            if not command.startswith((b"AUTHENTICATE", b"COMPRESS", b"EXIT", b"STARTTLS"))
        ]
        if own:
            found[path.name.removesuffix(".c2s.bin")] = own
    return found


def answers(data: Path = DATA) -> list[bytes]:
    """The server's side of each recorded conversation."""
    streams = (path.read_bytes() for path in sorted(data.glob("*.s2c.bin")))
    return [inflated(stream, b"OK DEFLATE active\r\n") for stream in streams]


RARE = [
    b"APPLY RENAME %(OLDMBOXNAME user.alice.lists NEWMBOXNAME user.alice.moved PARTITION default "
    b"UIDVALIDITY 7)",
    b"APPLY LOCAL_RENAME %(OLDMBOXNAME user.alice.moved NEWMBOXNAME user.alice.lists PARTITION default)",
    b"APPLY EXPUNGE %(MBOXNAME user.alice UNIQUEID l1i45mjkqq1qpukmwpwwo7hw UID (1 2 3 99))",
    b"APPLY UNMAILBOX user.alice.empty",
    b"APPLY LOCAL_UNMAILBOX user.alice.lists.cyrus",
    b"APPLY UNUSER dora",
    b"APPLY LOCAL_UNUSER jane",
    b"APPLY UNQUOTA user.alice",
    b'APPLY ANNOTATION %(MBOXNAME user.alice ENTRY /comment USERID "" VALUE {5+}\r\na\x00b\r\n)',
    b'APPLY ANNOTATION %(MBOXNAME "" ENTRY /motd USERID "" VALUE "hello there")',
    b'APPLY UNANNOTATION %(MBOXNAME "" ENTRY /motd USERID "")',
    b"APPLY SIEVE %(USERID bob FILENAME main.script LAST_UPDATE 1700000000 CONTENT {7+}\r\nkeep;\r\n)",
    b"APPLY ACTIVATE_SIEVE %(USERID bob FILENAME main.bc)",
    b"APPLY UNACTIVATE_SIEVE %(USERID bob)",
    b"APPLY UNSIEVE %(USERID bob FILENAME main.script)",
    b"APPLY FORCE %()",
    b"APPLY CAPABILITIES (SIEVE-MAILBOX REPLICATION-ARCHIVE)",
    b"GET META alice",
    b"GET UNIQUEIDS (l1i45mjkqq1qpukmwpwwo7hw nosuchid)",
    b"GET FULLMAILBOX user.alice",
    b"GET FULLMAILBOX user.alice.lists",
    b"GET QUOTA user.alice",
    b'GET ANNOTATION ""',
    b"GET ANNOTATION user.alice.lists",
    b"GET FETCH %(MBOXNAME user.alice PARTITION default UNIQUEID l1i45mjkqq1qpukmwpwwo7hw "
    b"GUID aba82959ececf5a30f63e9c81f19ec1232a723f0 UID 1)",
    b"GET FETCH_SIEVE %(USERID bob FILENAME main.script)",
    b'RESTORE MAILBOX %(MBOXNAME user.bob.back PARTITION default ACL "bob\tlrswipkxtecdan\t" OPTIONS P '
    b"RECORD ())",
    b"RESTORE MAILBOX %(MBOXNAME user.alice RECORD (%(UID 1 MODSEQ 1 LAST_UPDATED 1700000000 FLAGS (\\Seen) "
    b"INTERNALDATE 1700000000 SIZE 145 GUID aba82959ececf5a30f63e9c81f19ec1232a723f0)))",
    b"RESTART",
    b"NOOP",
]
"""Commands that the recorded conversations do not show."""

INTERESTING_NUMBERS = [
    b"0",
    b"1",
    b"-1",
    b"127",
    b"4294967294",
    b"4294967295",
    b"4294967296",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551615",
    b"99999999999999999999999",
    b"007",
    b"1e5",
    b"NIL",
]
NASTY_WORDS = [
    b"NIL",
    b"nil",
    b'""',
    b'"NIL"',
    b"()",
    b"%()",
    b"(a (b (c)))",
    b"%(A B)",
    b"%(UID 1 UID 2)",
    b"user.",
    b".user",
    b"user..x",
    b"user./../../x",
    b"user.x/../../../../escape",
    b"/etc/escape",
    b"../../../escape",
    b"user.^^.x",
    b"user.^.^.escape",
    b"user.~",
    b"DELETED.user.alice.x.6B013001",
    b"user." + b"a" * 600,
    b'"a b"',
    b'"unfinished',
    b"{3+}\r\nabc",
    b"{3}\r\nabc",
    b"{3+}\r\n\x00\r\n",
    b"{0+}\r\n",
    b"{999999999+}\r\n",
    b"{99999999999999999999+}\r\n",
    b"{-1+}\r\n",
    b"{10+}abc",
    b"\xff\xfe\x80",
    b"\\Seen",
    b"\\",
    b"%",
    b"%{default 0123456789012345678901234567890123456789 3}\r\nabc",
    b"%{nowhere 0123456789012345678901234567890123456789 3}\r\nabc",
    b"%{../../escape 0123456789012345678901234567890123456789 3}\r\nabc",
    b"%{default ../../../../escape 3}\r\nabc",
    b"%{{7+}\r\ndefault {4+}\r\nabcd 3}\r\nabc",
    b"%{default 0123456789012345678901234567890123456789 4294967295}\r\n",
    b"0" * 40,
    b"(" * 2000,
    b"(" * 500 + b")" * 500,
    b"%(A " * 500,
    b"x" * 5000,
]
CANARY = b"\r\nAPPLY UNUSER bystander\r\nAPPLY UNMAILBOX user.bystander\r\n"


def _cut(rng: random.Random, text: bytes) -> tuple[int, int]:
    first = rng.randrange(len(text) + 1)
    return first, min(len(text), first + int(rng.expovariate(1 / 12)) + 1)


def flip(rng: random.Random, text: bytes) -> bytes:
    spoiled = bytearray(text)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if spoiled:
            spoiled[rng.randrange(len(spoiled))] = rng.randrange(256)
    return bytes(spoiled)


def remove(rng: random.Random, text: bytes) -> bytes:
    first, last = _cut(rng, text)
    return text[:first] + text[last:]


def double(rng: random.Random, text: bytes) -> bytes:
    first, last = _cut(rng, text)
    return text[:last] + text[first:last] * rng.choice((1, 1, 3, 50)) + text[last:]


def truncate(rng: random.Random, text: bytes) -> bytes:
    return text[: rng.randrange(len(text) + 1)]


def insert(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(NASTY_WORDS) + text[at:]


def _replace(rng: random.Random, text: bytes, pattern: re.Pattern[bytes], others: list[bytes]) -> bytes:
    places = list(pattern.finditer(text))
    if not places:
        return insert(rng, text)
    place = rng.choice(places)
    return text[: place.start()] + rng.choice(others) + text[place.end() :]


def number(rng: random.Random, text: bytes) -> bytes:
    return _replace(rng, text, _NUMBER, INTERESTING_NUMBERS)


def word(rng: random.Random, text: bytes) -> bytes:
    return _replace(rng, text, _WORD, NASTY_WORDS)


def swap(rng: random.Random, text: bytes) -> bytes:
    words = text.split(b" ")
    if len(words) < 3:
        return flip(rng, text)
    one, other = rng.randrange(1, len(words)), rng.randrange(1, len(words))
    words[one], words[other] = words[other], words[one]
    return b" ".join(words)


def canary(rng: random.Random, text: bytes) -> bytes:
    """Commands inside a message: its bytes are never to be carried out, whatever is wrong around it."""
    body = CANARY * rng.choice((1, 20))
    guid = rng.choice((b"%040x" % rng.getrandbits(160), b"x" * 40, b"short", b'"a b"', b"{4+}\r\nabcd"))
    part = rng.choice((b"default", b"nowhere", b"{7+}\r\ndefault", b"../x"))
    verb = rng.choice(
        (b"APPLY MESSAGE (", b"APPLY MESSAGE ", b"APPLY NONSENSE (", b"GET USER (", b"APPLY MAILBOX %(X ")
    )
    return verb + b"%%{%s %s %d}\r\n" % (part, guid, len(body)) + body + b")"


MUTATIONS: list[Callable[[random.Random, bytes], bytes]] = [
    flip,
    remove,
    double,
    truncate,
    insert,
    insert,
    number,
    number,
    word,
    word,
    swap,
]


def spoil(rng: random.Random, command: bytes) -> bytes:
    """`command` with one or a few mutations."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        command = rng.choice(MUTATIONS)(rng, command)
        command = command[:400_000]
    return command


class Pool:
    """Input to spoil: what one began with, and every spoiled case about which something new was said.

    A mutation alone seldom gets far; one of a case that went a way of its own does. A fuzzer that is guided
    by coverage does the same; here what the program says stands for the branches that it took.
    """

    _MOST = 3000

    def __init__(self, first: Iterable[bytes]) -> None:
        self._first = list(first)
        self._newer: list[bytes] = []
        self._known: set[Hashable] = set()

    def spoiled(self, rng: random.Random) -> bytes:
        """A case that has not been seen, most likely."""
        newer = self._newer and rng.random() < 0.5
        return spoil(rng, rng.choice(self._newer if newer else self._first))

    def learn(self, case: bytes, said: Hashable) -> None:
        """`said` is what came of `case`, without what differs in every case, such as numbers."""
        if said not in self._known and len(self._newer) < self._MOST:
            self._known.add(said)
            self._newer.append(case)
