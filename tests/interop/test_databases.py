"""Databases of real programs, read while those write them: what is committed is seen, and nothing else."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cyrus_sync.spool.db import open_database

from .cyrus import Cyrus
from .running import default_ground, finish

KINDS = ("twoskip", "skiplist", "flat")
Entries = dict[bytes, bytes]


@pytest.fixture
def cyrus(real_cyrus: None) -> Iterator[Cyrus]:
    """One that is configured, not started."""
    root = Path(tempfile.mkdtemp(prefix="cy-db-", dir=default_ground()))
    try:
        yield Cyrus(root, "db")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _literal(octets: bytes) -> bytes:
    return b"{%d+}\r\n%s" % (len(octets), octets)


def _change(key: bytes, value: bytes | None) -> bytes:
    if value is None:
        return b"DELETE " + _literal(key) + b"\n"
    return b"SET " + _literal(key) + b" " + _literal(value) + b"\n"


def _command(cyrus: Cyrus, path: Path, kind: str) -> list[str]:
    tool = ["/usr/lib/cyrus/bin/cyr_dbtool", "-C", str(cyrus.config), "-n", str(path), kind, "batch"]
    return cyrus.release.command(*tool)


def _batch(cyrus: Cyrus, path: Path, kind: str, commands: bytes) -> None:
    ran = finish(_command(cyrus, path, kind), 60, cyrus.release.how, commands)
    assert ran.status == 0, ran.describe()


@contextmanager
def _writer(cyrus: Cyrus, path: Path, kind: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that goes on writing what its standard input says."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(_command(cyrus, path, kind), stdin=pipe, stdout=pipe, **cyrus.release.how)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _tell(process: subprocess.Popen[bytes], commands: bytes) -> None:
    """Until it has done them."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(commands + b"GET mark\n")
    process.stdin.flush()
    assert process.stdout.readline()


def _changes(chance: random.Random, state: Entries, count: int) -> Iterator[tuple[bytes, bytes | None]]:
    """Random changes, which are made to `state` too."""
    for _ in range(count):
        if state and chance.random() < 0.3:
            key = chance.choice(sorted(state))
            del state[key]
            yield key, None
        else:
            key = b"N" + bytes(chance.choices(b"abc.\x1f\xff\t\n", k=chance.randint(1, 6)))
            state[key] = bytes(chance.choices(b"xyz \t\r\n\0\xff", k=chance.choice((0, 1, 8, 300))))
            yield key, state[key]


@pytest.mark.every_release
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_committed_is_read(cyrus: Cyrus, kind: str) -> None:
    chance = random.Random(11)
    path = cyrus.root / f"conf/some.{kind}"
    state: Entries = {}
    for _ in range(4):
        commands = b"".join(_change(*change) for change in _changes(chance, state, 200))
        _batch(cyrus, path, kind, b"BEGIN\n" + commands + b"COMMIT\n")
        found = list(open_database(path).items())
        assert len(found) == len(state)
        assert dict(found) == state
        database = open_database(path)
        assert {key: database.get(key) for key in state} == state
        for prefix in (b"Na", b"Nb.", b"N\xff"):
            wanted = {key: value for key, value in state.items() if key.startswith(prefix)}
            assert dict(database.items(prefix)) == wanted


@pytest.mark.every_release
def test_a_transaction_under_way_or_killed_is_not_seen(cyrus: Cyrus) -> None:
    path = cyrus.root / "conf/some.db"
    state: Entries = {b"mark": b"1"}
    chance = random.Random(12)
    commands = b"".join(_change(*change) for change in _changes(chance, state, 300))
    _batch(cyrus, path, "twoskip", b"BEGIN\n" + _change(b"mark", b"1") + commands + b"COMMIT\n")
    state[b"mark"] = b"1"
    _batch(cyrus, path, "twoskip", b"BEGIN\n" + _change(b"mark", b"1") + b"COMMIT\n")
    database = open_database(path)
    future = dict(state)
    with _writer(cyrus, path, "twoskip") as process:
        pending = b"".join(_change(*change) for change in _changes(chance, future, 100))
        _tell(process, b"BEGIN\n" + pending + _change(b"mark", b"2"))
        assert dict(database.items()) == state, "without its lock, which the writer holds"
    assert dict(database.items()) == state
    assert {key: database.get(key) for key in state} == state


@pytest.mark.every_release
def test_readers_and_a_writer_do_not_disturb_one_another(cyrus: Cyrus) -> None:
    """Who was there all the time is always seen, and every value is one that was committed."""
    path = cyrus.root / "conf/some.db"
    there = {b"N%05d" % number: b"always" for number in range(0, 3000, 3)}
    commands = b"".join(_change(*entry) for entry in there.items())
    _batch(cyrus, path, "twoskip", b"BEGIN\n" + commands + _change(b"mark", b"1") + b"COMMIT\n")
    database = open_database(path)
    chance = random.Random(13)
    with _writer(cyrus, path, "twoskip") as process:
        for _ in range(20):
            changes = []
            for _ in range(50):
                key = b"N%05d" % (3 * chance.randrange(1000) + 1)
                value = None if chance.random() < 0.4 else b"changing"
                changes.append(b"BEGIN\n" + _change(key, value) + b"COMMIT\n")
            assert process.stdin is not None
            process.stdin.write(b"".join(changes))
            process.stdin.flush()
            found = list(database.items(b"N"))
            keys = [key for key, _ in found]
            assert keys == sorted(set(keys))
            assert there.items() <= dict(found).items()
            assert {value for _, value in found} <= {b"always", b"changing"}
        _tell(process, b"")
