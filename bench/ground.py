"""Where a benchmark keeps its files: memory, a directory, or an ext4 with journal that is made for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAMES = "tmpfs, ext4 (a loop device, needs root) or a directory"


def _must(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def ground(name: str, gigabytes: int = 8) -> Iterator[Path]:
    """A new directory on the ground of that name; it and all that was made for it is gone afterwards."""
    if name == "ext4":
        with _loop(gigabytes) as mounted:
            yield mounted
        return
    below = Path("/dev/shm") if name == "tmpfs" else Path(name)
    below.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="bench-", dir=below))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _loop(gigabytes: int) -> Iterator[Path]:
    if os.geteuid() != 0:
        raise SystemExit("bench: --ground ext4 mounts a loop device: run it as root, or name a directory")
    work = Path(tempfile.mkdtemp(prefix="bench-ext4-", dir="/var/tmp"))
    image, mounted = work / "image", work / "mounted"
    mounted.mkdir()
    device = ""
    try:
        with image.open("wb") as file:
            file.truncate(gigabytes << 30)
        _must("mkfs.ext4", "-q", "-F", "-J", "size=64", str(image))
        device = _must("losetup", "--find", "--show", str(image))
        _must("mount", device, str(mounted))
        mounted.chmod(0o755)
        work.chmod(0o755)
        try:
            yield mounted
        finally:
            _must("umount", str(mounted))
    finally:
        if device:
            _must("losetup", "--detach", device)
        shutil.rmtree(work, ignore_errors=True)
