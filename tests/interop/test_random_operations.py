"""Random operations on both ends, runs cut at random octets: in the end both are equal, nothing is lost.

INTEROP_SEEDS=N plays N games a pair instead of the few that suit continuous integration; a failure names
its seed, and INTEROP_SEED=S plays that one alone.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from .csync import differences, state_of
from .fill import message
from .proxy import Proxy
from .sides import Side, guids, side

PAIRS = (
    ["real-real"] if os.environ.get("INTEROP_SERVER") == "real" else ["real-ours", "ours-real", "ours-ours"]
)
SEEDS = (
    [int(os.environ["INTEROP_SEED"])]
    if "INTEROP_SEED" in os.environ
    else list(range(int(os.environ.get("INTEROP_SEEDS", "3"))))
)


@pytest.fixture(scope="module", params=PAIRS)
def pair(request: pytest.FixtureRequest, real_cyrus: None) -> Iterator[tuple[Side, Side]]:
    """A master and a replica."""
    master, _, replica = request.param.partition("-")
    with ExitStack() as stack:
        yield stack.enter_context(side(master, "master")), stack.enter_context(side(replica, "replica"))


class Game:
    """One user's random life. `accepted` is every message that an end took and nobody expunged."""

    def __init__(self, pair: tuple[Side, Side], user: str, seed: int) -> None:
        self.master, self.replica = pair
        self.user = user
        self.chance = random.Random(seed)
        self.accepted: set[bytes] = set()
        self.number = 0

    def new(self) -> bytes:
        self.number += 1
        raw = message(f"{self.user} number {self.number}", self.chance.choice([0, 0, 3000, 20_000]))
        self.accepted.add(hashlib.sha1(raw).hexdigest().encode())
        return raw

    def step(self, end: Side) -> None:
        """One thing that a user does at one end."""
        boxes = guids(end, self.user)
        folder = self.chance.choice(["", "", "a", "b"])
        name = f"user.{self.user}" + (f".{folder}" if folder else "")
        uids = boxes.get(name, {})
        deed = self.chance.choice(
            ["append", "append", "flag", "unflag", "expunge", "copy", "annotate", "subscribe"]
        )
        if deed == "append":
            end.append(self.user, folder, self.new(), flags=self.chance.choice(["", "\\Seen", "Kept"]))
        elif deed == "subscribe":
            end.subscribe(self.user, folder, self.chance.random() < 0.7)
        elif uids:
            uid = self.chance.choice(list(uids))
            if deed == "expunge":
                end.expunge(self.user, folder, uid)
                self.accepted.discard(uids[uid])
            elif deed == "copy":
                end.copy(self.user, folder, uid, self.chance.choice(["a", "b"]))
            elif deed == "annotate":
                end.annotate(self.user, folder, uid, f"note {self.chance.randrange(100)}".encode())
            else:
                end.flag(self.user, folder, uid, self.chance.choice(["\\Flagged", "Blue"]), deed == "flag")

    def broken_run(self) -> None:
        """A run that loses its connection somewhere, or perhaps nowhere."""
        where = (self.chance.choice(["c2s", "s2c"]), int(self.chance.lognormvariate(8, 1.5)) + 400)
        with Proxy(self.replica.csync, cut_after=where) as proxy:  # type: ignore[arg-type]
            self.master.sync(proxy.address, "-u", self.user)


@pytest.mark.parametrize("seed", SEEDS)
def test_ends_that_both_live_end_equal(pair: tuple[Side, Side], user: str, seed: int) -> None:
    game = Game(pair, user, seed)
    game.master.create(user)
    for folder in ("a", "b"):
        game.master.create(user, folder)
    game.master.sync(game.replica.csync, "-u", user).check()
    for _ in range(3):
        for _ in range(game.chance.randrange(2, 9)):
            game.step(game.master)
            if game.chance.random() < 0.5:
                game.step(game.replica)
        game.broken_run()
    for _ in range(2):
        last = game.master.sync(game.replica.csync, "-u", user)
    last.check()

    here, there = (state_of(end.csync, user, expunged=False) for end in pair)
    assert differences(here, there) == []
    left = {g for box in guids(game.master, user).values() for g in box.values()}
    assert game.accepted <= left
