"""Two hosts on one machine: network namespaces with one cable between them. All is undone afterwards."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.absent import skip_without

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A host: what runs in it sees its own addresses and ports, and nobody but the other one."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address

    @property
    def path(self) -> Path:
        return Path("/run/netns", self.name)

    def command(self, *words: str | Path) -> list[str]:
        """`words` as typed on this host."""
        return ["nsenter", f"--net={self.path}", "--", *map(str, words)]

    def do(self, work: Callable[[], T]) -> T:
        """What `work` gives when it is done on this host: for connections that a test makes by itself."""
        found: list[T] = []
        failed: list[BaseException] = []

        def there() -> None:
            try:
                with self.path.open("rb") as file:
                    if _libc.setns(file.fileno(), _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                found.append(work())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=there)  # a namespace is a thread's
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]


@contextmanager
def two_hosts() -> Iterator[tuple[Namespace, Namespace]]:
    """Both, connected; skips the test where there can be none."""
    if os.geteuid() != 0:
        skip_without("network namespace", "only root may make one")
    for program in ("ip", "nsenter"):
        if shutil.which(program) is None:
            skip_without("network namespace", f"{program} is not installed")
    pid = os.getpid()
    hosts = Namespace(f"boston-{pid}", "192.0.2.1"), Namespace(f"lyon-{pid}", "192.0.2.2")
    try:
        try:
            for host in hosts:
                _ip("netns", "add", host.name)
            ends = [f"cs{pid}a", f"cs{pid}b"]  # 15 letters at most
            _ip("link", "add", ends[0], "netns", hosts[0].name, "type", "veth",
                "peer", "name", ends[1], "netns", hosts[1].name)  # fmt: skip
            for host, end in zip(hosts, ends, strict=True):
                _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", end)
                _ip("-n", host.name, "link", "set", end, "up")
                _ip("-n", host.name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            skip_without("network namespace", error.stderr.strip())
        yield hosts
    finally:
        for host in hosts:  # the cable goes with its ends
            if host.path.exists():
                with contextlib.suppress(subprocess.CalledProcessError):
                    _ip("netns", "delete", host.name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
