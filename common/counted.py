"""Numbers of things, as people say them."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """So many of something; `many` where an *s* at the end is not enough.

    >>> counted(1, "owner"), counted(0, "owner"), counted(2, "mailbox", "mailboxes")
    ('1 owner', '0 owners', '2 mailboxes')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def mailboxes(number: int) -> str:
    return counted(number, "mailbox", "mailboxes")
