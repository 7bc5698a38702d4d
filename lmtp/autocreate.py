"""`Autocreate`: a user who is made with his first message, where imapd.conf wants that (`autocreate_post`).

The rules are those of Cyrus's lmtpd: an INBOX, to which he is subscribed, the limits of his quota, and
folders with their uses and rights. Other than there he is made with the message and not at RCPT, in one
transaction: who asks for an address alone makes nobody, and nobody stays whose message was refused.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from cyrus_sync.common.acl import acl_can_hold
from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError, ReplyError
from cyrus_sync.common.model import UNLIMITED
from cyrus_sync.common.names import BadName, login_of, owner_user
from cyrus_sync.common.newnames import check_new_name
from cyrus_sync.common.stores.mailstore import MailWriter
from cyrus_sync.common.utf7 import ascii_name

log = logging.getLogger("lmtp")

_USES = "xlist-"
"""In front of an option that says which folder has a use: ``xlist-junk: Spam``."""

_SPECIAL_USE = "/specialuse"


@dataclass(frozen=True, slots=True)
class Autocreate:
    """What is made. `folders` are names as imapd.conf has them, and so are those in `subscribed`, `uses` (by
    folder) and `acl` (folder, identifier, rights). `users` and `admins` are logins; ``anyone`` is everybody.
    `limits` are by resource, STORAGE in KiB; None: no quota root."""

    limits: Mapping[str, int] | None
    folders: tuple[str, ...]
    subscribed: frozenset[str]
    uses: Mapping[str, str]
    acl: tuple[str, ...]
    users: frozenset[str]
    admins: frozenset[str]
    domains: bool

    @classmethod
    def from_config(cls, config: Config) -> Self | None:
        """None where nobody is made. Raises `ConfigError`."""
        octets, messages = config.size("autocreate_quota"), config.integer("autocreate_quota_messages")
        if octets < 0 or not config.switch("autocreate_post"):
            return None
        limits = {
            "STORAGE": _limit(config, "autocreate_quota", octets // 1024),
            "MESSAGE": _limit(config, "autocreate_quota_messages", messages),
        }
        acl = tuple((config.string("autocreate_acl") or "").split())
        if acl and len(acl) != 3:
            raise ConfigError(
                f"{config.where('autocreate_acl')}a folder, an identifier and rights are wanted"
            )
        if acl and not acl_can_hold(*acl[1:]):
            raise ConfigError(
                f"{config.where('autocreate_acl')}no ACL can give the rights {acl[2]} to {acl[1]}"
            )
        return cls(
            {name: limit for name, limit in limits.items() if limit > 0},
            _names(config, "autocreate_inbox_folders"),
            frozenset(_names(config, "autocreate_subscribe_folders")),
            {folder: f"\\{use.capitalize()}" for use, folder in config.beginning_with(_USES).items()},
            acl,
            frozenset(config.words("autocreate_users")),
            frozenset(config.words("admins")),
            config.string("virtdomains") != "off",
        )

    def may_make(self, inbox: str) -> bool:
        """Whether this user may come into being; no ("") shared mailbox does."""
        login = login_of(owner_user(inbox) or "")
        if not inbox or login in self.admins or self.users.isdisjoint(("anyone", login)):
            return False
        try:
            check_new_name(inbox, domains=self.domains)
        except BadName:
            return False
        return True

    def make(self, writer: MailWriter, inbox: str) -> None:
        """The user with his `inbox`. A folder that cannot be is left out, which is logged; an INBOX that
        cannot be raises `CyrusSyncError`."""
        userid = owner_user(inbox) or ""
        writer.create(inbox)
        writer.subscribe(inbox)
        if self.limits:
            writer.set_quota(inbox, dict(self.limits))
        made = [folder for folder in self.folders if self._folder(writer, inbox, folder)]
        log.info("autocreated: %s [folders=%s]", userid, "|".join(made))

    def _folder(self, writer: MailWriter, inbox: str, folder: str) -> bool:
        name = f"{inbox}.{ascii_name(folder).replace('/', '.')}"
        login = login_of(owner_user(inbox) or "")
        try:
            with writer.savepoint():
                writer.create(check_new_name(name, domains=self.domains))
                if folder in self.subscribed:
                    writer.subscribe(name)
                if folder in self.uses:
                    writer.annotate(name, _SPECIAL_USE, login, self.uses[folder].encode())
                if self.acl and self.acl[0] == folder:
                    writer.set_acl(name, *self.acl[1:])
        except ReplyError as error:
            log.warning("autocreate_inbox_folders: %s: %s", folder, error.at(user=login))
            return False
        return True


def _limit(config: Config, option: str, limit: int) -> int:
    """`limit`, if a quota root can have it, or none at all. `ConfigError`."""
    if limit >= UNLIMITED:
        raise ConfigError(f"{config.where(option)}a limit is less than {UNLIMITED} KiB or messages")
    return limit


def _names(config: Config, option: str) -> tuple[str, ...]:
    """``Junk | Trash`` as its names."""
    names = (name.strip() for name in (config.string(option) or "").split("|"))
    return tuple(dict.fromkeys(name for name in names if name))
