"""A folder at the server, as it was listed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cyrus_sync.common.names import Owner


class Counters(NamedTuple):
    """What STATUS or EXAMINE says of a folder. `modseq` 0: none is kept."""

    uidvalidity: int
    uidnext: int
    messages: int
    modseq: int


@dataclass
class Folder:
    """A folder at the server. `shown` is its name in modified UTF-7; `wire` as a command has it; `name` the
    mailbox that it is in our store; `identity` stays when it is renamed ("": nobody says)."""

    shown: str
    wire: bytes
    name: str
    owner: Owner
    counters: Counters | None = None
    identity: str = ""
    uses: frozenset[str] = frozenset()
