"""A question to another host of the family, and its answer, over TCP on the contact port.

Lines end in LF; A and B are the nonces of the two sides, new each time:

    asker        SHIP1 ASK <A> <proof "ask" A>
    answerer     SHIP1 CHALLENGE <B> <proof "answerer" A B>
    asker        SHIP1 QUESTION <length> <proof "question" A B question> + question
    answerer     SHIP1 ANSWER <length> <proof "answer" A B question answer> + answer
          or     SHIP1 NONE <length> <proof "none" A B question reason> + reason

As with first contact, a line without a good proof gets no answer. A recorded ASK earns a challenge and
nothing else, a recorded QUESTION does not fit the new B, and a recorded answer neither the new A nor
another question. What is said is proved, not encrypted.

Only the questions in `QUESTIONS` have an answer, of at most 1 MiB. Shipping does not know what is in it.

    >>> ask(site, "hub.example.org", "epochs")          # doctest: +SKIP
    b'family: …'
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from cyrus_sync.common.commands import reason
from cyrus_sync.common.numbers import decimal
from cyrus_sync.shipping.errors import CannotReach, Refused, ShippingError
from cyrus_sync.shipping.key import proof, proves
from cyrus_sync.shipping.site import Site
from cyrus_sync.shipping.streams import read_exactly, read_line

LONGEST_QUESTION = 1024
LONGEST_ANSWER = 1024 * 1024
LONGEST_LINE = 256
PATIENCE = 60.0
"""Seconds that the whole conversation may take once both sides have proved themselves."""

_CONNECT = 10.0


class NoAnswer(ShippingError):
    """What a question is answered with when there is nothing to say; the text goes to the asker."""

    text = "no such answer"


def epochs(site: Site) -> bytes:
    """What this host's replica says of itself."""
    path = site.family_directory / "epochs.yaml"
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_ANSWER + 1)
    except FileNotFoundError:
        raise NoAnswer("no such answer: this host has not written its epochs yet") from None


QUESTIONS: dict[bytes, Callable[[Site], bytes]] = {b"epochs": epochs}


# -- asking


def ask(site: Site, host: str, what: bytes | str) -> bytes:
    """What `host` answers to `what`. `CannotReach` if nobody of the family answers there, `Refused` if it
    has no answer."""
    question = what.encode() if isinstance(what, str) else what
    if not 0 < len(question) <= LONGEST_QUESTION:
        raise ShippingError(f"a question has 1 to {LONGEST_QUESTION} bytes, not {len(question)}")
    key = site.key
    try:
        found = socket.getaddrinfo(host, site.contact_port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise CannotReach(f"{host}: {reason(error)}") from None
    reasons: list[str] = []
    for family, kind, _protocol, _name, address in found:
        where = f"tcp {address[0]!s} port {address[1]!s}"
        try:
            with socket.socket(family, kind) as sock:
                sock.settimeout(_CONNECT)
                sock.connect(address)
                return _converse(key, host, question, sock)
        except _Nonsense as error:
            reasons.append(f"{where}: {error}")
        except OSError as error:
            reasons.append(f"{where}: {reason(error) or 'no answer'}")
    raise CannotReach(f"{host} does not answer: {'; '.join(reasons)}")


class _Nonsense(Exception):
    """What answers is not one of the family."""

    def __init__(self) -> None:
        super().__init__("no valid answer (another family key?)")


def _converse(key: bytes, host: str, question: bytes, sock: socket.socket) -> bytes:
    reader = _Reader(sock, time.monotonic() + PATIENCE)
    mine = secrets.token_hex(32)
    sock.sendall(f"SHIP1 ASK {mine} {proof(key, 'ask', mine.encode())}\n".encode())
    words = reader.line().split()
    if len(words) != 4 or words[:2] != ["SHIP1", "CHALLENGE"] or words[2] == mine:
        raise _Nonsense()
    nonces = mine.encode(), words[2].encode()
    if not proves(key, words[3], "answerer", *nonces):
        raise _Nonsense()
    shown = proof(key, "question", *nonces, question)
    sock.sendall(f"SHIP1 QUESTION {len(question)} {shown}\n".encode() + question)
    words = reader.line().split()
    if len(words) != 4 or words[0] != "SHIP1" or words[1] not in ("ANSWER", "NONE"):
        raise _Nonsense()
    length = _number(words[2], LONGEST_ANSWER)
    if length is None:
        raise _Nonsense()
    said = reader.exactly(length)
    if not proves(key, words[3], words[1].lower(), *nonces, question, said):
        raise _Nonsense()
    if words[1] == "NONE":
        text = said[:500].decode("utf-8", "replace")
        raise Refused(f"{host}: {''.join(c if c.isprintable() else '?' for c in text)}")
    return said


class _Reader:
    """Reads from a blocking socket until a deadline, however slowly the other side writes."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        self._held = bytearray()

    def line(self) -> str:
        while (end := self._held.find(b"\n")) < 0:
            if len(self._held) > LONGEST_LINE:
                raise _Nonsense()
            self._more()
        return self._take(end + 1).decode("ascii", "replace")

    def exactly(self, count: int) -> bytes:
        while len(self._held) < count:
            self._more()
        return self._take(count)

    def _more(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        more = self._sock.recv(64 * 1024)
        if not more:
            raise _Nonsense()
        self._held += more

    def _take(self, count: int) -> bytes:
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken


# -- answering


def nonce_of(key: bytes, line: bytes) -> str | None:
    """The nonce of a good ASK line, else None."""
    words = line.decode("ascii", "replace").split()
    if len(words) != 4 or words[:2] != ["SHIP1", "ASK"] or len(words[2]) != 64:
        return None
    return words[2] if proves(key, words[3], "ask", words[2].encode()) else None


@dataclass(frozen=True, slots=True)
class Question:
    """A question that has been proved."""

    nonces: tuple[bytes, bytes]
    text: bytes


async def hear(key: bytes, sock: socket.socket, nonce: str) -> Question | None:
    """Challenge the asker on a non-blocking socket. Its question; None if it proves nothing."""
    mine = secrets.token_hex(32)
    nonces = nonce.encode(), mine.encode()
    challenge = f"SHIP1 CHALLENGE {mine} {proof(key, 'answerer', *nonces)}\n"
    await asyncio.get_running_loop().sock_sendall(sock, challenge.encode())
    words = (await read_line(sock, LONGEST_LINE)).decode("ascii", "replace").split()
    if len(words) != 4 or words[:2] != ["SHIP1", "QUESTION"]:
        return None
    length = _number(words[2], LONGEST_QUESTION)
    if length is None:
        return None
    text = await read_exactly(sock, length)
    return Question(nonces, text) if proves(key, words[3], "question", *nonces, text) else None


async def answer(site: Site, sock: socket.socket, question: Question) -> None:
    """Say what is to be said, within `PATIENCE` seconds."""
    word, said = "ANSWER", b""
    try:
        find = QUESTIONS.get(question.text)
        if find is None:
            raise NoAnswer("no such answer: that question is not known here")
        said = find(site)
        if len(said) > LONGEST_ANSWER:
            raise NoAnswer(f"the answer is longer than {LONGEST_ANSWER} bytes")
    except NoAnswer as error:
        word, said = "NONE", str(error).encode()
    except OSError as error:
        site.log.error(f"cannot answer {question.text!r}: {reason(error)}")
        word, said = "NONE", f"the answer cannot be read: {error.strerror}".encode()
    shown = proof(site.key, word.lower(), *question.nonces, question.text, said)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            head = f"SHIP1 {word} {len(said)} {shown}\n".encode()
            await asyncio.get_running_loop().sock_sendall(sock, head + said)


def _number(text: str, most: int) -> int | None:
    return decimal(text, most)
