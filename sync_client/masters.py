"""Which mail is replicated: the master that the configuration names (`sync_source`)."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import NamedTuple

from cyrus_sync.common.config import Config
from cyrus_sync.common.master import Master
from cyrus_sync.common.stores import open_kept, open_store
from cyrus_sync.common.stores.master import NativeMaster
from cyrus_sync.spool.config import list_of_mailboxes
from cyrus_sync.spool.master import SpoolMaster
from cyrus_sync.spool.server import Server
from cyrus_sync.spool.trouble import cannot_read


class OpenedMaster(NamedTuple):
    """A master, and what is left of earlier changes to be logged."""

    master: Master
    sweep: Callable[[Event], object]
    """Writes lines of the action log that whoever changed mail could not write. Blocks; ends early when the
    event is set."""


def reads_spool(cfg: Config) -> bool:
    """Whether the mail is that of a real Cyrus. Raises `StoreError` for who may not look."""
    source = cfg.string("sync_source")
    if source != "auto":
        return source == "cyrus"
    path = list_of_mailboxes(cfg)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:  # nobody may take it for a store of ours because he cannot look
        raise cannot_read(path, error) from error
    return True


def open_master(cfg: Config) -> OpenedMaster:
    """What `cfg` names. Raises what its `check` does where mail cannot be kept, or read, there."""
    if reads_spool(cfg):
        server = Server.from_config(cfg)
        server.check()
        return OpenedMaster(SpoolMaster(server), _nothing_left)
    kept = open_kept(cfg)
    kept.care.check()
    return OpenedMaster(NativeMaster(kept.mail), kept.care.sweep)


def _nothing_left(stop: Event) -> None:
    """The daemons of a real Cyrus write their own lines."""
    del stop


def look_at_master(cfg: Config) -> Master:
    """The same, to be looked at beside a client that works on it: nothing is checked, made or logged."""
    if reads_spool(cfg):
        return SpoolMaster(Server.from_config(cfg))
    return NativeMaster(open_store(cfg, readonly=True, log=False))
