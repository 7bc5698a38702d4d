"""Mailboxes and owners as people type and read them.

Both forms of a mailbox's name are taken: that of an administrator (``user/bob/Projects``, with
unixhierarchysep), and the internal one (``user.bob.Projects``), which log lines and errors have.
"""

from __future__ import annotations

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import SERVER, Owner, check_mailbox_name, owner_of
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.newnames import check_new_name
from cyrus_sync.multisite.mail import SiteMail


class Naming:
    """Names at one server."""

    def __init__(self, config: Config) -> None:
        self._space = Namespace.from_config(config)
        self._domains = config.string("virtdomains") != "off"
        self._slashes = self._space.separator == "/"

    def internal(self, typed: str) -> str:
        """The internal name of what was typed, by its look alone. Raises `BadName`."""
        plain = typed.removeprefix("mailbox:")
        if self._slashes and "/" not in plain and (plain.startswith(("user.", "DELETED.")) or "!" in plain):
            return check_mailbox_name(plain)
        return self._space.internal(plain)

    def new(self, typed: str) -> str:
        """As `internal`, for a name that a mailbox is to get. Raises `BadName` for what no Cyrus takes."""
        return check_new_name(self.internal(typed), domains=self._domains)

    def existing(self, typed: str, store: SiteMail) -> str | None:
        """The internal name of the mailbox that was typed, None if there is none."""
        name = self.internal(typed)
        with store.read(owner_of(name)) as reader:
            found = reader.mailbox(name)
        return name if found is not None and not found.tombstone else None

    def external(self, name: str) -> str:
        """An internal name as an administrator types it: ``user/bob/Projects``."""
        return self._space.external(name)

    def owner_name(self, owner: Owner) -> str:
        """An owner as `owner` reads it."""
        return self._space.owner_name(owner)

    def owner(self, typed: str) -> Owner:
        """``alice``, ``user/alice``, ``shared:projects``. Raises `BadName`."""
        kind, colon, name = typed.partition(":")
        if colon and kind == "server":
            return SERVER
        if colon and kind == "shared":
            return owner_of(self.internal(name))
        plain = name if colon and kind == "user" else typed
        return self._space.owner(plain.removeprefix("user.") if self._slashes else plain)
