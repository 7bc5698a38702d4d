"""The benchmark command works at a tiny scale; the figures of such a run mean nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.mail import Post
from bench.workloads import USUAL
from tests.deadlines import scaled
from tests.interop.releases import HOST

CHECKOUT = Path(__file__).parents[2]


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", "--scale", "0.002", *args],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=scaled(110),
        check=False,
    )


def test_every_workload_runs_between_our_two_ends() -> None:
    done = bench("--markdown")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| tmpfs")]
    assert len(rows) == 4 + (len(USUAL) - 1)
    for row in rows:
        assert "ours-ours" in row[3]
        assert float(row[7]) > 0


@pytest.mark.interop
@pytest.mark.skipif(bool(HOST.why_unavailable()), reason="no real Cyrus")
@pytest.mark.parametrize("pair", ["real-real", "real-ours", "ours-real", "spool-ours", "spool-real"])
def test_the_real_cyrus_can_be_measured_too(pair: str) -> None:
    done = bench("--pairs", pair, "--workloads", "initial", "--line", "deflate")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "initial sync" in done.stdout


def test_what_starting_costs_and_many_users_are_measured_too() -> None:
    for module, *words in (("bench.start", "--rounds", "1"), ("bench.many", "--users", "3")):
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=scaled(110),
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert (
            "sync_client -u, refused" if module == "bench.start" else "restore --everybody"
        ) in done.stdout


def test_the_mail_is_the_same_every_time_and_of_the_size_asked_for() -> None:
    first, again = list(Post(7).alike(50)), list(Post(7).alike(50))
    assert first == again
    assert len(set(first)) == 50
    assert all(3900 <= len(message) <= 4300 for message in first)
    assert all(len(message) <= 1_048_576 for message in Post(7).mixed(300))


def test_mail_is_fit_for_a_real_server() -> None:
    for message in [*Post(3).alike(200), *Post(3).mixed(100)]:
        assert b"\n" not in message.replace(b"\r\n", b"")


def test_a_file_is_shipped_beside_its_copies() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.shipping", "--size", "100000", "--rounds", "1"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=scaled(110),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "shipping_server" in done.stdout


def test_packets_are_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.packets", "--messages", "20", "--users", "3"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=scaled(110),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "export" in done.stdout and "import" in done.stdout


def test_reading_a_spool_can_be_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.spool", "1500"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("µs a record") == 4  # verified twice, and twice checked with one change
    assert "µs a message" in done.stdout
