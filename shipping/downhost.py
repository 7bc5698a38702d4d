"""Hosts that did not answer are left alone for DOWNHOST-TIMEOUT. A marker file named after the host says
since when; removing it by hand makes the next run try again."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cyrus_sync.common.files import make_directories
from cyrus_sync.shipping.names import check_host
from cyrus_sync.shipping.site import Site


def marker(site: Site, host: str) -> Path:
    return site.home / "ms_downhost" / check_host(host).lower()


def is_down(site: Site, host: str) -> bool:
    """True if `host` is not to be tried now."""
    end = until(site, host)
    return end - site.conf.downhost_timeout <= site.clock() < end


def until(site: Site, host: str) -> float:
    """Seconds since 1970 until which `host` is left alone; 0 if it is not."""
    if not site.conf.downhost_timeout:
        return 0
    try:
        return marker(site, host).stat().st_mtime + site.conf.downhost_timeout
    except FileNotFoundError:
        return 0


def mark_down(site: Site, host: str) -> None:
    path = marker(site, host)
    with contextlib.suppress(OSError):
        make_directories(path.parent)
        path.touch(mode=0o600)
        os.utime(path, (site.clock(), site.clock()))


def mark_up(site: Site, host: str) -> None:
    with contextlib.suppress(OSError):
        marker(site, host).unlink(missing_ok=True)
