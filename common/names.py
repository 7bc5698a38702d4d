"""Mailbox names and userids, in the forms that the wire, people and disks use.

*Internal* names (wire, action log): components joined by ``.``, a dot inside a component written ``^``,
optionally ``domain!`` in front; users live below ``user.``; deleted mailboxes are
``DELETED.user.alice.Work.6B013001`` (old name, deletion time as upper-case hex seconds). What people
type and read is `common.namespace`'s; which names may be given to something new, `common.newnames` says.

A *userid* is ``localpart`` or ``localpart@domain``, split at the last ``@`` whatever virtdomains says, as
Cyrus does it. The mailbox ``user.joe@example^org`` has an ``@`` in its localpart and no domain: the
userid of its owner is ``joe@example.org^`` here, since ``joe@example.org`` is another's.

An *owner* is the unit of storage and of locking: a user, or a top-level shared mailbox with all that is
below it, or the server itself (its annotations).

>>> owner_of("DELETED.user.zoe^b.Work.6B013001")
Owner(kind='user', name='zoe.b')
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cyrus_sync.common.errors import ReplyError

DELETED_PREFIX = "DELETED"
MAX_MAILBOX_NAME = 490
"""Octets of a name (MAX_MAILBOX_NAME of Cyrus 3.6)."""

MAX_DELETED_NAME = 1023
"""Octets of the name of a deleted mailbox, as far as Cyrus 3.6 takes them (MAX_MAILBOX_BUFFER)."""

NO_DOMAIN = "^"
"""Behind a userid with an ``@`` that parts no domain off."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ORDINARY_USERID = re.compile(r"(?=.{1,200}\Z)[\w+-]+(?:\.[\w+-]+)*(?:@[\w-]+(?:\.[\w-]+)*)?", re.ASCII)
_STAMP = re.compile(r"[0-9A-F]{8,16}")
_DELETED = re.compile(rf"(?:(?P<domain>[^!]+)!)?DELETED\.(?P<rest>.+)\.{_STAMP.pattern}\Z")


class BadName(ReplyError):
    """A name that no store keeps: empty, too long, 8-bit, with control characters, a slash or an empty
    component. Or one that cannot be given to something new."""

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

    8-bit octets are refused (mailbox names are modified UTF-7), and domains in which a userid would be
    ambiguous; all else that a real server's databases can hold is taken.
    """
    problem = _problem(name)
    if problem:
        raise BadName(f"Invalid mailbox name: {problem}").at(mailbox=_shown(name))
    return name


def _problem(name: str) -> str:
    """Why no store keeps `name`, "" if one does."""
    if not name:
        return "it is empty"
    longest = MAX_DELETED_NAME if is_deleted(name) else MAX_MAILBOX_NAME
    if len(name) > longest:
        return f"it is longer than {longest} octets"
    if not name.isascii():
        return "it has 8-bit octets"
    if _CONTROL.search(name):
        return "it has control characters"
    domain, inner = split_domain(name)
    if "/" in name:
        return "it has a slash"
    if not all(inner.split(".")):
        return "a level of it has no name"
    if "!" in name and (not domain or "@" in domain or "^" in domain):
        return f"{domain!r} is no domain"
    return ""


def _shown(name: str) -> str:
    return name if name.isascii() and name.isprintable() and 0 < len(name) <= 80 else ascii(name[:80])


def check_userid(userid: str) -> str:
    """`userid` if it can own mail; raises `BadName`. It can if its INBOX has a name that is its alone."""
    if _ORDINARY_USERID.fullmatch(userid):
        return userid
    inbox = inbox_of(userid) if userid else ""
    if _problem(inbox) or owner_of(inbox) != ("user", userid) or not is_inbox(inbox):
        raise BadName("Invalid userid").at(user=_shown(userid))
    return userid


def split_userid(userid: str) -> tuple[str, str]:
    """Localpart and domain ("" if there is none).

    >>> split_userid("a@b@example.org"), split_userid("joe@example.org^")
    (('a@b', 'example.org'), ('joe@example.org', ''))
    """
    if userid.endswith(NO_DOMAIN):
        return userid[:-1], ""
    local, at, domain = userid.rpartition("@")
    return (local, domain) if at else (userid, "")


def join_userid(local: str, domain: str) -> str:
    """The userid of a localpart in a domain ("" if in none)."""
    if domain:
        return f"{local}@{domain}"
    return local + NO_DOMAIN if "@" in local else local


def login_of(userid: str) -> str:
    """What the user logs in as: so ACLs call them."""
    return userid.removesuffix(NO_DOMAIN)


def split_domain(name: str) -> tuple[str, str]:
    """Domain ("" if it is in none) and the rest of an internal name.

    >>> split_domain("example.org!user.joe.Yahoo!")
    ('example.org', 'user.joe.Yahoo!')
    """
    domain, bang, rest = name.partition("!")
    return (domain, rest) if bang else ("", name)


def _split(name: str) -> tuple[str, list[str]]:
    domain, rest = split_domain(name)
    return domain, rest.split(".")


def in_domain(domain: str, rest: str) -> str:
    """The internal name `rest` in `domain` ("" for none)."""
    return f"{domain}!{rest}" if domain else rest


def inbox_of(userid: str) -> str:
    """The internal name of a user's INBOX: ``user.zoe^b``, ``example.org!user.joe``."""
    local, domain = split_userid(userid)
    return in_domain(domain, "user." + local.replace(".", "^"))


def root_of(owner: Owner) -> str:
    """The INBOX of a user, the top-level mailbox of shared ones."""
    return inbox_of(owner.name) if owner.kind == "user" else owner.name


def live_name(name: str) -> str:
    """The name a deleted mailbox had; any other name unchanged."""
    found = _DELETED.match(name)
    return in_domain(found["domain"] or "", found["rest"]) if found else name


def is_deleted(name: str) -> bool:
    """True for the name of a mailbox that delayed delete has set aside."""
    return _DELETED.match(name) is not None


def is_deleted_stamp(level: str) -> bool:
    """True for the last level of a deleted mailbox, its time."""
    return _STAMP.fullmatch(level) is not None


def deleted_name(name: str, when: int) -> str:
    """Where delayed delete puts `name` at Unix second `when`."""
    domain, rest = split_domain(name)
    return in_domain(domain, f"{DELETED_PREFIX}.{rest}.{when:08X}")


def owner_of(name: str) -> Owner:
    """Who holds the mailbox `name`: deleted mailboxes stay with whom they belonged to."""
    domain, parts = _split(live_name(name))
    if parts[0] == "user" and len(parts) > 1:
        return Owner("user", join_userid(parts[1].replace("^", "."), domain))
    return Owner("shared", in_domain(domain, parts[0]))


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
    domain, inner = split_domain(name)
    parent, dot, _ = inner.rpartition(".")
    if not dot or parent == "user":
        return None
    return in_domain(domain, parent)


def sort_key(name: str) -> str:
    """Key of the order of mailboxes.db: a parent stands before its children."""
    return name.replace(".", "\x1f").replace("^", ".")
