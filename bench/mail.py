"""Mail for benchmarks: always the same for the same seed, as compressible as text and attachments are."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from itertools import accumulate

_SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu an el in or ur sh tr pl gr st"


def _pool(seed: int, octets: int) -> bytes:
    """At most so many octets of invented words, in lines."""
    chance, syllables = random.Random(seed), _SYLLABLES.split()
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(6000)]
    weights = list(accumulate(1 / (rank + 5) for rank in range(len(words))))
    text = chance.choices(words, cum_weights=weights, k=octets // 5)
    lines = (" ".join(text[n : n + 11]) for n in range(0, len(text), 11))
    return "\r\n".join(lines).encode()[:octets]


class Post:
    """A source of messages; each call goes on where the last one ended."""

    def __init__(self, seed: int = 1) -> None:
        self._chance = random.Random(seed)
        self._text = _pool(seed, 1_500_000)
        self._attachment = base64.encodebytes(self._chance.randbytes(1_500_000)).replace(b"\n", b"\r\n")
        self._number = 0

    def message(self, size: int) -> bytes:
        """A message of about `size` octets; large ones are mostly an attachment."""
        self._number += 1
        head = (
            f"Return-Path: <sender{self._number % 97}@example.org>\r\n"
            f"Received: from mx{self._number % 7}.example.org by mail.example.net with ESMTP"
            f" id {self._number:08x};\r\n"
            f"\tMon, 01 Jan 2024 10:{self._number // 60 % 60:02d}:{self._number % 60:02d} +0000\r\n"
            f"From: Sender {self._number % 97} <sender{self._number % 97}@example.org>\r\n"
            f"To: user@example.net\r\nSubject: message number {self._number}\r\n"
            f"Message-ID: <{self._chance.getrandbits(64):016x}.{self._number}@example.org>\r\n"
            "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
        ).encode()
        text = min(size, 30_000) - len(head)
        start = self._chance.randrange(len(self._text) - 40_000)
        body = self._text[start : start + max(text, 10)].strip()
        if size > 30_000:
            start = self._chance.randrange(len(self._attachment) - 1_048_576)
            body += b"\r\n" + self._attachment[start : start + size - 30_000].strip()
        return head + body + b"\r\n"

    def alike(self, count: int, size: int = 4096) -> Iterator[bytes]:
        """`count` messages of `size` octets."""
        return (self.message(size) for _ in range(count))

    def mixed(self, count: int, largest: int = 1_048_576) -> Iterator[bytes]:
        """`count` messages of the sizes that people get: most small, some up to `largest`."""
        for _ in range(count):
            size = int(self._chance.lognormvariate(9.3, 1.4))
            yield self.message(min(max(size, 800), largest - 200))
