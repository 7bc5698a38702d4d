"""A real Prometheus that is unpacked, not installed, and scrapes what a test names."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.deadlines import scaled, until

RULES = Path(__file__).parents[2] / "etc/prometheus-rules.yml"


def cache_directory() -> Path:
    """Where it is kept."""
    named = os.environ.get("CYRUS_SYNC_PROMETHEUS")
    if named:
        return Path(named)
    return Path("/var/cache" if os.geteuid() == 0 else Path.home() / ".cache") / "cyrus-sync" / "prometheus"


def program(name: str) -> str:
    """The path of ``prometheus`` or ``promtool``: of the machine, or of what was unpacked."""
    return shutil.which(name) or str(cache_directory() / "usr/bin" / name)


@cache
def why_unavailable() -> str:
    """Unpack it, if it is not there yet; why that could not be, "" if it could."""
    if shutil.which("prometheus") and shutil.which("promtool"):
        return ""
    script = Path(__file__).with_name("install-prometheus")
    try:
        done = subprocess.run(
            [script, cache_directory()], capture_output=True, text=True, timeout=600, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else f"install-prometheus: {done.stderr.strip()[-300:] or 'failed'}"


def promtool(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("promtool"), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=scaled(60),
    )


class Prometheus:
    """One that listens on a port that is free."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **arguments: str) -> Any:
        """The data of an answer; AssertionError with what it says for an error."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=scaled(10)) as answer:  # noqa: S310 (our own address)
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {arguments}: {error.read().decode()}") from None
        assert found["status"] == "success", found
        return found["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query."""
        return list(self.ask("query", query=expression)["result"])

    def value(self, expression: str) -> float | None:
        """The only sample, None for none."""
        samples = self.query(expression)
        assert len(samples) <= 1, samples
        return float(samples[0]["value"][1]) if samples else None


@contextlib.contextmanager
def prometheus(directory: Path, jobs: Mapping[str, list[str]]) -> Iterator[Prometheus]:
    """Scrapes the targets of each job every second, and goes by our rules."""
    directory.mkdir()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": targets}]} for job, targets in jobs.items()
        ],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    log = directory / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/data",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdout=out,
            stderr=out,
        )
    try:
        port = until(lambda: _port_of(process), f"Prometheus listens: {log}")
        made = Prometheus(f"http://127.0.0.1:{port}")
        until(lambda: _ready(made), "Prometheus is ready", 60)
        yield made
    finally:
        process.terminate()
        process.wait(scaled(20))


def _port_of(process: subprocess.Popen[bytes]) -> int | None:
    """The TCP port that a process listens on, as the kernel has it; its log says what was asked for."""
    assert process.poll() is None, "Prometheus has ended"
    sockets = set()
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets.add(str(link.readlink()))
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                return int(words[1].rpartition(":")[2], 16)
    return None


def _ready(server: Prometheus) -> bool:
    url = f"{server.url}/-/ready"
    try:
        with urllib.request.urlopen(url, timeout=scaled(5)) as answer:  # noqa: S310 (our own address)
            return int(answer.status) == 200
    except OSError:
        return False
