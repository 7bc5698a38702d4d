"""Whose mail it is that `sync_source` names."""

from __future__ import annotations

from enum import Enum
from typing import assert_never

from cyrus_sync.common.config import Config
from cyrus_sync.spool.config import list_of_mailboxes
from cyrus_sync.spool.trouble import cannot_read


class Mail(Enum):
    """The values of `sync_source` but for ``auto``, which is one of these, and ``imap``, which is STORE. Who
    asks says something about each and ends with `assert_never`, so that mypy names every such place to
    whoever adds one."""

    STORE = "native"
    """Our store's."""
    SPOOL = "cyrus"
    """That in the spool of a real Cyrus."""
    SERVER = "csync"
    """What the csync server of a real Cyrus tells of (`cyrus_csync`)."""

    @property
    def is_cyrus(self) -> bool:
        """Whether daemons of a real Cyrus change it: it is theirs alone to keep from changing."""
        match self:
            case Mail.STORE:
                return False
            case Mail.SPOOL | Mail.SERVER:
                return True
            case _:
                assert_never(self)


def whose_mail(cfg: Config) -> Mail:
    """Raises `StoreError` for who may not look which it is."""
    source = cfg.string("sync_source")
    if source == "imap":  # what is pulled is in our store
        return Mail.STORE
    if source != "auto":
        return Mail(source)
    path = list_of_mailboxes(cfg)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return Mail.STORE
    except OSError as error:  # nobody may take it for a store of ours because he cannot look
        raise cannot_read(path, error) from error
    return Mail.SPOOL
