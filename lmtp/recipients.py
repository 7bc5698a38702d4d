"""Whose mailbox an address means: the rules of Cyrus's lmtpd.

``alice+Work/2026@example.org``: what stands before the plus is the user, behind it a folder of his (with the
separator of imapd.conf). A domain counts where `virtdomains` is set, but for `defaultdomain`. The user of
`postuser` (nobody: ``+projects``) stands for shared mailboxes. Letters beyond ASCII (RFC 6531) stand in
folders; a domain with them is known by its name in the DNS (RFC 5891).

>>> found = Addresses(Namespace(virtdomains=False)).recipient("Alice+Work/2026@example.org")
>>> found.inbox, found.mailbox, found.owner.name
('user.alice', 'user.alice.Work.2026', 'alice')
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from unicodedata import normalize

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import BadName, Owner, check_userid, inbox_of, join_userid, owner_of, owner_user
from cyrus_sync.common.namespace import Namespace


@dataclass(frozen=True, slots=True)
class Recipient:
    """Internal names. `inbox` is "" for a shared mailbox; `mailbox` is what was asked for."""

    owner: Owner
    mailbox: str
    inbox: str = ""

    @property
    def detail(self) -> bool:
        """Whether a folder was asked for; if it cannot be had, the INBOX takes the message."""
        return bool(self.inbox) and self.mailbox != self.inbox


@dataclass(frozen=True, slots=True)
class Addresses:
    """How addresses are read here."""

    namespace: Namespace
    virtdomains: bool = False
    defaultdomain: str = ""
    downcase: bool = True
    postuser: str = ""

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls(
            Namespace.from_config(config),
            virtdomains=config.string("virtdomains") != "off",
            defaultdomain=config.string("defaultdomain") or "",
            downcase=config.switch("lmtp_downcase_rcpt"),
            postuser=config.string("postuser") or "",
        )

    def recipient(self, address: str) -> Recipient:
        """The recipient of an address. Raises `BadName` where it can be nobody's."""
        local, at, domain = normalize("NFC", address).rpartition("@")
        if not at:
            local, domain = domain, ""
        if not domain.isascii():
            domain = _in_dns(domain)
        if not self.virtdomains or domain == self.defaultdomain:
            domain = ""
        user, plus, detail = local.partition("+")
        if self.downcase:
            user, domain = user.lower(), domain.lower()
        if user == self.postuser:
            return self._shared(detail, domain)
        inbox = inbox_of(check_userid(join_userid(user, domain)))
        owner = owner_of(inbox)
        return Recipient(owner, self._below(inbox, detail) if plus and detail else inbox, inbox)

    def _below(self, inbox: str, detail: str) -> str:
        try:
            return self.namespace.below(inbox, detail)
        except BadName:  # no mailbox can be called so
            return inbox

    def _shared(self, typed: str, domain: str) -> Recipient:
        """``projects/2026``, or a user's mailbox by its whole name, as if he were no user."""
        if not typed:
            raise BadName("an address without a mailbox")
        name = self.namespace.internal(typed)
        if domain:
            name = f"{domain}!{name.partition('!')[2] or name}"
        if owner_user(name):
            raise BadName("a shared mailbox is wanted")
        return Recipient(owner_of(name), name)


def _in_dns(domain: str) -> str:
    """``bücher.example`` as ``xn--bcher-kva.example``. Raises `BadName`."""
    import idna  # few need it

    try:
        return idna.encode(domain, uts46=True).decode()
    except idna.IDNAError as error:
        raise BadName(f"Invalid domain: {error}") from None


def catchall(namespace: Namespace, typed: str) -> Recipient:
    """The user who gets what nobody else does. Raises `BadName`."""
    userid = namespace.userid(typed)
    inbox = inbox_of(userid)
    return Recipient(Owner("user", userid), inbox, inbox)
