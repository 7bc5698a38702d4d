"""What packets cost grows with what is in them, and not faster: counted in steps of SQLite and in octets
that are compressed, since seconds say nothing on a machine with other work."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.creation import import_replica, make_replica
from cyrus_sync.multisite.cutting import ExportOptions
from cyrus_sync.multisite.packet import Messages, writer

from .mail import append, create, items_of, message, same_everywhere
from .world import TRUSTING, Site, family_of

STEP = 50
MOST = 14_000
"""Octets of a part."""


class Work:
    """Steps that SQLite has taken, in whatever file, since the last look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._steps = 0
        connect = sqlite3.connect

        def counting(*args: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*args, **options)
            connection.set_progress_handler(self._step, STEP)
            return connection

        monkeypatch.setattr(sqlite3, "connect", counting)

    def _step(self) -> int:
        self._steps += 1
        return 0

    def done(self) -> int:
        """How many since the last time that this was asked."""
        steps, self._steps = self._steps, 0
        return steps


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


def letters(count: int) -> Iterable[bytes]:
    """Messages that hardly can be compressed."""
    chance = random.Random(count)
    return (message(chance.randbytes(350).hex()) for _ in range(count))


def sent(directory: Path, count: int, max_size: int = 0) -> tuple[list[Site], list[Path]]:
    """Two sites, and a packet with so many messages that is to be imported at the second."""
    sites = family_of(directory, "boston", "sanfran")
    create(sites[0], "user.bob")
    append(sites[0], "user.bob", *letters(count))
    return sites, sites[0].export_to(sites[1], directory / "t", ExportOptions(max_size=max_size))


def test_twice_as_many_parts_take_twice_the_work_and_hardly_more_than_one_packet(
    tmp_path: Path, work: Work
) -> None:
    steps = []
    for count, max_size in ((200, MOST), (400, MOST), (400, 0)):
        sites, paths = sent(tmp_path / f"{count}-{max_size}", count, max_size)
        assert len(paths) >= count // 30 if max_size else len(paths) == 1
        work.done()
        assert not sites[1].import_from(paths).refused
        steps.append(work.done())
        assert same_everywhere(sites)
    few, many, together = steps
    assert many < 2.3 * few
    assert many < 1.3 * together


def test_a_part_is_not_compressed_over_and_over_until_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compressed = []
    for where in ("compress", "fold"):
        real = getattr(writer, where)

        def counting(content: bytes, *more: Any, real: Any = real) -> bytes:
            compressed.append(len(content))
            made: bytes = real(content, *more)
            return made

        monkeypatch.setattr(writer, where, counting)
    _, paths = sent(tmp_path, 400, MOST)
    messages = [item for path in paths for item in items_of(path) if isinstance(item, Messages)]
    stream = sum(body.size for item in messages for body in item.bodies)
    assert len(paths) >= 13
    assert all(path.stat().st_size <= MOST for path in paths)
    assert stream < sum(compressed) < 4 * stream


def test_a_replica_of_twice_as_many_users_takes_twice_the_work(tmp_path: Path, work: Work) -> None:
    steps = []
    for count in (15, 30):
        (boston,) = family_of(tmp_path / str(count), "boston")
        create(boston, *(f"user.u{number}" for number in range(count)))
        work.done()
        with boston.member() as member:
            made = make_replica(
                member, "sanfran", "sanfran.example.org", lambda n, _: tmp_path / f"{n}", ExportOptions()
            )
        sanfran = Site("sanfran", tmp_path / f"sanfran-{count}")
        import_replica(sanfran.config, made.paths, TRUSTING, warn=sanfran.heard.append, notice=print)
        steps.append(work.done())
        with sanfran.store() as store:
            assert set(store.owners()) >= {Owner("user", f"u{number}") for number in range(count)}
        for path in made.paths:
            path.unlink()
    assert steps[1] < 2.3 * steps[0]
