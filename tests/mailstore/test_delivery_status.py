"""What deliver ends with: an MTA keeps the message after 75, and sends it back after any other."""

from __future__ import annotations

import codecs
import fcntl
import io
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.stores.native.partitions import MARKER
from cyrus_sync.common.stores.native.verbs import messages
from cyrus_sync.mailstore import context
from tests.mailstore.conftest import MESSAGE, Site
from tests.mailstore.damage import KINDS, directory_of, inhabited

NOBODY = 65534


@pytest.fixture
def three(site: Site) -> Site:
    return inhabited(site)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].index])
def test_a_damaged_user_is_75(three: Site, kind: str) -> None:
    KINDS[kind].do(directory_of(three, "bob"))
    result = three.run("deliver", "bob", stdin=MESSAGE)
    assert result.status == 75 and "bob" in result.err


def _over_quota(site: Site) -> None:
    site.ok("setquota", "user/bob", "MESSAGE=1")


def _partition_away(site: Site) -> None:
    shutil.rmtree(site.path / "spool")
    (site.path / "spool").mkdir()


def _bad_configuration(site: Site) -> None:
    site.conf.write_text(site.conf.read_text() + "partition-third: relative/path\nsync_log_chain: perhaps\n")


def _no_configuration(site: Site) -> None:
    site.conf.unlink()


CURABLE: dict[str, Callable[[Site], Any]] = {
    "over quota": _over_quota,
    "a partition that is not mounted": _partition_away,
    "a bad configuration": _bad_configuration,
    "no configuration": _no_configuration,
}


@pytest.mark.parametrize("cause", CURABLE)
def test_what_another_try_can_cure_is_75(three: Site, cause: str) -> None:
    CURABLE[cause](three)
    result = three.run("deliver", "bob", stdin=MESSAGE)
    assert result.status == 75, result.err
    assert result.err.startswith("mailstore: ")


def test_a_user_whom_nobody_knows_is_75_while_a_partition_is_away(three: Site) -> None:
    assert three.run("deliver", "dave", stdin=MESSAGE).status == 67
    (three.path / "spool" / MARKER).rename(three.path / "marker")
    result = three.run("deliver", "dave", stdin=MESSAGE)
    assert result.status == 75 and "is it mounted" in result.err


def test_a_lock_that_somebody_holds_is_75(three: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "LOCK_SECONDS", 0.1)
    with (directory_of(three, "bob") / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert three.run("deliver", "bob", stdin=MESSAGE).status == 75


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(5, "Input/output error"), RuntimeError("a mistake"), KeyboardInterrupt()]
)
def test_whatever_comes_up_while_storing_is_75(
    three: Site, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(messages, "_keep", fail)
    result = three.run("deliver", "bob", stdin=MESSAGE)
    assert result.status == 75 and result.err.startswith("mailstore: ")


@pytest.mark.parametrize(
    ("argv", "message", "status"),
    [
        (["nobody"], MESSAGE, 67),
        (["../etc"], MESSAGE, 67),
        (["bob", "-m", "NoSuchFolder"], MESSAGE, 67),
        (["bob"], b"", 65),
        (["bob"], b"Subject: nul\r\n\r\n\0\r\n", 65),
    ],
)
def test_what_can_never_succeed_is_not_75(three: Site, argv: list[str], message: bytes, status: int) -> None:
    assert three.run("deliver", *argv, stdin=message).status == status


def as_ordinary_user(site: Site, *argv: str) -> tuple[int, str]:
    """Run mailstore in a process that is not root; status and what it says."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 99
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            said = io.StringIO()
            from cyrus_sync.mailstore.cli import main

            status = main(
                ["-C", str(site.conf), *argv], stdin=io.BytesIO(MESSAGE), stdout=io.StringIO(), stderr=said
            )
            os.write(writing, said.getvalue().encode()[:4000])
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[-4000:])
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said_there = pipe.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said_there


@pytest.fixture
def foreign(three: Site) -> Iterator[Site]:
    """A store that belongs to an ordinary user, as seen by him; only bob's rights are then taken away."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    # The child may not be able to read the library of a Python below /root: all that it needs is loaded here.
    for command in ("ls", "stats", "verify", "dump", "expire"):
        three.ok(command)
    three.ok("deliver", "carol", stdin=MESSAGE)
    for name in ("ascii", "latin-1", "idna", "punycode"):
        codecs.lookup(name)
    parents = [three.path, *three.path.parents]
    before = {path: path.stat().st_mode for path in parents}
    for path in parents:
        path.chmod(path.stat().st_mode | 0o711)
    for path in (three.path, *three.path.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    yield three
    for path, mode in before.items():
        path.chmod(mode)


@pytest.mark.parametrize(
    ("where", "mode"),
    [
        (".", 0o000),
        ("..", 0o000),
        ("index.sqlite", 0o000),
        ("pack-000001.zst", 0o000),
        ("lock", 0o000),
    ],
)
def test_rights_that_are_missing_are_75_and_keep_nobody_else(foreign: Site, where: str, mode: int) -> None:
    bob = directory_of(foreign, "bob")
    for path in bob.rglob("*"):
        os.chown(path, NOBODY, NOBODY)
    (bob / where).resolve().chmod(mode)
    status, said = as_ordinary_user(foreign, "deliver", "bob")
    assert status == 75, said
    assert "Traceback" not in said and said.startswith("mailstore: ")
    assert as_ordinary_user(foreign, "deliver", "carol")[0] == 0
    for command in ("ls", "stats", "verify", "dump", "expire"):
        status, said = as_ordinary_user(foreign, command)
        assert status in (0, 1) and "Traceback" not in said, (command, status, said)
        if mode == 0o000 and where in (".", "..", "index.sqlite"):
            assert status == 1 and ("bob" in said or command == "verify"), (command, said)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_is_75_and_loses_nothing(site: Site) -> None:
    spool = site.path / "spool"
    spool.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", spool], check=True)
    try:
        site.ok("create", "user/alice")
        delivered = 0
        for number in range(40):
            text = MESSAGE + os.urandom(40_000).hex().encode() + b"\r\n%d\r\n" % number
            result = site.run("deliver", "alice", stdin=text)
            if result.status:
                break
            delivered += 1
        assert result.status == 75 and "no room left" in result.err, result.err
        assert delivered and len(site.records("user.alice")) == delivered
        (spool / "ballast").unlink(missing_ok=True)
        subprocess.run(["mount", "-o", "remount,size=8m", spool], check=True)
        site.ok("deliver", "alice", stdin=text)
        site.ok("verify")
    finally:
        subprocess.run(["umount", "-l", spool], check=True)


def test_the_installed_program_answers_so_too(three: Site) -> None:
    KINDS["an index of garbage"].do(directory_of(three, "bob"))
    program = Path(sys.executable).parent / "mailstore"
    done = subprocess.run(
        [program, "-C", three.conf, "deliver", "bob"], input=MESSAGE, capture_output=True, check=False
    )
    assert done.returncode == 75 and b"bob" in done.stderr
