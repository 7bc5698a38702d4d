"""A dataclass of ours does what the library's does."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import field
from typing import Any, ClassVar

import pytest

from cyrus_sync.common.classes import dataclass

MAKERS = [dataclasses.dataclass, dataclass]


@dataclass(frozen=True, slots=True)
class Place:
    name: str
    uid: int = 1


def test_equal_fields_are_equal_objects_of_one_class_only() -> None:
    @dataclass(frozen=True, slots=True)
    class Spot:
        name: str
        uid: int = 1

    assert Place("a") == Place("a", 1) != Place("b")
    assert Place("a") != Spot("a")
    assert hash(Place("a")) == hash(Place("a")) and {Place("a")} == {Place("a")}


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("slots", [True, False])
def test_it_is_shown_compared_and_hashed_as_the_librarys(frozen: bool, slots: bool) -> None:
    def behaviour(maker: Any) -> list[object]:
        @maker(frozen=frozen, slots=slots)
        class Message:
            kind: ClassVar[str] = "mail"
            uid: int
            secret: str = field(default="", repr=False)
            seen: list[int] = field(default_factory=list, compare=False)

        @maker(frozen=frozen, slots=slots)
        class Letter(Message):
            size: int = 0

        one = Letter(1, "x", [2])
        return [
            repr(one),
            one == Letter(1, "x", [3]),
            one == Letter(1, "y", [2]),
            one == Message(1, "x", [2]),
            hash(one) == hash(Letter(1, "x", [5])) if frozen else Letter.__hash__,
            dataclasses.asdict(one),
            dataclasses.replace(one, size=4).size,
            [each.name for each in dataclasses.fields(Letter)],
            Letter.__match_args__,
            hasattr(one, "__dict__"),
        ]

    library, ours = (behaviour(maker) for maker in MAKERS)
    assert ours == library


@pytest.mark.parametrize("maker", MAKERS)
def test_what_a_class_says_itself_is_kept(maker: Any) -> None:
    @maker(frozen=True)
    class Odd:
        name: str

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

        def __repr__(self) -> str:
            return "odd"

    assert Odd("a") == 3 and hash(Odd("a")) == 7 and repr(Odd("a")) == "odd"


@pytest.mark.parametrize("maker", MAKERS)
def test_without_eq_each_object_is_itself(maker: Any) -> None:
    @maker(eq=False, slots=True)
    class Loop:
        next: object = None

    loop = Loop()
    loop.next = loop
    assert loop != Loop() and hash(loop) and "..." in repr(loop)


def test_it_goes_from_process_to_process_and_is_copied() -> None:
    sent = pickle.loads(pickle.dumps(Place("a", 3)))  # noqa: S301 (our own octets)
    assert sent == copy.copy(Place("a", 3)) == Place("a", 3)


def test_making_one_compiles_one_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: the library compiles six for a frozen class."""
    compiled = []
    execute = exec

    def counted(source: Any, *given: Any) -> None:
        compiled.append(source)
        execute(source, *given)

    monkeypatch.setattr("builtins.exec", counted)

    @dataclass(frozen=True, slots=True)
    class Place:
        """Where."""

        name: str

    assert Place("a").name == "a" and len(compiled) == 1
