"""Random lives of a family. ``MULTISITE_HISTORIES=500`` plays so many of each kind; ``MULTISITE_SEED``: from
which seed on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.multisite.acts import WAYS
from tests.multisite.stories import FIVE, Story, parse, play, shortened

ROUNDS = int(os.environ.get("MULTISITE_HISTORIES", "1"))
FIRST = int(os.environ.get("MULTISITE_SEED", "1"))
SEEDS = range(FIRST, FIRST + ROUNDS)
BESIDE = {"forgetting": ("going back",), "made anew": ("time passing",)}
"""Ways that mean something only beside others."""


def goes_well(directory: Path, story: Story) -> None:
    outcome = play(story, directory)
    assert not outcome.wrong, "\n".join([story.text(), *outcome.happened, *outcome.wrong])


@pytest.mark.parametrize("seed", range(FIRST, FIRST + 3 * ROUNDS))
def test_three_sites_agree_in_the_end_and_have_all_mail(tmp_path: Path, seed: int) -> None:
    goes_well(tmp_path, Story(seed, shared=()))


@pytest.mark.parametrize("seed", SEEDS)
def test_five_sites_agree_in_the_end_and_have_all_mail(tmp_path: Path, seed: int) -> None:
    goes_well(tmp_path, Story(seed, FIVE, shared=()))


@pytest.mark.parametrize("seed", SEEDS)
def test_shared_mailboxes_come_to_the_same(tmp_path: Path, seed: int) -> None:
    goes_well(tmp_path, Story(seed))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("way", sorted(WAYS))
def test_whatever_else_happens(tmp_path: Path, way: str, seed: int) -> None:
    goes_well(tmp_path, Story(seed, ways=(way, *BESIDE.get(way, ()))))


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_at_once_between_five_sites(tmp_path: Path, seed: int) -> None:
    goes_well(tmp_path, Story(seed, FIVE, ways=tuple(sorted(WAYS))))


def test_a_story_is_played_again_from_its_text(tmp_path: Path) -> None:
    story = Story(FIRST, ways=("going back", "born twice"), steps=(*range(12), 20, 30))
    assert parse(story.text()) == story
    told = [play(one, tmp_path / str(n)).happened for n, one in enumerate((story, parse(story.text())))]
    assert told[0] == told[1]


def test_a_step_stays_what_it_is_without_those_before_it(tmp_path: Path) -> None:
    whole = play(Story(FIRST, shared=()), tmp_path / "whole").happened
    one = play(Story(FIRST, shared=(), steps=(0,)), tmp_path / "one").happened
    assert one[: whole.index("-- 1")] == whole[: whole.index("-- 1")]


def test_a_story_is_shortened_to_what_goes_wrong() -> None:
    story = Story(1, ways=("going back", "leaving"), steps=tuple(range(40)))
    short = shortened(story, lambda one: {7, 23} <= set(one.steps) and "leaving" in one.ways)
    assert (short.steps, short.ways) == ((7, 23), ("leaving",))
