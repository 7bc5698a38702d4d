"""Figures that more than one program tells: room on disks, ends of certificates, locks waited for, packs that
are in an object store."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from cyrus_sync.common import filelock
from cyrus_sync.common.config import Config
from cyrus_sync.common.farfigures import FAILURES, FAR, REPORT, WHERE
from cyrus_sync.common.metrics.sheet import Sheet

CONFIGDIRECTORY = "(configdirectory)"
"""Stands among the names of partitions; none can be called so."""


def places_of(config: Config) -> dict[str, Path]:
    """The directories whose disks may become full, by name."""
    return {CONFIGDIRECTORY: config.configdirectory, **config.partitions}


def add_disks(sheet: Sheet, places: Mapping[str, Path]) -> None:
    """Blocks."""
    for name, path in places.items():
        try:
            found = os.statvfs(path)
        except OSError:
            continue
        labels = {"program": sheet.program, "partition": name}
        free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        sheet.gauge("partition_free_bytes", "Room that this program may still take.", free, **labels)
        sheet.gauge("partition_size_bytes", "Size of the file system of a partition.", size, **labels)


def add_certificates(sheet: Sheet, ends: Iterable[tuple[str, Path, datetime]]) -> None:
    """When the certificates in files end, with the option that names each file."""
    for option, path, end in ends:
        sheet.gauge(
            "certificate_expiry_timestamp_seconds",
            "When a certificate, or an authority that is trusted, ends.",
            end.timestamp(),
            program=sheet.program,
            option=option,
            file=str(path),
        )


def add_locks(sheet: Sheet) -> None:
    waits = filelock.WAITS
    labels = {"program": sheet.program}
    text = "Locks of owners that were not had at once."
    sheet.counter("lock_waits_total", text, waits.count, **labels)
    sheet.counter("lock_wait_seconds_total", "Seconds waited for them.", waits.seconds, **labels)
    sheet.counter("lock_timeouts_total", "Of these, those given up.", waits.given_up, **labels)


def add_far(sheet: Sheet, config: Config) -> None:
    """Of packs in an object store; nothing where there never was one. Blocks."""
    labels = {"program": sheet.program}
    if any(FAR.blocks.values()) or any(FAR.failures.values()):
        text = "Blocks of packs in the object store that were read, by where they were found."
        for where in WHERE:
            sheet.counter("far_blocks_total", text, FAR.blocks[where], found=where, **labels)
        sheet.counter("far_fetched_bytes_total", "Octets fetched from it.", FAR.fetched, **labels)
        text = "Requests for such blocks that failed, by why."
        for why in FAILURES:
            sheet.counter("far_failures_total", text, FAR.failures[why], why=why, **labels)
    try:
        report = json.loads((config.configdirectory / REPORT).read_bytes())
        near, far, failed, ended = (float(report[name]) for name in ("near", "far", "failed", "ended"))
    except (OSError, ValueError, KeyError, TypeError):
        return
    text = "Octets of packs, as the last mailstore tier -A found them."
    sheet.gauge("tier_bytes", text, near, place="near", **labels)
    sheet.gauge("tier_bytes", text, far, place="far", **labels)
    sheet.gauge("tier_failed_owners", "Owners of whom it could not do all.", failed, **labels)
    sheet.gauge("tier_last_end_timestamp_seconds", "When it ended.", ended, **labels)
