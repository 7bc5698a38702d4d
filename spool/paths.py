"""Where everything is in a real Cyrus's spool.

Since 3.6 a mailbox, and what belongs to a user, is kept under a unique id (``uuid/a/b/abc…``); those made
before, and all with ``mailbox_legacy_dirs``, under their names.
"""

from __future__ import annotations

from pathlib import Path

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.names import split_domain, split_userid
from cyrus_sync.spool.config import META_FILES, SpoolConfig
from cyrus_sync.spool.mailbox import MailboxFiles
from cyrus_sync.spool.names import directory_letter


class Paths:
    """By the configuration `config`."""

    def __init__(self, config: SpoolConfig) -> None:
        self._config = config

    # -- mailboxes

    def mailbox(self, name: str, uniqueid: str, partition: str, *, by_name: bool) -> MailboxFiles:
        """The files of a mailbox. Raises `StoreError` for a partition that is not configured."""
        config = self._config
        below = self._by_name(name) if by_name else by_id(uniqueid)
        try:
            header, index, annotations = (config.meta_directory(kind, partition) for kind in META_FILES)
            messages = config.partitions[partition]
        except KeyError:
            raise StoreError(
                f"mailbox is on the partition {partition!r}, and there is no partition-{partition}"
            ).at(mailbox=name, uniqueid=uniqueid) from None
        archive = config.archives.get(partition)
        # Put together as text: a Path made of Paths costs as much as to look into the mailbox.
        return MailboxFiles(
            index=Path(f"{index}/{below}/cyrus.index"),
            header=Path(f"{header}/{below}/cyrus.header"),
            annotations=Path(f"{annotations}/{below}/cyrus.annotations"),
            messages=Path(f"{messages}/{below}"),
            archive=Path(f"{archive}/{below}") if archive is not None else None,
        )

    def _by_name(self, name: str) -> str:
        domain, inner = split_domain(name)
        levels = inner.split(".")
        parts: list[str] = []
        if domain:
            parts += ["domain", self._letter(domain), domain] if self._config.hashed else ["domain", domain]
        if self._config.hashed:
            parts.append(self._letter(levels[min(1, len(levels) - 1)].replace("^", ".")))
        return "/".join((*parts, *levels))

    def _letter(self, text: str) -> str:
        return directory_letter(text, full=self._config.full_hash)

    # -- users

    def of_user(self, userid: str, suffix: str, inbox_id: str) -> Path:
        """A user's ``sub``, ``seen``, ``counters`` and so on; `inbox_id` "" where they are kept by name."""
        top = self._config.configdirectory
        if inbox_id:
            return top / "user" / by_id(inbox_id) / f"{suffix}.db"
        local, domain = split_userid(userid)
        if domain:
            top = top / "domain" / self._letter(domain) / domain
        return top / "user" / self._letter(local) / f"{local}.{suffix}"

    def sieve(self, userid: str, inbox_id: str) -> Path | None:
        """The directory of the files of his Sieve scripts; None where they are in home directories, which
        nobody replicates."""
        config = self._config
        local, domain = split_userid(userid)
        if config.sieve_in_homes:
            return None
        if inbox_id:
            return config.sieve / by_id(inbox_id)
        if domain and config.domains:
            return config.sieve / "domain" / self._letter(domain) / domain / self._letter(local) / local
        login = f"{local}@{domain}" if domain else local
        return config.sieve / self._letter(login) / login

    # -- quota roots

    def quota(self, root: str) -> Path:
        """The file of a quota root, of the kind quotalegacy."""
        directory, rest = self.quotas_beside(root)
        return directory / rest if rest else directory.parent / "root"

    def quotas_beside(self, root: str) -> tuple[Path, str]:
        """The directory in which that file is, and its name there: what is below it is there too."""
        top = self._config.configdirectory
        domain, rest = split_domain(root)
        if domain and self._config.domains:
            top = top / "domain" / self._letter(domain) / domain
        else:
            rest = root
        first, dot, others = rest.partition(".")
        return top / "quota" / self._letter(others if dot else first), rest


def by_id(uniqueid: str) -> str:
    """The directory of what is kept under a unique id, below a partition's or another."""
    if len(uniqueid) < 2 or "/" in uniqueid or uniqueid.startswith("."):
        raise StoreError(f"{uniqueid!r} is no unique id")
    return f"uuid/{uniqueid[0]}/{uniqueid[1]}/{uniqueid}"
