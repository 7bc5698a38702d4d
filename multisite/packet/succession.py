"""The keys that a replica has had, one pair after the other, each vouched for by the pair before it.

Only the replica itself changes its keys: it signs the new ones with the old. So whoever knows earlier keys
can follow to those of today, and cannot be led astray. A pair of keys is one word, with blanks between the
words:

    <first>:<public keys>                     the keys of its birth
    <first>:<public keys>:<signature> …       later ones

`first` is the number of the replica's first operation that these keys sign.

>>> birth, later = SecretKeys.generate(), SecretKeys.generate()
>>> born = Succession.begun(birth.public)
>>> known = born.extended("family", "replica", 7, birth, later.public)
>>> known.continues(born, "family", "replica"), known.at(6) == birth.public, known.at(7) == later.public
(True, True, True)
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import NamedTuple, Self

from cyrus_sync.multisite.packet.errors import BadKeys
from cyrus_sync.multisite.packet.keys import SIGNATURE_BYTES, PublicKeys, SecretKeys, decode64, encode64

MOST_LINKS = 100
"""How often a replica may change its keys."""

_LINK = re.compile(r"(0|[1-9][0-9]{0,17}):([0-9A-Za-z+/=]{88})(?::([0-9A-Za-z+/=]{88}))?")


class Link(NamedTuple):
    """One pair of keys. `signature` is made with the keys of the link before, empty in the first."""

    first: int
    keys: PublicKeys
    signature: bytes = b""

    def word(self) -> str:
        """The link as it stands in the text of a succession."""
        word = f"{self.first}:{self.keys.text()}"
        return f"{word}:{encode64(self.signature)}" if self.signature else word


@dataclass(frozen=True, slots=True)
class Succession:
    """All keys of one replica, the present ones last. Never empty."""

    links: tuple[Link, ...]

    @classmethod
    def begun(cls, keys: PublicKeys) -> Self:
        """The succession of a replica that has never changed its keys."""
        return cls((Link(0, keys),))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the words. Raises `BadKeys`. The signatures are not verified: `continues` does that."""
        words = text.split(" ")
        if len(words) > MOST_LINKS:
            raise BadKeys(f"a replica with more than {MOST_LINKS} keys")
        links = tuple(map(_link, words))
        rising = all(one.first < later.first for one, later in itertools.pairwise(links))
        if links[0].signature or not all(link.signature for link in links[1:]) or not rising:
            raise BadKeys("the keys of a replica do not follow one another")
        return cls(links)

    def text(self) -> str:
        """The words, which `parse` reads."""
        return " ".join(link.word() for link in self.links)

    @property
    def current(self) -> PublicKeys:
        """The keys of today."""
        return self.links[-1].keys

    def at(self, operation: int) -> PublicKeys:
        """The keys with which the replica's operation of this number is signed."""
        later = (link.keys for link in reversed(self.links) if link.first <= operation)
        return next(later, self.links[0].keys)

    def extended(self, family: str, replica: str, first: int, old: SecretKeys, new: PublicKeys) -> Succession:
        """With `new` from the operation number `first` on, vouched for by `old`, the secret half of the
        current keys. Raises `BadKeys` if it is not, or there were too many already."""
        if old.public != self.current or first <= self.links[-1].first:
            raise BadKeys("only the secret half of the present keys can change them, and only for later on")
        if len(self.links) >= MOST_LINKS:
            raise BadKeys(f"a replica with more than {MOST_LINKS} keys")
        signature = old.sign(_statement(family, replica, first, new))
        return Succession((*self.links, Link(first, new, signature)))

    def extends(self, known: Succession, family: str, replica: str) -> bool:
        """Whether this begins with all of `known` and continues it. Only such a succession is taken from
        another replica: whoever could say which keys a replica had before could sign in its name."""
        return self.links[: len(known.links)] == known.links and self.continues(known, family, replica)

    def continues(self, known: Succession, family: str, replica: str) -> bool:
        """Whether the last keys of `known` are among these, and right signatures lead from them to the
        present keys. Keys that branch off from an earlier pair are not believed."""
        place = next((n for n, link in enumerate(self.links) if link.keys == known.current), None)
        if place is None:
            return False
        before = known.current
        for link in self.links[place + 1 :]:
            if not before.verifies(_statement(family, replica, link.first, link.keys), link.signature):
                return False
            before = link.keys
        return True


def _link(word: str) -> Link:
    found = _LINK.fullmatch(word)
    if found is None:
        raise BadKeys(f"'{word[:20]}' is not the keys of a replica")
    try:
        signature = decode64(found[3], SIGNATURE_BYTES) if found[3] else b""
    except ValueError as error:
        raise BadKeys(f"'{word[:20]}' is not the keys of a replica: {error}") from None
    return Link(int(found[1]), PublicKeys.parse(found[2]), signature)


def _statement(family: str, replica: str, first: int, keys: PublicKeys) -> bytes:
    return f"cyrus-sync keys 1\n{family}\n{replica}\n{first}\n{keys.text()}\n".encode()
