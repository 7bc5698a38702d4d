"""What a header tells of another replica that is being restored from a backup (`multisite.passing_on`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cyrus_sync.multisite.packet.keys import SIGNATURE_BYTES, decode64
from cyrus_sync.multisite.packet.plain_yaml import quote
from cyrus_sync.multisite.packet.values import (
    MAX_OPERATION,
    NUMBER,
    check_count,
    check_ids,
    check_links,
    check_number,
    mapping_of,
    number_of,
    text_of,
)

_NAME = "restores"


class Knowing(NamedTuple):
    """What a replica had when it was known to know of a restore: the last operation of each origin, and the
    `link` of the last one of whoever is being restored, "" for none."""

    row: Mapping[str, int]
    link: str

    def text(self) -> str:
        """``link;origin:number,…``"""
        return f"{self.link};{','.join(f'{origin}:{number}' for origin, number in sorted(self.row.items()))}"


class Restore(NamedTuple):
    """What a replica has said when it was restored, as in a header of its own (`Header.row`, `trail`,
    `taken`), and which others know of it."""

    incarnation: int
    row: Mapping[str, int]
    trail: Mapping[str, str]
    taken: Mapping[str, int]
    knowing: Mapping[str, Knowing]
    signature: str = ""
    """Of whoever is being restored (`multisite.signing.sign_restore`), base64; "" where it does not sign."""

    def check(self, most: int) -> None:
        """ValueError for what no replica could say; `most`: entries of each mapping."""
        check_number(_NAME, self.incarnation, low=1)
        rows = [one.row for one in self.knowing.values()]
        for mapping in (self.row, self.trail, self.taken, self.knowing, *rows):
            check_count(_NAME, mapping, most)
        for row in (self.row, *rows):
            check_ids(_NAME, *row)
            for last in row.values():
                check_number(_NAME, last, high=MAX_OPERATION)
        if not all(NUMBER.fullmatch(number) for number in self.trail):
            raise ValueError(f"{_NAME} has something that is no number")
        links = [one.link for one in self.knowing.values() if one.link]
        check_links(_NAME, *self.trail.values(), *self.taken, *links)
        for number in self.taken.values():
            check_number(_NAME, number, low=1, high=MAX_OPERATION)
        check_ids(_NAME, *self.knowing)
        if self.signature:
            try:
                decode64(self.signature, SIGNATURE_BYTES)
            except ValueError:
                raise ValueError(f"{_NAME} has something that is no signature") from None

    def text(self) -> str:
        """A mapping on one line."""
        numbers = {name: _flow(getattr(self, name)) for name in ("row", "trail", "taken")}
        knowing = _flow({replica: one.text() for replica, one in self.knowing.items()})
        inner = {"incarnation": str(self.incarnation), **numbers, "knowing": knowing}
        if self.signature:
            inner["signature"] = quote(self.signature)
        return "{" + ", ".join(f"{name}: {value}" for name, value in inner.items()) + "}"


def read_restore(value: Any, name: str) -> Restore:
    """A restore out of what YAML holds, all scalars of which are text. Raises ValueError."""
    found = mapping_of(value, name)
    row, trail, taken, knowing = (
        mapping_of(found.get(one, {}), name) for one in ("row", "trail", "taken", "knowing")
    )
    return Restore(
        number_of(found.get("incarnation"), name),
        {origin: number_of(last, name) for origin, last in row.items()},
        {number: text_of(link, name) for number, link in trail.items()},
        {link: number_of(number, name) for link, number in taken.items()},
        {replica: _knowing(text_of(text, name), name) for replica, text in knowing.items()},
        text_of(found.get("signature", ""), name),
    )


def _knowing(text: str, name: str) -> Knowing:
    link, _, row = text.partition(";")
    pairs = [one.partition(":") for one in row.split(",") if one]
    return Knowing({origin: number_of(last, name) for origin, _, last in pairs}, link)


def _flow(pairs: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{quote(key)}: {quote(str(value))}" for key, value in pairs.items()) + "}"
