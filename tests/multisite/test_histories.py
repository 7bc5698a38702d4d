"""Random lives of a family. ``MULTISITE_HISTORIES=500`` plays so many of each kind; ``MULTISITE_SEED``: from
which seed on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.multisite.history import WAYS, History

ROUNDS = int(os.environ.get("MULTISITE_HISTORIES", "1"))
FIRST = int(os.environ.get("MULTISITE_SEED", "1"))
SEEDS = range(FIRST, FIRST + ROUNDS)
THREE = ("boston", "sanfran", "bangalore")
FIVE = (*THREE, "paris", "sydney")
SHARED = ("projects",)


def play(
    directory: Path,
    seed: int,
    sites: tuple[str, ...],
    *ways: str,
    shared: tuple[str, ...] = (),
    steps: int = 60,
) -> None:
    with History(directory, seed, sites, shared=shared, ways=frozenset(ways)) as history:
        for _ in range(steps):
            history.step()
        history.finish()
        wrong = history.check()
    assert not wrong, "\n".join([*history.story, f"seed {seed}:", *wrong])


@pytest.mark.parametrize("seed", range(FIRST, FIRST + 3 * ROUNDS))
def test_three_sites_agree_in_the_end_and_have_all_mail(tmp_path: Path, seed: int) -> None:
    play(tmp_path, seed, THREE)


@pytest.mark.parametrize("seed", SEEDS)
def test_five_sites_agree_in_the_end_and_have_all_mail(tmp_path: Path, seed: int) -> None:
    play(tmp_path, seed, FIVE)


@pytest.mark.parametrize("seed", SEEDS)
def test_shared_mailboxes_come_to_the_same(tmp_path: Path, seed: int) -> None:
    play(tmp_path, seed, THREE, shared=SHARED)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("way", sorted(WAYS))
def test_whatever_else_happens(tmp_path: Path, way: str, seed: int) -> None:
    also = ("going back",) if way == "forgetting" else ()
    play(tmp_path, seed, THREE, way, *also, shared=SHARED)


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_at_once_between_five_sites(tmp_path: Path, seed: int) -> None:
    play(tmp_path, seed, FIVE, *WAYS, shared=SHARED)
