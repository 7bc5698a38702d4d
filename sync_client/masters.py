"""Which mail is replicated: the master that the configuration names."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import NamedTuple

from cyrus_sync.common.config import Config
from cyrus_sync.common.master import Master
from cyrus_sync.common.stores import open_kept, open_store
from cyrus_sync.common.stores.master import NativeMaster


class OpenedMaster(NamedTuple):
    """A master, and what is left of earlier changes to be logged."""

    master: Master
    sweep: Callable[[Event], object]
    """Writes lines of the action log that whoever changed mail could not write. Blocks; ends early when the
    event is set."""


def open_master(cfg: Config) -> OpenedMaster:
    """The store of `cfg`. Raises what its `check` does where mail cannot be kept there."""
    kept = open_kept(cfg)
    kept.care.check()
    return OpenedMaster(NativeMaster(kept.mail), kept.care.sweep)


def look_at_master(cfg: Config) -> Master:
    """The same, to be looked at beside a client that works on it: nothing is checked, made or logged."""
    return NativeMaster(open_store(cfg, readonly=True, log=False))
