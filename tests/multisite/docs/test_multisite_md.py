"""docs/multisite.md is true: every block in it is run, in its order, and prints what it shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.multisite.docs.play import World, is_shown, sections
from tests.ports import ADDRESSES, free_port

DOCUMENT = Path(__file__).parents[3] / "docs/multisite.md"
SECTIONS = list(sections(DOCUMENT.read_text(encoding="utf-8")))
TITLES = [section.title for section in SECTIONS if section.blocks]


class Told:
    """The story, as far as it has been played."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.next = 0
        self.broken = ""

    def up_to(self, title: str) -> None:
        """Play all sections up to this one that were not played yet."""
        assert not self.broken, f"the story broke off in {self.broken!r}"
        end = next(number for number, section in enumerate(SECTIONS) if section.title == title)
        while self.next <= end:
            section = SECTIONS[self.next]
            self.next += 1
            self.broken = section.title
            for block in section.blocks:
                self.world.play(block)
            self.broken = ""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    hosts = dict(zip(("boston", "bangalore", "hub"), ADDRESSES, strict=True))
    hosts["sydney"] = "127.0.0.4"  # nobody listens there
    world = World(tmp_path_factory.mktemp("hosts"), hosts, free_port())
    try:
        yield Told(world)
    finally:
        world.stop()


@pytest.mark.parametrize("title", TITLES)
def test_every_block_does_what_the_document_says(story: Told, title: str) -> None:
    story.up_to(title)


@pytest.mark.parametrize(
    ("shown", "said", "same"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\nb\n", "a\n", False),
        ("a\n…\nb\n", "a\nx\ny\nb\n", True),
        ("a\n…\nb\n", "a\nb\n", True),
        ("it is … o'clock.\n", "it is 5 o'clock.\n", True),
        ("it is … o'clock.\n", "it is 5\no'clock.\n", False),
        ("a.c\n", "abc\n", False),
    ],
)
def test_what_is_shown_is_compared_line_by_line(shown: str, said: str, same: bool) -> None:
    assert is_shown(said, shown) is same
