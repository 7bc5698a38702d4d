"""Several processes on one store; processes killed at any instant; disks that fill up."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.care.verify import verify
from tests.common.stores.tools import ALICE, INBOX, bodies_in, message, native_store
from tests.deadlines import scaled

pytestmark = pytest.mark.fault

KILLS = int(os.environ.get("STORE_KILLS", "8"))
ROOT = Path(__file__).parents[3]


def start(what: str, path: Path, seed: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.common.stores.children", what, str(path), str(seed)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(child: subprocess.Popen[str]) -> list[list[str]]:
    out, err = child.communicate(timeout=scaled(60))
    assert child.returncode == 0, err
    return [line.split() for line in out.splitlines()]


def test_a_writer_killed_at_any_instant_loses_nothing_it_acknowledged(tmp_path):
    rnd = random.Random(7)
    kept: set[int] = set()
    going: set[int] = set()
    moving = False
    for round_ in range(1, KILLS + 1):
        child = start("churn", tmp_path, round_)
        assert child.stdout is not None and child.stderr is not None
        lines = [child.stdout.readline()]
        time.sleep(rnd.uniform(0.0, 0.6))
        child.kill()
        rest, err = child.stdout.read(), child.stderr.read()
        child.communicate()
        assert "Traceback" not in err, err
        for line in lines + rest.splitlines():
            match line.split():
                case ["kept", number]:
                    kept.add(int(number))
                case ["going", number]:
                    going.add(int(number))
                case ["moving"]:
                    moving = True
        store = native_store(tmp_path)
        for owner in store.owners():
            assert list(verify(store, owner)) == []
        found = {int(text.split(b" ")[1].split(b"\r")[0]) for text in bodies_in(store)}
        assert kept - going <= found
        if moving:
            _one_of_two(store)
        store.close()
    assert len(kept) > KILLS


def _one_of_two(store) -> None:  # type: ignore[no-untyped-def]
    """The moving mailbox is complete at the one place, or at both."""
    seen = 0
    for name in ("user.carol.moving", "user.alice.moving"):
        with store.read(Owner("user", name.split(".")[1])) as reader:
            there = reader.mailbox(name) is not None
        if there:
            seen += 1
            assert bodies_in(store, name) == [message(n) for n in range(1, 20)]
    assert seen


def test_processes_that_race_for_one_owner_lose_nothing(tmp_path):
    children = [start("append", tmp_path, seed) for seed in range(4)]
    numbers = {int(words[1]) for child in children for words in finish(child)}
    store = native_store(tmp_path)
    assert {int(text.split(b" ")[1].split(b"\r")[0]) for text in bodies_in(store)} == numbers
    assert len(numbers) == 200
    assert list(verify(store, ALICE)) == []
    assert len([1 for part in ("default", "other") if (tmp_path / part).exists()]) == 1
    store.close()


@pytest.mark.parametrize("limit", [150_000, 400_000, 1_200_000])
def test_a_full_disk_refuses_and_then_goes_on(tmp_path, limit):
    said = finish(start("full", tmp_path, limit))
    assert [words[0] for words in said] == ["full"] * 3 + ["readable", "kept"]
    assert "room" in " ".join(said[0]) or "I/O" in " ".join(said[0])
    kept = int(said[-1][1])
    assert int(said[-2][1]) == kept - 1
    store = native_store(tmp_path)
    assert len(bodies_in(store, INBOX)) == kept
    assert list(verify(store, ALICE)) == []
    store.close()
