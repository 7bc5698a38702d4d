"""Nodes of a fleet in one process: each has a cache of its own, all have one database and one object
store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.fleet.home import FleetHome
from cyrus_sync.fleet.servers import Servers
from cyrus_sync.objects.directory import DirectoryObjects
from cyrus_sync.objects.store import ObjectStore
from tests.common.stores.tools import Clock, Log

PARTITIONS = ("default", "other")


class Fleet:
    """Nodes by name."""

    def __init__(self, path: Path, *urls: str, objects: ObjectStore | None = None) -> None:
        self.path = path
        self.urls = urls
        self.objects = objects or DirectoryObjects(path / "objects")

    def home(self, name: str, *, notes: Path | None = None, machine: Callable[[], str] = str) -> FleetHome:
        return FleetHome(
            Servers(self.urls), self.objects, self.path / name / "cache",
            notes=notes or self.path / name / "notes", partitions=PARTITIONS, defaultpartition="default",
            machine=machine,
        )  # fmt: skip

    def node(
        self, name: str, *, log: Log | None = None, clock: Callable[[], float] | None = None, **more: Any
    ) -> NativeStore:
        return NativeStore(self.home(name), action_log=log, clock=clock or Clock(), **more)
