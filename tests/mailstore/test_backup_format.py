"""docs/backup-format.md: its recipes, with curl, zstd, sqlite3 and sha256sum alone, on a real S3 server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cyrus_sync.objects.directory import DirectoryObjects
from tests.objects.seaweed import ACCESS_KEY, BUCKET, SECRET_KEY, Seaweed

from .conftest import Site

ROOT = Path(__file__).parents[2]
SHELL = [
    part.split("```")[0] for part in (ROOT / "docs/backup-format.md").read_text().split("```sh recipe\n")[1:]
]
PYTHON = (ROOT / "docs/backup-format.md").read_text().split("```python recipe\n")[1].split("```")[0]
STORE = (ROOT / "docs/store-format.md").read_text().split("```sh recipe\n")[1].split("```")[0]
FOLDER = "users/52/alice"


def shell(recipe: str, directory: Path, **environment: str) -> bytes:
    done = subprocess.run(
        ["sh", "-eu", "-c", recipe],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.skipif(
    not all(map(shutil.which, ("curl", "sqlite3", "zstd"))), reason="needs curl, sqlite3 and zstd"
)
def test_the_recipes_bring_a_user_back_without_us(s3_server: Seaweed, tmp_path: Path) -> None:
    site = Site(tmp_path, s3_server.lines("recipe"))
    site.ok("create", "user/alice")
    for number in range(5):
        message = b"Subject: %d\r\n\r\n%s\r\n" % (number, os.urandom(400).hex().encode())
        site.ok("deliver", "alice", stdin=message)
        site.ok("backup", "s3:", "alice")
    copy = tmp_path / "copy"
    copy.mkdir()
    s3 = {"ENDPOINT": s3_server.endpoint, "BUCKET": BUCKET, "FOLDER": f"recipe/{FOLDER}"}
    shell(SHELL[0], copy, AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, **s3)
    shell(SHELL[1], copy)
    there = tmp_path / "spool" / FOLDER
    assert (copy / "restored/pack-000001.zst").read_bytes() == (there / "pack-000001.zst").read_bytes()
    got = shell(STORE, copy / "restored", MAILBOX="user.alice", UID_WANTED="5")
    assert got == site.ok("show", "user/alice", "5").raw


def test_what_is_encrypted_opens_with_pynacl_alone(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(os.urandom(32).hex())
    (tmp_path / "key").chmod(0o600)
    site = Site(tmp_path, f"s3_encrypt: {tmp_path}/key\n")
    site.ok("create", "user/alice")
    site.deliver("alice", 2)
    site.ok("backup", f"file:{tmp_path}/backup", "alice")
    raw = DirectoryObjects(tmp_path / "backup")
    for one in raw.listed(f"{FOLDER}/packs"):
        done = subprocess.run(
            [sys.executable, "-c", PYTHON, one.key],
            input=raw.get(one.key),
            env={**os.environ, "KEY_FILE": str(tmp_path / "key")},
            capture_output=True,
            check=True,
        )
        assert done.stdout == (tmp_path / "spool" / FOLDER / "pack-000001.zst").read_bytes()
