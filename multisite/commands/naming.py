"""Mailboxes and owners as people type and read them.

Both forms of a mailbox's name are taken: that of an administrator (``user/bob/Projects``, with
unixhierarchysep), and the internal one, in which warnings of name conflicts come (``user.bob.Projects``).
"""

from __future__ import annotations

from common.config import Config
from common.errors import UsageError
from common.names import (
    Owner,
    check_mailbox_name,
    check_userid,
    from_external,
    owner_of,
    to_external,
)
from common.stores.mailstore import MailStore


class Naming:
    """Names at one server."""

    def __init__(self, config: Config) -> None:
        self._slashes = config.switch("unixhierarchysep")

    def internal(self, typed: str) -> str:
        """The internal name of what was typed, by its look alone. Raises `BadName`."""
        plain = typed.removeprefix("mailbox:")
        if self._slashes and "/" not in plain and (plain.startswith(("user.", "DELETED.")) or "!" in plain):
            return check_mailbox_name(plain)
        return check_mailbox_name(from_external(plain, self._slashes))

    def existing(self, typed: str, store: MailStore) -> str | None:
        """The internal name of the mailbox that was typed in either form, None if there is none."""
        plain = typed.removeprefix("mailbox:")
        for name in dict.fromkeys((self.internal(typed), plain)):
            if "/" in name:
                continue
            with store.read(owner_of(check_mailbox_name(name))) as reader:
                found = reader.mailbox(name)
            if found is not None and not found.tombstone:
                return name
        return None

    def external(self, name: str) -> str:
        return to_external(name, self._slashes)

    def owner(self, typed: str) -> Owner:
        """``alice``, ``user/alice``, ``shared:projects``. Raises `BadName`."""
        kind, colon, name = typed.partition(":")
        if colon and kind == "shared":
            return owner_of(self.internal(name))
        if colon and kind == "server":
            return Owner("server", "")
        if colon and kind != "user":
            raise UsageError(f"{typed} is neither a user nor shared:NAME")
        plain = name if colon else typed
        for prefix in ("user/", "user."):
            plain = plain.removeprefix(prefix)
        return Owner("user", check_userid(plain))
