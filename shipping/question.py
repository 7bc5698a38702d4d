"""A question to another host of the family, and its answer, over TCP on the contact port.

Lines end in LF; A and B are public keys that the two sides have made for this connection
(`cyrus_sync.shipping.sealing`):

    asker        SHIP2 ASK <A> <proof "ask" A>
    answerer     SHIP2 CHALLENGE <B> <proof "answerer" A B>
    -- sealed from here on
    asker        QUESTION <length> + question
    answerer     ANSWER <length> + answer     or     NONE <length> + reason

As with first contact, a line without a good proof is answered ``NO`` and a reason. A recorded ASK earns a
challenge and no more. What follows is sealed, so that nothing recorded fits, and nobody else reads it.

Only the questions in `QUESTIONS` have an answer, of at most 1 MiB. Shipping does not know what is in it.

    >>> ask(site, "hub.example.org", "epochs")          # doctest: +SKIP
    b'family: …'
"""

from __future__ import annotations

from collections.abc import Callable

from cyrus_sync.common.commands import reason
from cyrus_sync.common.numbers import decimal
from cyrus_sync.shipping.call import Call, Conversation, ended
from cyrus_sync.shipping.contact import addresses, refusal, why
from cyrus_sync.shipping.errors import Broken, CannotReach, Refused, ShippingError
from cyrus_sync.shipping.key import proof, proves
from cyrus_sync.shipping.sealing import KeyPair
from cyrus_sync.shipping.site import Site

LONGEST_QUESTION = 1024
LONGEST_ANSWER = 1024 * 1024
PATIENCE = 60.0
"""Seconds that the whole conversation may take once both sides have proved themselves."""

_LONGEST_LINE = 256
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
    site.key  # noqa: B018 - say now that it is missing
    reasons: list[str] = []
    for address in addresses(host):
        try:
            with Call.to((address, site.contact_port), _CONNECT) as call:
                call.until(PATIENCE)
                word, said = ended(_converse(site.key, question, call))
        except (OSError, _Nonsense) as error:
            reasons.append(f"tcp {address} port {site.contact_port}: {why(error)}")
            continue
        if word == "NO":
            raise refusal(host, said.decode("utf-8", "replace"))
        if word == "NONE":
            text = said[:500].decode("utf-8", "replace")
            raise Refused(f"{host}: {''.join(c if c.isprintable() else '?' for c in text)}")
        return said
    raise CannotReach(f"{host} does not answer: {'; '.join(reasons)}")


class _Nonsense(Exception):
    """What answers is not one of the family."""

    def __init__(self) -> None:
        super().__init__("no valid answer (another family key?)")


async def _converse(key: bytes, question: bytes, talk: Conversation) -> tuple[str, bytes]:
    pair = KeyPair()
    talk.say(f"SHIP2 ASK {pair.public} {proof(key, 'ask', pair.public.encode())}")
    try:
        line = await talk.line(_LONGEST_LINE)
        words = line.split()
        if words[:1] == ["NO"]:
            return "NO", line[3:].encode()
        if len(words) != 4 or words[:2] != ["SHIP2", "CHALLENGE"] or words[2] == pair.public:
            raise _Nonsense
        if not proves(key, words[3], "answerer", pair.public.encode(), words[2].encode()):
            raise _Nonsense
        talk.seal(*pair.keys(key, pair.public, words[2]))
        talk.say(f"QUESTION {len(question)}\n".encode() + question)
        word, _, size = (await talk.line(_LONGEST_LINE)).partition(" ")
        length = decimal(size, LONGEST_ANSWER)
        if word not in ("ANSWER", "NONE") or length is None:
            raise _Nonsense
        return word, await talk.exactly(length)
    except Refused:
        raise _Nonsense from None
    except Broken as error:
        if str(error) == "timed out":
            raise
        raise _Nonsense from None


# -- answering


def has_other_key(key: bytes, line: str) -> bool:
    """Whether a line asks, and proves another key."""
    words = line.split()
    return _asks(words) and not proves(key, words[3], "ask", words[2].encode())


def _asks(words: list[str]) -> bool:
    return len(words) == 4 and words[:2] == ["SHIP2", "ASK"] and len(words[2]) == 64


async def hear(key: bytes, talk: Conversation, line: str) -> bytes | None:
    """Challenge whoever has said `line`. The question; None if it proves nothing."""
    words = line.split()
    if not _asks(words) or not proves(key, words[3], "ask", words[2].encode()):
        return None
    pair = KeyPair()
    shown = proof(key, "answerer", words[2].encode(), pair.public.encode())
    talk.say(f"SHIP2 CHALLENGE {pair.public} {shown}")
    to_us, from_us = pair.keys(key, words[2], pair.public)
    talk.seal(from_us, to_us)
    word, _, size = (await talk.line(_LONGEST_LINE)).partition(" ")
    length = decimal(size, LONGEST_QUESTION)
    return await talk.exactly(length) if word == "QUESTION" and length is not None else None


def answer(site: Site, question: bytes) -> bytes:
    """What is to be said to a question: line and text. Looks into files."""
    word, said = "ANSWER", b""
    try:
        find = QUESTIONS.get(question)
        if find is None:
            raise NoAnswer("no such answer: that question is not known here")
        said = find(site)
        if len(said) > LONGEST_ANSWER:
            raise NoAnswer(f"the answer is longer than {LONGEST_ANSWER} bytes")
    except NoAnswer as error:
        word, said = "NONE", str(error).encode()
    except OSError as error:
        site.log.error(f"cannot answer {question!r}: {reason(error)}")
        word, said = "NONE", f"the answer cannot be read: {error.strerror}".encode()
    return f"{word} {len(said)}\n".encode() + said
