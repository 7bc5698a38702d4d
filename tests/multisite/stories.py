"""Stories: histories that can be written down, played again, and made shorter.

Each step of a history draws from a chance of its own. So a story is told by its seed, its sites, its ways and
the numbers of its steps, and it goes on much the same with some steps left out::

    export PYTHONHASHSEED=0                                   # sets are in one order, too
    python -m tests.multisite.stories play 1000 500 LOG       # seeds 1000 to 1499, what goes wrong beside LOG
    python -m tests.multisite.stories again STORY             # what happens in one
    python -m tests.multisite.stories shorten STORY           # as few steps as still go wrong
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import NamedTuple
from unittest.mock import patch

from tests.multisite.acts import WAYS
from tests.multisite.history import History

THREE = ("boston", "sanfran", "bangalore")
FIVE = (*THREE, "paris", "sydney")
SECONDS = 240
"""CPU seconds after which a history counts as endless."""


@dataclass(frozen=True)
class Story:
    """What has to be known to play a history again."""

    seed: int
    sites: tuple[str, ...] = THREE
    shared: tuple[str, ...] = ("projects",)
    ways: tuple[str, ...] = ()
    steps: tuple[int, ...] = tuple(range(60))

    def text(self) -> str:
        """Five lines, which `parse` reads."""
        return (
            f"seed: {self.seed}\nsites: {', '.join(self.sites)}\nshared: {', '.join(self.shared)}\n"
            f"ways: {', '.join(self.ways)}\nsteps: {_runs(self.steps)}\n"
        )


def _runs(steps: Sequence[int]) -> str:
    """``0-3, 7``."""
    runs: list[list[int]] = []
    for step in steps:
        if runs and runs[-1][-1] == step - 1:
            runs[-1].append(step)
        else:
            runs.append([step])
    return ", ".join(f"{run[0]}-{run[-1]}" if run[1:] else str(run[0]) for run in runs)


def parse(text: str) -> Story:
    """What `Story.text` wrote, and whatever stands behind it."""
    lines = dict(line.partition(": ")[::2] for line in text.splitlines()[:5])
    words = {key: tuple(word for word in value.split(", ") if word) for key, value in lines.items()}
    ends = [run.partition("-")[::2] for run in words["steps"]]
    steps = tuple(step for first, last in ends for step in range(int(first), int(last or first) + 1))
    return Story(int(lines["seed"]), words["sites"], words["shared"], words["ways"], steps)


def of_seed(seed: int) -> Story:
    """Half of the stories go all ways, a quarter has five sites."""
    chance = Random(f"story {seed}")
    sites = FIVE if chance.random() < 0.25 else THREE
    some = tuple(way for way in sorted(WAYS) if chance.random() < 0.6)
    ways = tuple(sorted(WAYS)) if chance.random() < 0.5 else some
    return Story(seed, sites, ways=ways, steps=tuple(range(chance.choice((40, 60, 60, 90)))))


class Outcome(NamedTuple):
    """What went wrong (nothing if all was well), and all that happened."""

    wrong: list[str]
    happened: list[str]

    @property
    def kind(self) -> str:
        """In a word."""
        if not self.wrong:
            return "ok"
        if "\n" in self.wrong[0]:
            return self.wrong[0].strip().splitlines()[-1][:60]
        return self.wrong[0].partition(" ")[2][:12]


def play(story: Story, directory: Path) -> Outcome:
    """Play a story in a directory of its own."""
    happened: list[str] = []
    try:
        with History(
            directory, story.seed, story.sites, shared=story.shared, ways=frozenset(story.ways)
        ) as history:
            happened = history.story
            return Outcome(history.play(story.steps), happened)
    except Exception:
        return Outcome([traceback.format_exc()], happened)


def shortened(story: Story, goes_wrong: Callable[[Story], bool]) -> Story:
    """The story without whatever steps and ways can be left out so that it still goes wrong."""
    size = len(story.steps) // 2
    while size:
        begin = 0
        while begin < len(story.steps):
            shorter = replace(story, steps=story.steps[:begin] + story.steps[begin + size :])
            if goes_wrong(shorter):
                story = shorter
            else:
                begin += size
        size //= 2
    for way in story.ways:
        fewer = replace(story, ways=tuple(one for one in story.ways if one != way))
        if goes_wrong(fewer):
            story = fewer
    return story


# -- typed


@contextmanager
def _somewhere() -> Iterator[Path]:
    """A directory in memory, where there is one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="stories-") as name:
        yield Path(name)


def _outcome(story: Story) -> Outcome:
    with (
        _somewhere() as directory,
        patch("os.fsync", lambda _descriptor: None),
        patch("os.fdatasync", lambda _descriptor: None),
    ):
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        try:
            return play(story, directory / "h")
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _endless(*_: object) -> None:
    raise TimeoutError("the history does not end")


def _play(first: int, count: int, log: Path) -> None:
    for seed in range(first, first + count):
        story, before = of_seed(seed), time.process_time()
        outcome = _outcome(story)
        with log.open("a") as file:
            file.write(f"{seed} {time.process_time() - before:.1f} {outcome.kind}\n")
        if outcome.wrong:
            told = "\n".join([*outcome.wrong, "", *outcome.happened])
            log.with_name(f"{log.name}.{seed}").write_text(f"{story.text()}\n{told}\n")


def main(argv: Sequence[str]) -> None:
    """See the head of this module."""
    signal.signal(signal.SIGVTALRM, _endless)
    if argv[0] == "play":
        _play(int(argv[1]), int(argv[2]), Path(argv[3]))
        return
    path = Path(argv[1])
    story = parse(path.read_text())
    outcome = _outcome(story)
    if argv[0] == "shorten":
        kind = outcome.kind
        assert kind != "ok", "it goes well"
        story = shortened(story, lambda one: _outcome(one).kind == kind)
        outcome = _outcome(story)
    print(story.text())
    print("\n".join([*outcome.wrong, "", *outcome.happened]))


if __name__ == "__main__":
    main(sys.argv[1:])
