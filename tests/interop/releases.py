"""Which Cyrus runs: the one that is installed on this machine, or that of another of Debian's suites.

The others live in root directories that ``install-releases`` makes and keeps; their programs run there by
``in-root``. A test says nothing of it: `current` is the release of the moment, chosen by the fixture
``release`` (tests marked ``every_release`` run with each), or for a whole run by INTEROP_RELEASE=3.2.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .running import dying_with_us, identity

PROGRAMS = Path("/usr/lib/cyrus/bin")
ROOTS = Path(os.environ.get("CYRUS_SYNC_ROOTS", "/var/cache/cyrus-sync/roots"))
_IN_ROOT = Path(__file__).with_name("in-root")
PATIENCE = 900
"""Seconds that a test waits for a root that is being made."""


@dataclass(frozen=True)
class Release:
    """One Cyrus. `number` is (major, minor); `suite` the Debian suite whose root holds it, "" for the one of
    the machine itself."""

    number: tuple[int, int]
    suite: str = ""

    def __str__(self) -> str:
        return ".".join(map(str, self.number))

    @property
    def root(self) -> Path:
        return ROOTS / self.suite if self.suite else Path("/")

    def command(self, *words: str, dying: bool = False) -> list[str]:
        """How to start a program of it as the user cyrus; with `how`. `dying`: killed when we are gone."""
        if self.suite:
            return [str(_IN_ROOT), str(self.root), *words]
        return [*(dying_with_us() if dying else ()), *words]

    @property
    def how(self) -> dict[str, Any]:
        """More arguments for `subprocess`."""
        return {} if self.suite else identity()

    def why_unavailable(self) -> str:
        """Why it cannot be run here; "" if it can."""
        if not (self.root / "usr/lib/cyrus/bin/sync_server").exists():
            made_by = f"install-releases {self.suite}" if self.suite else "install-cyrus"
            return f"{self.root / 'usr/lib/cyrus/bin/sync_server'} is not there (tests/interop/{made_by})"
        if not self.suite and not shutil.which("saslpasswd2", path=search_path()):
            return "saslpasswd2 is not there (Debian: sasl2-bin)"
        try:
            user = pwd.getpwnam("cyrus")
        except KeyError:
            return "there is no user cyrus"
        if os.geteuid() != 0 and (self.suite or os.geteuid() != user.pw_uid):
            return f"only root{'' if self.suite else ', or the user cyrus,'} can run Cyrus {self}"
        return ""

    @property
    def scripts_are_files(self) -> bool:
        """Whether it replicates Sieve scripts as files, not as the mailbox ``#sieve``."""
        return self.number < (3, 6)

    @property
    def version(self) -> str:
        """The package's, as ``3.12.4-1``; "" if that cannot be told."""
        if self.suite:
            noted = self.root / ".cyrus-version"
            return noted.read_text().strip() if noted.exists() else ""
        return _version_of_the_machine()

    def wait(self) -> None:
        """Until nobody is at making its root any more."""
        lock = ROOTS / "making.lock"
        if not self.suite or not lock.exists():
            return
        end = time.monotonic() + PATIENCE
        with lock.open() as held:
            while time.monotonic() < end:
                try:
                    fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(0.2)
                    continue
                return
        raise AssertionError(f"Cyrus {self} is still being made after {PATIENCE} s: see {self.root}.log")


HOST = Release((3, 6))
SAME_FILES = ("3.10",)
"""Left out by what reads a spool, and costs much: 3.12 has the same files (its mailboxes are of version 19,
too). What is said over csync is not the same. In each file of tests something runs with every release."""
RELEASES = {
    str(release): release
    for release in (HOST, Release((3, 2), "bullseye"), Release((3, 10), "trixie"), Release((3, 12), "forky"))
}


@cache
def _version_of_the_machine() -> str:
    try:
        command = ["dpkg-query", "-W", "-f", "${Version}", "cyrus-imapd"]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout
    except OSError:
        return ""


def search_path() -> str:
    return os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"


_chosen = [RELEASES[os.environ.get("INTEROP_RELEASE", str(HOST))]]


def current() -> Release:
    """The release that a test asks for when it does not name one."""
    return _chosen[-1]


@contextmanager
def chosen(release: Release) -> Iterator[Release]:
    """`release` is the current one, within."""
    _chosen.append(release)
    try:
        yield release
    finally:
        _chosen.pop()


def unavailable(releases: Sequence[Release]) -> dict[Release, str]:
    """Those of `releases` that cannot be run, and why."""
    reasons = {release: release.why_unavailable() for release in releases}
    return {release: reason for release, reason in reasons.items() if reason}
