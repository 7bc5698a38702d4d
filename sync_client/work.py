"""`Item`: one piece of replication work, and the action-log lines that stand for it.

An item is what a run does at once and what can fail, be promoted, deferred or set aside as a whole. It
always turns back into log lines (`Item.lines`), so that work which cannot be done now is never lost: it
goes back to the log, and merging those lines again gives the same item.

>>> Item.user("alice").lines()
[('USER', 'alice')]
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from cyrus_sync.common.names import SERVER, Owner, owner_of


class Kind(enum.IntEnum):
    """The kinds of work, in the order in which one run does them."""

    MAILBOXES = 0
    QUOTA = 1
    ANNOTATION = 2
    SEEN = 3
    SUB = 4
    UNMAILBOX = 5
    META = 6
    USER = 7
    UNUSER = 8


class Item(NamedTuple):
    """Work on one owner's data. `args` are what the action-log line carries: internal names, userids."""

    kind: Kind
    owner: Owner
    args: tuple[str, ...]

    @classmethod
    def user(cls, userid: str) -> Item:
        return cls(Kind.USER, Owner("user", userid), (userid,))

    @classmethod
    def meta(cls, userid: str) -> Item:
        return cls(Kind.META, Owner("user", userid), (userid,))

    def lines(self) -> list[tuple[str, ...]]:
        """The action-log lines that make this item again when they are merged."""
        if self.kind is Kind.MAILBOXES:
            return self._mailbox_lines()
        return [(self.kind.name, *self.args)]

    def _mailbox_lines(self) -> list[tuple[str, ...]]:
        """MAILBOX for the owner's own names; another owner's (a rename between two) stay tied to one
        of them by DOUBLEMAILBOX, which files both under the first."""
        own = [name for name in self.args if owner_of(name) == self.owner]
        if not own:
            return [("MAILBOX", name) for name in self.args]
        return [("MAILBOX", name) for name in own] + [
            ("DOUBLEMAILBOX", own[0], name) for name in self.args if owner_of(name) != self.owner
        ]

    def __str__(self) -> str:
        name = "MAILBOX" if self.kind is Kind.MAILBOXES and len(self.args) == 1 else self.kind.name
        return " ".join((name, *(arg or '""' for arg in self.args)))


def owner_of_user(userid: str) -> Owner:
    return Owner("user", userid)


def owner_of_name(name: str) -> Owner:
    """The owner of a mailbox or quota root; "" (the server's annotations) belongs to the server."""
    return owner_of(name) if name else SERVER
