"""``python -m bench.fleet`` works at a tiny scale; the figures of such a run mean nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.absent import skip_without
from tests.deadlines import scaled
from tests.fleet.postgres import why_unavailable

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_a_fleet_is_measured_beside_a_local_store(tmp_path: Path) -> None:
    skip_without("real PostgreSQL", why_unavailable())
    tmp_path.chmod(0o755)
    options = ["--scale", "0.001", "--rounds", "1", "--markdown", "--ground", "tmpfs"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.fleet", *options, "--parts", "sync", "flag", "rebuild", "rebalance"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=scaled(110),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row[1].strip(): row[2:] for row in (line.split("|") for line in done.stdout.splitlines())}
    local, fleet, ratio, aim, _ = rows["first sync, 20 × 4 KB, messages/s"]
    assert float(local) > 0 and float(fleet) > 0 and float(ratio) > 0 and aim == " ≥ 0.6 "
    for begin in ("one flag", "an owner of 5 messages", "rebalance, users moved"):
        (figure,) = [cells[1] for what, cells in rows.items() if what.startswith(begin)]
        assert float(figure) > 0, begin
