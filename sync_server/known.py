"""Addresses from which administrators have logged in, kept for the next start: a server that comes up under
attack knows who replicates.

One JSON file: address → when, in Unix seconds. It is a hint: where it cannot be read nobody is known yet.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from cyrus_sync.common.files import make_directories, write_over

log = logging.getLogger("sync_server")

MOST = 1000
"""Addresses that are kept; the ones used longest ago go first."""

FILE = "known-addresses.json"
"""Below ``<configdirectory>/sync``."""


def read_known(path: Path) -> dict[str, float]:
    """What was kept, the oldest first; nothing where that cannot be read."""
    try:
        found = json.loads(path.read_text("utf-8"))
        kept = {str(address): float(when) for address, when in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        log.warning("%s cannot be read, so no address is known yet: %s", path, error)
        return {}
    return dict(sorted(kept.items(), key=lambda item: item[1]))


def write_known(path: Path, known: Mapping[str, float]) -> None:
    """Keep them. Blocks; on a disk that takes nothing they are known until the server stops."""
    try:
        make_directories(path.parent)
        merged = read_known(path)  # other workers keep theirs there, too
        for address, when in known.items():
            merged[address] = max(when, merged.get(address, 0.0))
        latest = sorted(merged.items(), key=lambda item: item[1])[-MOST:]
        write_over(path, json.dumps(dict(latest), indent=1).encode())
    except OSError as error:
        log.warning("cannot keep the known addresses in %s: %s", path, error)
