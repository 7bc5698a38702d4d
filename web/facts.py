"""`Facts`: what the page shows, of one moment. Looking blocks on disks, so it is done in a thread."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.judgement import UNKNOWN
from cyrus_sync.common.metrics.shared import places_of
from cyrus_sync.common.stores import role_of
from cyrus_sync.common.wire.certificates import ends, server_files
from cyrus_sync.common.wire.tls_settings import ServerTLSSettings
from cyrus_sync.mailstore.scrub_state import FILE as SCRUB_FILE
from cyrus_sync.mailstore.scrub_state import Scrub, ScrubState
from cyrus_sync.multisite.family import FILE as FAMILY_FILE
from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.health import Health, look
from cyrus_sync.multisite.health import Thresholds as PacketThresholds
from cyrus_sync.multisite.member import directory_of
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.shipping.site import Site
from cyrus_sync.spool.whose import whose_mail
from cyrus_sync.sync_client.overview import channels_of, overview
from cyrus_sync.sync_client.quarantine_file import owner_key, read_listing
from cyrus_sync.sync_client.status import Thresholds

THRESHOLDS = Thresholds()
WEEK = 7 * 86400

SLOW_SECONDS = 60.0
"""So long packets, which lie in bays by the thousand, and certificates are not looked at again."""
PACKETS = PacketThresholds(warning=WEEK, critical=4 * WEEK)


@dataclass(frozen=True, slots=True)
class Aside:
    """An owner who is set aside. Times in Unix seconds; `next_retry` None = never."""

    channel: str
    who: str
    reason: str
    since: int
    failures: int
    next_retry: int | None
    only: tuple[str, ...]
    listing: Path
    """The file that an administrator may edit."""


@dataclass(frozen=True, slots=True)
class Disk:
    """Room on the file system of a partition, in octets."""

    name: str
    path: Path
    free: int
    size: int

    @property
    def share(self) -> float:
        """What is free of it, from 0 to 1."""
        return self.free / self.size if self.size else 0.0


@dataclass(frozen=True, slots=True)
class Certificate:
    option: str
    path: Path
    ends: int
    """Unix seconds."""


@dataclass(slots=True)
class Facts:
    """Of this host. `channels` are those of `sync_client.status.read_status`."""

    now: float
    server: str
    channels: list[dict[str, Any]] = field(default_factory=list)
    asides: list[Aside] = field(default_factory=list)
    packets: Health | None = None
    packets_trouble: str = ""
    disks: list[Disk] = field(default_factory=list)
    certificates: list[Certificate] = field(default_factory=list)
    scrub: Scrub | None = None
    """The one that is under way, or was interrupted."""
    last_scrub: Scrub | None = None
    of_cyrus: bool = False
    """Whether mail goes out from the spool of a real Cyrus."""
    role: str = ""
    """What this store is for now (`common.role`), in words; "" where imapd.conf alone says it."""
    failed: list[str] = field(default_factory=list)
    """What could not be looked at, in words."""


class Observer:
    """Looks at what `cfg` names. Not for two threads at once."""

    def __init__(self, cfg: Config, clock: Callable[[], float]) -> None:
        self._cfg = cfg
        self._clock = clock
        self._last: Facts | None = None
        """What was seen of the slow parts, at `now`."""

    def look(self) -> Facts:
        """Everything. What cannot be looked at is told (`Facts.failed`), and keeps nothing else away."""
        cfg = self._cfg
        facts = Facts(self._clock(), cfg.servername)
        for part in (
            self._channels,
            self._asides,
            self._disks,
            self._role,
            self._scrub,
            self._slow,
        ):
            try:
                part(facts)
            except Exception as error:  # files that others wrote may hold anything
                known = isinstance(error, CyrusSyncError | OSError | sqlite3.Error)
                facts.failed.append(str(error) if known else f"{type(error).__name__}: {error}")
        return facts

    def _channels(self, facts: Facts) -> None:
        facts.of_cyrus = whose_mail(self._cfg).is_cyrus
        found = overview(self._cfg, channels_of(self._cfg), facts.now, THRESHOLDS)["channels"]
        facts.channels = [
            _typed(one) for one in found if one["exit_status"] != UNKNOWN or self._is_meant(one)
        ]

    def _is_meant(self, channel: dict[str, Any]) -> bool:
        """Whether a channel on which nobody has worked was to be worked on: a replica has none."""
        return self._cfg.string("sync_host", channel["channel"] or None) is not None

    def _asides(self, facts: Facts) -> None:
        for one in facts.channels:
            listing = self._cfg.configdirectory / "sync" / one["channel"] / "quarantine.yaml"
            try:
                entries = read_listing(listing).entries
            except CyrusSyncError as error:
                facts.failed.append(str(error))
                continue
            facts.asides += [
                Aside(
                    one["channel"],
                    owner_key(owner),
                    entry.reason,
                    entry.first_failure,
                    entry.failures,
                    entry.next_retry,
                    entry.only,
                    listing,
                )
                for owner, entry in entries.items()
            ]

    def _slow(self, facts: Facts) -> None:
        """What takes long to look at, and changes slowly."""
        last = self._last
        if last is not None and 0 <= facts.now - last.now < SLOW_SECONDS:
            facts.packets, facts.packets_trouble = last.packets, last.packets_trouble
            facts.certificates = last.certificates
            return
        self._last = None
        self._packets(facts)
        self._certificates(facts)
        self._last = facts

    def _packets(self, facts: Facts) -> None:
        directory = directory_of(self._cfg)
        if not (directory / FAMILY_FILE).exists():
            return
        try:
            family = Family.load(directory)
            site = Site.from_config(self._cfg)
            with Log(directory, family.self_id) as log:
                facts.packets = look(self._cfg, family, log, site, PACKETS)
        except (CyrusSyncError, OSError, sqlite3.Error) as error:
            facts.packets_trouble = str(error)

    def _disks(self, facts: Facts) -> None:
        for name, path in places_of(self._cfg).items():
            with contextlib.suppress(OSError):
                about = os.statvfs(path)
                free, size = about.f_bavail * about.f_frsize, about.f_blocks * about.f_frsize
                facts.disks.append(Disk(name, path, free, size))

    def _certificates(self, facts: Facts) -> None:
        files = server_files(ServerTLSSettings.from_config(self._cfg))
        facts.certificates = [
            Certificate(option, path, int(end.timestamp())) for option, path, end in ends(files)
        ]

    def _role(self, facts: Facts) -> None:
        standing = role_of(self._cfg).standing()
        if standing is not None:
            facts.role = f"{standing.role.value} {standing.words}"
        elif self._cfg.switch("replicaonly"):
            facts.role = "replica (replicaonly)"

    def _scrub(self, facts: Facts) -> None:
        state = ScrubState(self._cfg.configdirectory / SCRUB_FILE, self._clock)
        state.read()
        facts.scrub = state.now if state.now.begun and state.now.ended is None else None
        facts.last_scrub = state.last


_COUNTS = ("queue", "under_way", "set_aside", "withheld_messages", "damaged_owners")
_NUMBERS = ("oldest_change_seconds", "last_success_seconds", "messages_per_minute", "connected_since")
_TEXTS = ("state", "server", "last_error")


def _typed(channel: dict[str, Any]) -> dict[str, Any]:
    """The same with all that the page asks for, each of its type: a client has written most of it."""
    found = dict(channel)
    for key in _COUNTS:
        found[key] = value if isinstance(value := channel.get(key), int) else 0
    for key in _NUMBERS:
        found[key] = value if isinstance(value := channel.get(key), int | float) else None
    for key in _TEXTS:
        found[key] = str(channel.get(key) or "")
    return found
