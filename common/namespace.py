"""Mailboxes, users and owners as people type and read them: ``user/alice@example.org/Work``.

An *external* name has ``/`` between its levels and dots inside them (``unixhierarchysep``), or dots between
them and ``^`` for a dot. A domain stands where the userid is, behind an ``@`` in the level that names the
user (of a shared mailbox: in its first), and only with ``virtdomains``; an ``@`` in a folder's name is a
character like any other. (An administrator's cyradm writes it at the end, ``user/alice/Work@example.org``,
where it cannot be told from a folder called ``Work@example.org``.)

The rule guarded here: what is printed is read as that very mailbox, whatever it is called. What would be
read otherwise is printed with an escape, which begins with a character that stands in no name: ``^`` (with
unixhierarchysep, ``/`` without). ``^40`` is a character by its hex number, ``^@`` the ``@`` of a domain
whatever ``virtdomains`` says. Letters beyond ASCII may be typed as they are; they are printed in modified
UTF-7, as mailboxes are called on the wire.

>>> names = Namespace()
>>> names.internal("user/zoe.b@example.org/Yahoo!"), names.internal("user/zoe/bob@example.org")
('example.org!user.zoe^b.Yahoo!', 'user.zoe.bob@example^org')
>>> names.external("user.joe@example^org.Work")
'user/joe^40example.org/Work'
"""

from __future__ import annotations

import re
from typing import Protocol, Self

from cyrus_sync.common.names import (
    DELETED_PREFIX,
    SERVER,
    BadName,
    Owner,
    check_mailbox_name,
    check_userid,
    in_domain,
    is_deleted,
    is_deleted_stamp,
    is_inbox,
    join_userid,
    owner_of,
    split_domain,
    split_userid,
)
from cyrus_sync.common.utf7 import ascii_name

_NO_BANG = "Invalid mailbox name: a ! stands only in names of a domain"
_KINDS = ("shared:", "mailbox:", "user:", "server:")
_EDGES = re.compile(r"^[-# ]| $")
"""An option, a comment, blanks that a line loses."""


class _Options(Protocol):
    """What is read of a configuration."""

    def switch(self, name: str, channel: str | None = None) -> bool: ...

    def string(self, name: str, channel: str | None = None) -> str | None: ...


class Namespace:
    """Names at one server. Every method that takes what was typed raises `BadName`."""

    def __init__(
        self, *, slashes: bool = True, virtdomains: bool = True, defaultdomain: str = "internal"
    ) -> None:
        self.separator = "/" if slashes else "."
        self._slashes = slashes
        self._escape = "^" if slashes else "/"
        self._virtdomains = virtdomains
        self._defaultdomain = defaultdomain

    @classmethod
    def from_config(cls, config: _Options) -> Self:
        """As unixhierarchysep, virtdomains and defaultdomain say."""
        return cls(
            slashes=config.switch("unixhierarchysep"),
            virtdomains=config.string("virtdomains") != "off",
            defaultdomain=config.string("defaultdomain") or "",
        )

    # -- mailboxes

    def internal(self, typed: str) -> str:
        """The internal name of what was typed; it may be one that only a replica keeps."""
        domain, inner = self._parse(typed)
        return check_mailbox_name(in_domain(domain, inner))

    def prefix(self, typed: str) -> str:
        """The beginning of an internal name, of what may end anywhere."""
        domain, inner = self._parse(typed)
        return in_domain(domain, inner)

    def below(self, name: str, typed: str) -> str:
        """The internal name of ``Work/2026`` below the mailbox `name`."""
        levels = ".".join(self._level(level) for level in _ascii(typed).split(self.separator))
        if "!" in levels and not split_domain(name)[0]:
            raise BadName(_NO_BANG).at(mailbox=typed)
        return check_mailbox_name(f"{name}.{levels}")

    def external(self, name: str) -> str:
        """What a person reads, and may type."""
        domain, inner = split_domain(name)
        levels = inner.split(".")
        if self._slashes:
            levels = [level.replace("^", ".") for level in levels]
        at = _where_the_userid_is(levels)
        levels[at] = self._in_domain(levels[at], domain, self._escape)
        return self._mark(self.separator.join(levels), self._escape)

    def _parse(self, typed: str) -> tuple[str, str]:
        levels = _ascii(typed).split(self.separator)
        at = _where_the_userid_is(levels)
        levels[at], domain = self._split(levels[at], self._escape)
        inner = ".".join(self._level(level) for level in levels)
        if "!" in inner and not domain:
            raise BadName(_NO_BANG).at(mailbox=typed)
        return domain, inner

    def _level(self, text: str) -> str:
        """One level as it stands in an internal name."""
        if not self._slashes:
            return self._unescape(text, "/")
        return self._unescape(text.replace(".", "^2E"), "^").replace(".", "^")

    # -- users and owners

    def userid(self, typed: str) -> str:
        """The userid of ``alice``, ``alice@example.org``."""
        if not typed.isascii():
            raise BadName("Invalid userid: it has other letters than ASCII's").at(user=ascii(typed))
        local, domain = self._split(typed, "^")
        return check_userid(join_userid(self._unescape(local, "^"), domain))

    def user(self, userid: str) -> str:
        """What a person reads, and may type, for a user."""
        local, domain = split_userid(userid)
        return self._mark(self._in_domain(local, domain, "^"), "^")

    def owner(self, typed: str) -> Owner:
        """``alice``, ``user/alice`` or ``shared:projects``."""
        if typed.startswith("shared:"):
            owner = owner_of(self.internal(typed.removeprefix("shared:")))
            if owner.kind != "shared":
                raise BadName(f"{typed} is no shared mailbox")
            return owner
        if typed.startswith(f"user{self.separator}"):
            name = self.internal(typed)
            if not is_inbox(name) or is_deleted(name):
                raise BadName(f"{typed} is a mailbox, not a user")
            return owner_of(name)
        return Owner("user", self.userid(typed))

    def owner_name(self, owner: Owner) -> str:
        """What a person reads, and may type, for an owner."""
        if owner == SERVER:
            return "server:"
        return self.user(owner.name) if owner.kind == "user" else f"shared:{self.external(owner.name)}"

    # -- domains and escapes

    def _split(self, text: str, escape: str) -> tuple[str, str]:
        """The part before the domain, which is still escaped, and the domain ("" for none)."""
        before, mark, domain = text.partition(f"{escape}@")
        if mark:
            return before, self._domain(domain, escape)
        local, at, domain = text.rpartition("@") if self._virtdomains else ("", "", "")
        if not at:
            return text, ""
        if not domain:
            raise BadName("Invalid name: there is no domain behind the @").at(mailbox=text)
        domain = self._domain(domain, escape)
        return local, "" if domain == self._defaultdomain else domain

    def _domain(self, text: str, escape: str) -> str:
        domain = self._unescape(text, escape)
        return domain.replace("^", ".") if escape == "/" else domain

    def _in_domain(self, local: str, domain: str, escape: str) -> str:
        """`local`, which is printed, with its domain. The opposite of `_split`."""
        if not domain:
            return local.replace("@", f"{escape}40") if self._virtdomains else local
        at = "@" if self._virtdomains and domain != self._defaultdomain else f"{escape}@"
        return local + at + (domain.replace(".", "^") if escape == "/" else domain)

    def _mark(self, text: str, escape: str) -> str:
        """`text` with escapes for what a command line would take for something else."""
        if text.startswith(_KINDS):
            text = text.replace(":", f"{escape}3A", 1)
        if escape == "^" and text.startswith(("user.", f"{DELETED_PREFIX}.")):
            text = text.replace(".", "^2E", 1)
        if escape == "^" and self._slashes and "/" not in text:
            text = text.replace("!", "^21")  # an internal name looks so
        return _EDGES.sub(lambda found: f"{escape}{ord(found[0]):02X}", text)

    def _unescape(self, text: str, escape: str) -> str:
        parts = text.split(escape)
        done = [parts[0]]
        for part in parts[1:]:
            if not re.match(r"[2-7][0-9A-Fa-f]", part):
                raise BadName(f"Invalid name: a {escape} stands only before two hex digits").at(mailbox=text)
            done.append(chr(int(part[:2], 16)) + part[2:])
        return "".join(done)


def _ascii(typed: str) -> str:
    """What was typed, in modified UTF-7 unless it may be that already."""
    if any("\ud800" <= letter <= "\udfff" for letter in typed):
        raise BadName("Invalid mailbox name: it is not UTF-8").at(mailbox=ascii(typed[:80]))
    return ascii_name(typed)


def _where_the_userid_is(levels: list[str]) -> int:
    """The index of the level that names the user, or the shared mailbox at the top."""
    deleted = levels[0] == DELETED_PREFIX and len(levels) > 2 and is_deleted_stamp(levels[-1])
    first = 1 if deleted else 0
    last = len(levels) - 2 * first
    return first + 1 if levels[first] == "user" and last > 1 else first
