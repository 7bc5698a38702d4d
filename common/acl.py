"""Who may do what with a mailbox: ACLs as Cyrus keeps them (RFC 4314)."""

from __future__ import annotations

import re

LOOKUP = "l"
READ = "r"
POST = "p"
OWNER_RIGHTS = "lr"
"""What an owner has of his own mailboxes whatever stands in the list; Cyrus: implicit_owner_rights."""

_IDENTIFIER = re.compile(r"[ !#$&-\[\]-~]{1,1023}")
"""Of whom an ACL may speak: a real 3.6 refuses a mailbox with others, and then cannot list its user."""
_RIGHTS = re.compile(r"[a-z0-9]*")


def acl_can_hold(identifier: str, rights: str) -> bool:
    """Whether an ACL can give these rights to this identifier."""
    return bool(_IDENTIFIER.fullmatch(identifier) and _RIGHTS.fullmatch(rights))


def rights(acl: str, login: str, *, owner: bool) -> frozenset[str]:
    """The rights of a user, from ``identifier TAB rights TAB …``; what stands behind a ``-`` is taken away.

    >>> sorted(rights("alice\\tlrs\\tanyone\\tl\\t-bob\\tr\\t", "bob", owner=False))
    ['l']
    """
    given: set[str] = set(OWNER_RIGHTS) if owner else set()
    taken: set[str] = set()
    words = acl.split("\t")
    for identifier, letters in zip(words[0::2], words[1::2], strict=False):
        if identifier in (login, "anyone"):
            given |= set(letters)
        elif identifier in (f"-{login}", "-anyone"):
            taken |= set(letters)
    if owner:
        taken -= set(OWNER_RIGHTS)
    return frozenset(given - taken)
