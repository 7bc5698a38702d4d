"""Mailbox names and userids, in the forms that the wire, people and disks use.

*Internal* names (wire, action log): components joined by ``.``, a dot inside a component written ``^``,
optionally ``domain!`` in front; users live below ``user.``; deleted mailboxes are
``DELETED.user.alice.Work.6B013001`` (old name, deletion time as upper-case hex seconds). *External*
names are what an administrator types: ``user/alice/Work`` with unixhierarchysep, else as internal.

An *owner* is the unit of storage and of locking: a user, or a top-level shared mailbox with all that is
below it, or the server itself (its annotations).

>>> owner_of("DELETED.user.zoe^b.Work.6B013001")
Owner(kind='user', name='zoe.b')
"""

from __future__ import annotations

import re
from typing import NamedTuple

from common.errors import ReplyError

DELETED_PREFIX = "DELETED"
MAX_MAILBOX_NAME = 490
"""Octets of an internal name (MAX_MAILBOX_NAME of Cyrus)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DELETED = re.compile(r"^(?:(?P<domain>[^!]+)!)?DELETED\.(?P<rest>.+)\.(?P<stamp>[0-9A-F]{8,16})$")


class BadName(ReplyError):
    """A name that no store keeps: empty, too long, with control characters, a slash or dot-dot."""

    code = "IMAP_MAILBOX_BADNAME"
    text = "Invalid mailbox name"


class Owner(NamedTuple):
    """`kind` is "user" (`name` a userid), "shared" (`name` the top component) or "server" ("")."""

    kind: str
    name: str

    def __str__(self) -> str:
        return self.name if self.kind == "user" else f"{self.kind}:{self.name}"


SERVER = Owner("server", "")


def check_mailbox_name(name: str) -> str:
    """`name` if a store may keep it; raises `BadName`.

    8-bit octets are refused: mailbox names are modified UTF-7.
    """
    if not name or len(name) > MAX_MAILBOX_NAME or not name.isascii() or _CONTROL.search(name):
        raise BadName().at(mailbox=repr(name[:80]))
    if "/" in name or any(part in ("", "~", "^", "^^") for part in _split(name)[1]):
        raise BadName().at(mailbox=name)
    return name


def check_userid(userid: str) -> str:
    """`userid` if it can own mail; raises `BadName`. It goes into a path, so: no slash, no lone dots."""
    if not userid or len(userid) > MAX_MAILBOX_NAME or _CONTROL.search(userid) or not userid.isascii():
        raise BadName("Invalid userid").at(user=repr(userid[:80]))
    if any(c in userid for c in "/!^") or userid.startswith(".") or userid.endswith("."):
        raise BadName("Invalid userid").at(user=userid)
    return userid


def _split(name: str) -> tuple[str, list[str]]:
    domain, bang, rest = name.partition("!")
    return (domain, rest.split(".")) if bang else ("", name.split("."))


def inbox_of(userid: str) -> str:
    """The internal name of a user's INBOX: ``user.zoe^b``, ``example.org!user.joe``."""
    local, at, domain = userid.partition("@")
    inbox = "user." + local.replace(".", "^")
    return f"{domain}!{inbox}" if at else inbox


def root_of(owner: Owner) -> str:
    """The INBOX of a user, the top-level mailbox of shared ones."""
    return inbox_of(owner.name) if owner.kind == "user" else owner.name


def live_name(name: str) -> str:
    """The name a deleted mailbox had; any other name unchanged."""
    found = _DELETED.match(name)
    if not found:
        return name
    return f"{found['domain']}!{found['rest']}" if found["domain"] else found["rest"]


def is_deleted(name: str) -> bool:
    """True for the name of a mailbox that delayed delete has set aside."""
    return _DELETED.match(name) is not None


def deleted_name(name: str, when: int) -> str:
    """Where delayed delete puts `name` at Unix second `when`."""
    domain, parts = _split(name)
    moved = f"{DELETED_PREFIX}.{'.'.join(parts)}.{when:08X}"
    return f"{domain}!{moved}" if domain else moved


def owner_of(name: str) -> Owner:
    """Who holds the mailbox `name`: deleted mailboxes stay with whom they belonged to."""
    domain, parts = _split(live_name(name))
    if parts[0] == "user" and len(parts) > 1:
        local = parts[1].replace("^", ".")
        return Owner("user", f"{local}@{domain}" if domain else local)
    return Owner("shared", f"{domain}!{parts[0]}" if domain else parts[0])


def owner_user(name: str) -> str:
    """The userid that owns `name`, "" for a shared mailbox."""
    owner = owner_of(name)
    return owner.name if owner.kind == "user" else ""


def is_inbox(name: str) -> bool:
    """True for ``user.X`` itself."""
    parts = _split(name)[1]
    return len(parts) == 2 and parts[0] == "user"


def parent_of(name: str) -> str | None:
    """The name one level up, None at the top (``user`` is not a mailbox)."""
    domain, bang, inner = name.rpartition("!")
    parent, dot, _ = inner.rpartition(".")
    if not dot or parent == "user":
        return None
    return f"{domain}{bang}{parent}"


def sort_key(name: str) -> str:
    """Key of the order of mailboxes.db: a parent stands before its children."""
    return name.replace(".", "\x1f").replace("^", ".")


def to_external(name: str, unixhierarchysep: bool = True) -> str:
    """What an administrator reads: ``user/zoe.b/Work``."""
    domain, parts = _split(name)
    text = "/".join(parts).replace("^", ".") if unixhierarchysep else ".".join(parts)
    return f"{text}@{domain}" if domain else text


def from_external(name: str, unixhierarchysep: bool = True) -> str:
    """The internal name of what an administrator typed. Not checked for validity."""
    local, at, domain = name.partition("@")
    text = local.replace(".", "^").replace("/", ".") if unixhierarchysep else local
    return f"{domain}!{text}" if at else text
