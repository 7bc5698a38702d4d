"""A master under random operations, the line cut at random octets, both ends killed at random moments: when
the fire is over, both stores are equal to the octet and sound, and no message was lost or doubled.

CYRUS_SYNC_FIRE_SECONDS sets how long it burns (a few seconds by default), CYRUS_SYNC_FIRE_SEED what
happens. With CYRUS_SYNC_FIRE_REPORT=FILE the figures go there.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from tests.faults.master_life import Life
from tests.faults.pair import BurningPair, burning_pair

pytestmark = pytest.mark.fault

SECONDS = float(os.environ.get("CYRUS_SYNC_FIRE_SECONDS", "8"))
SEED = int(os.environ.get("CYRUS_SYNC_FIRE_SEED", "3"))
REPORT = os.environ.get("CYRUS_SYNC_FIRE_REPORT")
ROUND = 45.0
"""Seconds after which a long fire is put out, to compare both ends, and lit again."""


def burn(pair: BurningPair, life: Life, seconds: float, chance: random.Random) -> None:
    """Operations, cuts and kills, for so long."""
    pair.burn()
    now = time.monotonic()
    end = now + seconds
    next_client, next_server = now + chance.uniform(0.5, 2), now + chance.uniform(0.5, 2)
    while (now := time.monotonic()) < end:
        for _ in range(chance.choice([1, 2, 5, 20])):
            life.step()
        if now > next_client:
            _strike_at_work(pair, chance)
            pair.kill_client()
            next_client = time.monotonic() + chance.uniform(0.3, 4)
        if now > next_server:
            _strike_at_work(pair, chance)
            pair.kill_server()
            next_server = time.monotonic() + chance.uniform(0.1, 3)
        pair.hurry()
        time.sleep(chance.choice([0, 0.01, 0.1]))
    pair.calm()


def _strike_at_work(pair: BurningPair, chance: random.Random) -> None:
    """Mostly wait (not long) for the moment when a run begins, and some milliseconds more."""
    if chance.random() < 0.8:
        late = time.monotonic() + 2
        while not pair.at_work and time.monotonic() < late:
            time.sleep(0.002)
        time.sleep(chance.expovariate(20))


def everything_happened(pair: BurningPair) -> bool:
    return bool(pair.cuts and pair.counts["client killed"] and pair.counts["server killed"])


def check(pair: BurningPair, life: Life) -> None:
    pair.drained()
    (pair.master.root / "story").write_text("\n".join(life.story))
    assert pair.differences(life.forgotten) == []
    standing, promised = life.standing(), life.promised()
    assert not promised - standing, "lost on the master itself"
    assert not standing - promised, "doubled or brought back"
    pair.verify()


@pytest.mark.timeout(120 + 3 * SECONDS)
def test_a_pair_under_fire_ends_equal(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    begun = time.monotonic()
    burnt = 0.0
    with burning_pair(tmp_path, SEED) as pair:
        life = Life(pair.master.store, SEED)
        while burnt < SECONDS or (burnt < SECONDS + 30 and not everything_happened(pair)):
            seconds = min(ROUND, max(SECONDS - burnt, 3))
            burn(pair, life, seconds, chance)
            burnt += seconds
            check(pair, life)
            pair.counts["compared"] += 1
            figures = {
                "seconds": round(time.monotonic() - begun),
                "operations": sum(life.did.values()),
                "messages": life.number,
                "cuts": pair.cuts,
                **pair.counts,
                "by kind": life.did,
            }
            if REPORT:
                Path(REPORT).write_text(json.dumps(figures, indent=1))
        assert everything_happened(pair), figures
