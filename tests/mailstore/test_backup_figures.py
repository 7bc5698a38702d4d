"""What a backup tells Prometheus: when all was last brought away without fault."""

from __future__ import annotations

import re
import time
from pathlib import Path

from .conftest import Site


def told(site: Site) -> dict[tuple[str, str], float]:
    """Value by name and the last part of the place."""
    text = (site.path / "node/cyrus_sync_backup.prom").read_text()
    rows = re.findall(r'^cyrus_sync_backup_(\w+){place="[^"]*/(\w+)"} (\S+)$', text, re.MULTILINE)
    return {(name, place): float(value) for name, place, value in rows}


def test_the_last_good_backup_of_everybody_is_told_and_no_other(tmp_path: Path) -> None:
    site = Site(tmp_path, f"sync_metrics_file: {tmp_path}/node\n")
    (tmp_path / "node").mkdir()
    for user in ("alice", "bruno"):
        site.ok("create", f"user/{user}")
        site.ok("deliver", user, stdin=b"Subject: x\r\n\r\nx\r\n")
    site.ok("backup", f"file:{tmp_path}/one", "alice")
    assert set(told(site)) == {("first_timestamp_seconds", "one")}
    began = time.time()
    site.ok("backup", f"file:{tmp_path}/all", "--everybody")
    good = told(site)["last_success_timestamp_seconds", "all"]
    assert began - 5 < good < time.time()
    (pack,) = (tmp_path / "spool").rglob("users/*/bruno/pack-*")
    site.ok("deliver", "bruno", stdin=b"Subject: y\r\n\r\ny\r\n")
    pack.unlink()
    assert site.run("backup", f"file:{tmp_path}/all", "--everybody").status == 1
    assert told(site)["last_success_timestamp_seconds", "all"] == good, "this one was not whole"
