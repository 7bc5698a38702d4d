"""Mailboxes as one user's mail program knows them: ``INBOX``, ``Work``, ``Other Users/bob/Plans``.

The rules are Cyrus's, so that every folder is called what it was called on the server that is gone:
unixhierarchysep says what stands between levels, altnamespace whether a user's folders stand beside INBOX
or below it, userprefix and sharedprefix where those of others are. Of another domain nothing is shown.

>>> names = UserNames("alice", alternative=True)
>>> names.shown("user.alice.Work.2026^a"), names.internal("Other Users/bob/Plans")
('Work/2026.a', 'user.bob.Plans')
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from cyrus_sync.common.names import (
    BadName,
    check_mailbox_name,
    in_domain,
    inbox_of,
    is_deleted,
    split_domain,
    split_userid,
)

if TYPE_CHECKING:
    from cyrus_sync.common.config import Config

INBOX = "INBOX"


class UserNames:
    """The namespace of one user."""

    def __init__(
        self,
        userid: str,
        *,
        slashes: bool = True,
        alternative: bool = True,
        users: str = "Other Users",
        shared: str = "Shared Folders",
    ) -> None:
        self.userid = userid
        self.separator = "/" if slashes else "."
        self._slashes = slashes
        self._inbox = inbox_of(userid)
        self._domain = split_userid(userid)[1]
        self._alternative = alternative
        self._users = users if alternative else "user"
        self._shared = shared if alternative else ""

    @classmethod
    def from_config(cls, config: Config, userid: str) -> Self:
        """As imapd.conf has it."""
        return cls(
            userid,
            slashes=config.switch("unixhierarchysep"),
            alternative=config.switch("altnamespace"),
            users=config.string("userprefix") or "Other Users",
            shared=config.string("sharedprefix") or "Shared Folders",
        )

    @property
    def prefixes(self) -> tuple[str, str, str]:
        """What NAMESPACE (RFC 2342) tells: how own folders begin, those of others, and shared ones."""
        own = "" if self._alternative else INBOX + self.separator
        return own, self._users + self.separator, self._shared + self.separator if self._shared else ""

    def shown(self, name: str) -> str | None:
        """What the user knows the mailbox `name` as; None for one that he cannot see under any name."""
        domain, inner = split_domain(name)
        if is_deleted(name) or domain != self._domain:
            return None
        own = split_domain(self._inbox)[1]
        if inner == own:
            return INBOX
        if inner.startswith(own + "."):
            levels = inner[len(own) + 1 :].split(".")
            return self._join(
                levels if self._alternative and not self._taken(levels[0]) else [INBOX, *levels]
            )
        levels = inner.split(".")
        if levels[0] == "user":
            return self._join([self._users, *levels[1:]]) if len(levels) > 1 else None
        if self._shared:
            return self._join([self._shared, *levels])
        return self._join(levels) if levels[0].upper() != INBOX else None

    def internal(self, shown: str) -> str:
        """The mailbox of a name that the user has typed or was shown. `BadName`."""
        levels = [self._inner(level) for level in shown.split(self.separator)]
        own = split_domain(self._inbox)[1]
        if levels[0].upper() == INBOX:
            inner = ".".join([own, *levels[1:]])
        elif levels[0] == self._inner(self._users):
            inner = ".".join(["user", *levels[1:]])
        elif self._shared and levels[0] == self._inner(self._shared):
            inner = ".".join(levels[1:])
        else:
            inner = ".".join([own, *levels] if self._alternative else levels)
        if "!" in inner and not self._domain:
            raise BadName().at(mailbox=shown)
        return check_mailbox_name(in_domain(self._domain, inner))

    def _taken(self, level: str) -> bool:
        """Whether a folder of the user is called like something else at the top."""
        return level.upper() == INBOX or level in (self._inner(self._users), self._inner(self._shared))

    def _join(self, levels: list[str]) -> str:
        if self._slashes:
            levels = [level.replace("^", ".") for level in levels]
        return self.separator.join(levels)

    def _inner(self, level: str) -> str:
        return level.replace(".", "^") if self._slashes else level
