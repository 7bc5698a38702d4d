import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.model import MailboxState, Record, UserMeta
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.mailstore.canonical import Line, octets, text_of, write_json, write_yaml
from cyrus_sync.mailstore.state import Scope, state_of
from tests.mailstore.conftest import Site

PLAIN = st.none() | st.booleans() | st.integers() | st.text()


@given(st.dictionaries(st.text(), PLAIN | st.lists(PLAIN), max_size=5))
def test_a_line_is_the_same_in_yaml_and_json(value: dict[str, Any]) -> None:
    line = text_of(value)
    assert "\n" not in line
    assert json.loads(line) == value
    assert yaml.load(line, Loader=yaml.CSafeLoader) == value


def test_unprintable_letters_are_escaped() -> None:
    assert (
        text_of("a\x85\u2028\x7f\ufeff\n\u00e9\U0001f6b2")
        == '"a\\u0085\\u2028\\u007f\\ufeff\\n\u00e9\U0001f6b2"'
    )


def test_octets_that_are_no_text_are_written_in_hexadecimal() -> None:
    assert octets("é\0".encode()) == "é\0"
    assert octets(b"\xff\0") == {"hex": "ff00"}


def tree() -> dict[str, Any]:
    return {
        "n": 1,
        "empty": iter(()),
        "line": Line(a=[1, "x"]),
        "inner": {"k": "v", "l": iter(["a", "b"])},
        "list": iter([{"x": 1, "y": iter([Line(z=2)])}, {"x": 2, "y": iter(())}]),
    }


def test_a_tree_reads_back_from_both_formats() -> None:
    parts: list[str] = []
    write_yaml(tree(), parts.append)
    assert "".join(parts) == (
        'n: 1\nempty: []\nline: {"a": [1, "x"]}\ninner:\n  k: "v"\n  l:\n  - "a"\n  - "b"\nlist:\n'
        '- x: 1\n  y:\n  - {"z": 2}\n- x: 2\n  y: []\n'
    )
    from_yaml = yaml.safe_load("".join(parts))
    parts.clear()
    write_json(tree(), parts.append)
    assert json.loads("".join(parts)) == from_yaml


@pytest.mark.covers("mailstore: commands and options", "dump")
def test_the_dump_of_a_store_is_the_same_in_both_formats(site: Site) -> None:
    site.ok("sample")
    from_json = json.loads(site.ok("dump", "--format", "json").raw)
    assert yaml.load(site.ok("dump").raw, Loader=yaml.CSafeLoader) == from_json
    assert [next(iter(owner.items())) for owner in from_json["owners"]] == [
        *(("user", name) for name in ("alice", "bruno", "chiara", "daisuke", "zoe.novak")),
        ("shared", "board"),
    ]
    assert from_json["server"]["annotations"][0]["entry"] == "/motd"


def owner_of(site: Site, *argv: str) -> dict[str, Any]:
    (owner,) = json.loads(site.ok("dump", "alice", "--format", "json", *argv).raw)["owners"]
    return cast("dict[str, Any]", owner)


def test_a_dump_holds_what_an_owner_has(alice: Site) -> None:
    alice.deliver("alice", 2, "-m", "Work", "-f", "Zebra", "-f", "Ape", "-f", "\\Seen")
    alice.ok("setquota", "user/alice", "MESSAGE=5")
    alice.ok("annotate", "user/alice/Work", "/comment", "@-", stdin=b"\xff")
    alice.ok("annotate", "user/alice/Work", "/note", "x", "--user", "bob", "--uid", "1")
    alice.ok("sieve", "put", "alice", "main", stdin=b"keep;")
    owner = owner_of(alice)
    assert owner["quotas"] == [
        {
            "root": "user.alice",
            "limits": {"MESSAGE": 5},
            "used": {
                "MESSAGE": 3,
                "STORAGE": owner["quotas"][0]["used"]["STORAGE"],
                "X-ANNOTATION-STORAGE": 2,
                "X-NUM-FOLDERS": 3,
            },
        }
    ]
    assert owner["sieve"] == [{"filename": "main.script", "active": False, "content": "keep;"}]
    work = owner["mailboxes"][2]
    assert work["name"] == "user.alice.Work"
    assert work["annotations"] == [{"entry": "/comment", "userid": "", "value": {"hex": "ff"}}]
    assert work["records"][0]["flags"] == ["\\Seen", "Ape", "Zebra"]
    assert work["records"][0]["annotations"][0]["entry"] == "/note"
    assert "message" not in work["records"][0]


CHANGES = [
    ["deliver", "alice"],
    ["flag", "user/alice", "1", "-a", "x"],
    ["expunge", "user/alice", "1"],
    ["create", "user/alice/New"],
    ["rename", "user/alice/Work", "user/alice/Job"],
    ["delete", "user/alice/Work"],
    ["setacl", "user/alice", "bob", "lrs"],
    ["setquota", "user/alice", "MESSAGE=1"],
    ["annotate", "user/alice", "/comment", "x"],
    ["annotate", "user/alice", "/comment", "x", "--uid", "1"],
    ["annotate", "", "/comment", "x"],
    ["subscribe", "alice", "user/bob"],
    ["sieve", "put", "alice", "main"],
    ["create", "user/bob"],
]


@pytest.mark.covers("mailstore: commands and options", "dump")
@pytest.mark.parametrize("change", CHANGES, ids=" ".join)
def test_every_change_of_the_mail_changes_the_dump(alice: Site, change: list[str]) -> None:
    alice.deliver("alice", 2)
    before = alice.ok("dump").raw
    assert alice.ok("dump").raw == before
    alice.ok(*change, stdin=b"keep;")
    assert alice.ok("dump").raw != before


@pytest.mark.covers("mailstore: commands and options", "dump --expunged")
def test_what_ends_may_hold_apart_is_in_the_dump_only_when_asked(alice: Site) -> None:
    alice.deliver("alice", 2)
    alice.ok("expunge", "user/alice", "1")
    plain = owner_of(alice)
    assert [record["uid"] for record in plain["mailboxes"][0]["records"]] == [2]
    full = owner_of(alice, "--expunged")["mailboxes"][0]["records"]
    assert [(record["uid"], record.get("expunged")) for record in full] == [(1, True), (2, None)]
    alice.ok("expire", "--retention", "0")
    assert owner_of(alice) == plain
    (alice.path / "other").mkdir()
    (alice.path / "other" / ".cyrus-sync-partition").touch()
    alice.ok("move", "alice", "other")
    moved = owner_of(alice, "--no-partitions")
    assert "partition" not in moved["mailboxes"][0]


@pytest.mark.covers("mailstore: commands and options", "dump --no-sieve-mailbox")
def test_a_dump_can_leave_out_the_mailbox_of_scripts(alice: Site) -> None:
    alice.ok("sieve", "put", "alice", "main", stdin=b"keep;")
    names = [mailbox["name"] for mailbox in owner_of(alice, "--no-sieve-mailbox")["mailboxes"]]
    assert names == ["user.alice", "user.alice.Work"]
    assert len(owner_of(alice)["mailboxes"]) == 3


def test_without_the_mailbox_of_scripts_its_weight_is_not_in_the_use_of_quotas(alice: Site) -> None:
    alice.ok("setquota", "user/alice", "STORAGE=1000")
    before = owner_of(alice, "--no-sieve-mailbox")["quotas"]
    for script in ("main", "other"):
        alice.ok("sieve", "put", "alice", script, stdin=b"keep;")
    alice.ok("sieve", "delete", "alice", "other")
    assert owner_of(alice, "--no-sieve-mailbox")["quotas"] == before
    used, now = before[0]["used"], owner_of(alice)["quotas"][0]["used"]
    assert now["STORAGE"] > used.get("STORAGE", 0)
    more = {name: now[name] - used.get(name, 0) for name in ("MESSAGE", "X-NUM-FOLDERS")}
    assert more == {"MESSAGE": 1, "X-NUM-FOLDERS": 1}


def test_an_unknown_user_is_exit_67_and_of_several_1(alice: Site) -> None:
    assert alice.run("dump", "bob").status == 67
    result = alice.run("dump", "alice", "bob")
    assert result.status == 1
    assert "bob" in result.err and "user.alice" in result.out


class Endless:
    """A store with one user and one mailbox of very many messages."""

    owner = Owner("user", "al")

    def __init__(self, count: int) -> None:
        self.count = count

    @contextmanager
    def read(self, owner: Owner) -> Iterator["Endless"]:
        yield self

    def mailboxes(self) -> list[MailboxState]:
        return [MailboxState("id", "user.al")]

    def records(self, uniqueid: str) -> Iterator[list[Record]]:
        for start in range(1, self.count, 1000):
            yield [
                Record(u, u, 1, "\\Seen", False, 1, 1, u.to_bytes(20, "big"))
                for u in range(start, start + 1000)
            ]

    def has_guids(self, guids: list[bytes]) -> set[bytes]:
        return set(guids)

    def meta(self, *, with_sieve: bool) -> UserMeta:
        return UserMeta()

    def nothing(self) -> list[Any]:
        return []

    usage = quotas = sieve_scripts = nothing


@pytest.mark.parametrize("write", [write_yaml, write_json])
def test_memory_does_not_grow_with_the_mailbox(write: Any) -> None:
    written = 0

    def count(text: str) -> None:
        nonlocal written
        written += len(text)

    store = cast(MailStore, Endless(8_000))
    tracemalloc.start()
    write(state_of(store, [Owner("user", "al")], server=False, scope=Scope()), count)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert written > 1_000_000
    assert peak < 900_000
