"""Headers of packets: what is written is read, nothing else is taken for one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.multisite.packet import Header, PacketDamaged, Range, Target
from cyrus_sync.multisite.packet.keys import encode64
from cyrus_sync.multisite.packet.plain_yaml import load, quote
from cyrus_sync.multisite.packet.prologue import fill, room_for
from cyrus_sync.multisite.packet.restores import Knowing, Restore
from tests.multisite.packet.kit import BOSTON, PARIS, header

IDS = st.from_regex(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}", fullmatch=True)
TEXTS = st.text() | st.text(st.sampled_from("-\n \t\"\\a:#'\r\x85\u2028\ufeff\x00"))
NAMES = st.text(max_size=255).filter(str.isprintable)
NUMBERS = st.integers(0, 2**63 - 1)
COUNTS = st.integers(0, 2**63 - 2)
RANGES = st.tuples(st.integers(1, 2**63 - 2), st.integers(1, 2**63 - 2)).map(
    lambda both: Range(*sorted(both))
) | COUNTS.map(lambda known: Range(known + 1, known))
LINKS = st.text("0123456789abcdef", min_size=12, max_size=12)
ROWS = st.dictionaries(IDS, COUNTS, max_size=2)
RESTORES = st.builds(
    Restore,
    incarnation=st.integers(1, 2**63 - 1), row=ROWS,
    trail=st.dictionaries(COUNTS.map(str), LINKS, max_size=2),
    taken=st.dictionaries(LINKS, st.integers(1, 2**63 - 2), max_size=2),
    knowing=st.dictionaries(IDS, st.builds(Knowing, ROWS, LINKS | st.just("")), max_size=2),
    signature=st.just("") | st.binary(min_size=64, max_size=64).map(encode64),
)  # fmt: skip
RESTORE = Restore(1, {}, {}, {}, {})
HEADERS = st.builds(
    Header,
    kind=st.sampled_from(["update", "creation"]), family=IDS, family_name=NAMES,
    sender=IDS, sender_name=NAMES, sender_incarnation=NUMBERS,
    targets=st.lists(st.builds(Target, IDS, NAMES, NUMBERS), max_size=3).map(tuple),
    logical=IDS, number=st.integers(1, 2**63 - 1), last=st.booleans(), created=st.integers(0, 10**11),
    ranges=st.dictionaries(IDS, RANGES, max_size=3), row=st.dictionaries(IDS, COUNTS, max_size=3),
    names=st.dictionaries(IDS, NAMES, max_size=3), comment=TEXTS,
    wanted=st.lists(st.binary(min_size=20, max_size=20), max_size=3).map(tuple),
    sealed=st.dictionaries(IDS, st.binary(min_size=80, max_size=80), max_size=2),
    restores=st.dictionaries(IDS, RESTORES, max_size=2),
)  # fmt: skip


@given(HEADERS)
def test_what_is_written_is_read(made: Header) -> None:
    assert Header.parse(made.text()) == made


@given(HEADERS)
def test_another_reader_of_yaml_understands_it_too(made: Header) -> None:
    found = yaml.safe_load(made.text())
    assert (found["kind"], found["number"], found["last"]) == (made.kind, made.number, made.last)
    assert (found["comment"], found["sender_name"]) == (made.comment, made.sender_name)
    assert found["row"] == made.row
    assert found["ranges"] == {origin: list(one) for origin, one in made.ranges.items()}
    assert found["wanted"] == [guid.hex() for guid in made.wanted]


@given(HEADERS)
def test_no_line_of_it_looks_like_its_end(made: Header) -> None:
    assert "---" not in made.text().split("\n")


@given(HEADERS, st.integers(0, 2**63 - 2))
def test_room_is_enough_whatever_the_numbers_turn_out_to_be(made: Header, number: int) -> None:
    room = room_for(made)
    final = replace(made, row=dict.fromkeys(made.row, number), sender_incarnation=number)
    assert len(fill(final, room)) == room


@pytest.mark.parametrize("left", range(4))
def test_room_can_be_filled_to_the_octet(left: int) -> None:
    text = len(fill(header(), 4096).partition(b"#.")[0])
    padding = [b"", b"\n", b"#\n", b"#.\n"][left]
    assert fill(header(), text + left + 4).endswith(b"wanted: []\n" + padding + b"---\n")


def test_a_header_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="octets more than were kept"):
        fill(replace(header(), comment="x" * 1000), room_for(header()))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "letter"),
        ("family", ""),
        ("family", "a b"),
        ("sender", "x" * 65),
        ("sender_name", "two\nlines"),
        ("sender_name", "x" * 256),
        ("sender_incarnation", -1),
        ("sender_incarnation", 2**63),
        ("sender_incarnation", True),
        ("targets", (Target("not an id", "x", 0),)),
        ("targets", (Target("a", "x", 0),) * 1001),
        ("number", 0),
        ("last", 1),
        ("created", 10**12),
        ("ranges", {"a": Range(0, 1)}),
        ("ranges", {"a": Range(3, 1)}),
        ("ranges", {"a/b": Range(1, 2)}),
        ("ranges", {"a": Range(3, 2**63 - 1)}),
        ("row", {"a": -1}),
        ("row", {"a": 2**63 - 1}),
        ("row", {str(n): 1 for n in range(10_001)}),
        ("names", {"a": "\x1b[2J"}),
        ("comment", "x" * 65_537),
        ("comment", "\ud800"),
        ("wanted", (b"short",)),
        ("wanted", (bytes(20),) * 50_001),
        ("sealed", {"a": b"short"}),
        ("restores", {"a/b": RESTORE}),
        ("restores", {"a": RESTORE._replace(incarnation=0)}),
        ("restores", {"a": RESTORE._replace(row={"a": 2**63 - 1})}),
        ("restores", {"a": RESTORE._replace(trail={"one": "0" * 12})}),
        ("restores", {"a": RESTORE._replace(taken={"x": 1})}),
        ("restores", {"a": RESTORE._replace(knowing={"a/b": Knowing({}, "")})}),
        ("restores", {"a": RESTORE._replace(knowing={"b": Knowing({"a": -1}, "")})}),
        ("restores", {"a": RESTORE._replace(knowing={"b": Knowing({}, "x")})}),
        ("restores", {"a": RESTORE._replace(signature="AAAA")}),
    ],
)
def test_a_bad_value_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        header(**{field: value})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("kind: update", "kind: letter"),
        ("kind: update\n", ""),
        ("kind: update", "kind: [update]"),
        ("number: 1", "number: one"),
        ("number: 1", "number: -1"),
        ("number: 1", "number: 0x1"),
        ("number: 1", "number: 99999999999999999999999"),
        ("number: 1", "number: 1\nnumber: 2"),
        ("last: true", "last: yes"),
        ("last: true", "last: {}"),
        ("wanted: []", "wanted: {}"),
        ("wanted: []", "wanted: [abc]"),
        ("wanted: []", "wanted: [[[[[]]]]]"),
        ("wanted: []", "wanted: &many []\nmore: *many"),
        ("wanted: []", "wanted: !!python/object:os.system []"),
        ("wanted: []", "? [a]\n: b"),
        (": [1, 70]", ": [1]"),
        (": [1, 70]", ": [70, 1]"),
        (": [1, 70]", ": 1"),
        ("incarnation: 1700000000}", "}"),
        ("comment:", "comment: [[[[[["),
        ("comment:", "--- \ncomment:"),
        ("comment:", "\x00"),
        ("row:", "sealed: {a: AAAA}\nrow:"),
        ("row:", "restores: {a: b}\nrow:"),
        ("row:", "restores: {a: {row: {}}}\nrow:"),
        ("row:", 'restores: {a: {incarnation: 1, knowing: {b: ";a"}}}\nrow:'),
    ],
)
def test_a_header_that_makes_no_sense_is_damage(old: str, new: str) -> None:
    text = header().text()
    assert old in text
    with pytest.raises(PacketDamaged, match="header"):
        Header.parse(text.replace(old, new, 1))


def test_keys_of_a_later_release_are_passed_over() -> None:
    assert Header.parse("weather: {today: [fine]}\n" + header().text()) == header()


@pytest.mark.parametrize("text", ["[" * 4_000_000, "{" * 1_000_000, "- " * 1_000_000, "a: " * 100_000, ""])
def test_nothing_takes_long_or_deep(text: str) -> None:
    with pytest.raises(PacketDamaged):
        Header.parse(text)


@given(st.text())
def test_any_text_is_a_header_or_damage(text: str) -> None:
    with pytest.raises(PacketDamaged):
        Header.parse(text)


@given(TEXTS)
def test_quoted_text_is_read_as_it_was(text: str) -> None:
    assert load(f"a: {quote(text)}") == {"a": text}


def test_a_comment_has_its_lines_on_lines_of_their_own() -> None:
    text = header(comment="Weekly.\n  Indented.\n").text()
    assert 'comment: "Weekly.\\n\\\n  \\x20 Indented.\\n\\\n  "\n' in text


def test_ranges_are_found_by_origin() -> None:
    found = Header.parse(header().text())
    assert found.ranges[BOSTON] == (1, 70) and found.ranges[PARIS].end == 4
