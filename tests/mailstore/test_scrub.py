"""A scrub goes through the whole store at its rate, goes on where it was, and heals from the other end."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.pace import Pace
from cyrus_sync.common.stores import open_kept
from cyrus_sync.common.stores.care import Problem
from cyrus_sync.mailstore.scrub import Read, Scrubber, StoreChecked
from cyrus_sync.mailstore.scrub_state import ScrubState
from tests.common.stores.test_healing import spoil
from tests.deadlines import until
from tests.mailstore.conftest import Site
from tests.sync_client.engine.lines import InlineThreads
from tests.sync_client.engine.world import finish
from tests.sync_client.real import BIN, ENVIRONMENT, Pair, Replica, paired, serving_replica

ALICE = Owner("user", "alice")


class Library:
    """Owners, each with messages of 100 octets; some are bad."""

    def __init__(self, **owners: str) -> None:
        self.shelves = owners
        self.read: list[str] = []
        self.told: list[str] = []
        self.on_read: Callable[[], object] = lambda: None

    def owners(self) -> Iterator[Owner]:
        yield from (Owner(*name.split("_")) for name in reversed(self.shelves))

    def verify(self, owner: Owner, after: str, read: Read) -> Iterable[Problem]:
        messages = self.shelves["_".join(owner)]
        if messages == "lost":
            raise StoreError("cannot be read")
        for number, letter in enumerate(messages):
            if after and number <= int(after):
                continue
            self.read.append(f"{owner.name}{number}")
            if letter == "x":
                yield Problem("message", owner.name, f"{number} is bad")
            self.on_read()
            read(1, 100, str(number) if number < len(messages) - 1 else "")

    def damaged(self, owner: Owner) -> int:
        return self.shelves["_".join(owner)].count("x")


LIBRARY = {"user_alice": "..", "user_bob": ".x.", "shared_news": ".", "user_zoe": "....."}


def scrubber(path: Path, library: Library, **more: Any) -> Scrubber:
    told = library.told
    return Scrubber(
        library,
        ScrubState(path / "verify.json", iter(range(1, 9999)).__next__),
        more.pop("pace", Pace(0, lambda: 0)),
        lambda owner, problem: told.append(f"{owner.name}: {problem.text}"),
        told.append,
        sleep=more.pop("sleep", None),
        stop=threading.Event(),
        heal=more.pop("heal", None),
    )


def state(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "verify.json").read_text())
    return found


def run(one: Scrubber, *, anew: bool = False, rate: int = 0) -> int:
    status: int = finish(one.go(InlineThreads(), anew=anew, rate=rate))
    return status


def test_everybody_is_read_once_users_first_and_the_state_says_what_was_found(tmp_path: Path) -> None:
    library = Library(**LIBRARY)
    one = scrubber(tmp_path, library)
    assert run(one) == 1
    assert library.read == [
        *("alice0", "alice1", "bob0", "bob1", "bob2"),
        *(f"zoe{number}" for number in range(5)),
        "news0",
    ]
    assert library.told == ["bob: 1 is bad"]
    last = state(tmp_path)["last"]
    assert (last["owners"], last["of"], last["messages"], last["octets"]) == (4, 4, 11, 1100)
    assert (last["problems"], last["damaged"], last["healed"], last["failed"]) == (1, 1, 0, 0)
    assert last["ended"] and not last["running"]


def test_what_was_stopped_goes_on_within_the_owner(tmp_path: Path) -> None:
    library = Library(**LIBRARY)
    one = scrubber(tmp_path, library)
    library.on_read = lambda: one.stop.set() if library.read[-1] == "zoe1" else None
    assert run(one) == 75
    now = state(tmp_path)["now"]
    assert (now["at"], now["owners"], now["running"], now["ended"]) == ("user:zoe", 2, False, None)
    assert state(tmp_path)["last"] is None
    library.read.clear()
    library.on_read = lambda: None
    assert run(scrubber(tmp_path, library)) == 1, "what was found before counts"
    assert library.read == ["zoe2", "zoe3", "zoe4", "news0"]
    assert (state(tmp_path)["last"]["messages"], state(tmp_path)["last"]["problems"]) == (11, 1)


def test_anew_and_after_a_damaged_state_everything_is_read(tmp_path: Path) -> None:
    library = Library(**LIBRARY)
    for content in ("", "{", '{"version": 2}', '{"version": 1, "now": {}, "last": 5}', "[]"):
        (tmp_path / "verify.json").write_text(content)
        library.read.clear()
        run(scrubber(tmp_path, library))
        assert len(library.read) == 11
    one = scrubber(tmp_path, library)
    library.on_read = one.stop.set
    run(one)
    library.read.clear()
    library.on_read = lambda: None
    run(scrubber(tmp_path, library), anew=True)
    assert len(library.read) == 11


def test_an_owner_who_is_gone_meanwhile_or_cannot_be_read_stops_nobody(tmp_path: Path) -> None:
    library = Library(**LIBRARY | {"user_bob": "lost"})
    one = scrubber(tmp_path, library)
    assert run(one) == 1 and library.told == ["user:bob cannot be checked: cannot be read"]
    assert state(tmp_path)["last"]["failed"] == 1
    (tmp_path / "verify.json").unlink()
    one = scrubber(tmp_path, library)
    library.on_read = lambda: one.stop.set() if library.read[-1] == "zoe1" else None
    run(one)
    del library.shelves["user_zoe"]
    library.read.clear()
    assert run(scrubber(tmp_path, library)) == 1
    assert library.read == ["news0"]


def test_it_waits_as_long_as_its_rate_says(tmp_path: Path) -> None:
    now = 0.0
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)

    run(scrubber(tmp_path, Library(**LIBRARY), pace=Pace(100, lambda: now), sleep=sleep), rate=100)
    assert now == pytest.approx(10) and slept


def test_what_the_other_end_gives_is_counted_and_a_peer_that_is_away_stops_nobody(tmp_path: Path) -> None:
    library = Library(**LIBRARY)

    async def heal(owner: Owner) -> None:
        library.shelves["_".join(owner)] = "..."

    assert run(scrubber(tmp_path, library, heal=heal)) == 0
    assert state(tmp_path)["last"]["healed"] == 1

    async def refuse(owner: Owner) -> None:
        raise StoreError("nobody there")

    library = Library(**LIBRARY)
    one = scrubber(tmp_path, library, heal=refuse)
    assert run(one, anew=True) == 1
    assert library.told[-1] == "user:bob: not healed now, replication does so later: nobody there"


def test_the_store_is_read_in_steps_and_nothing_is_missed(alice: Site) -> None:
    alice.deliver("alice", 9)
    kept = open_kept(alice.config(), readonly=True)
    seen: list[tuple[int, int, str]] = []
    checked = StoreChecked(kept.mail, kept.care, 1)
    checked._step = 100  # about two messages
    assert list(checked.verify(ALICE, "", lambda *step: seen.append(step))) == []
    assert sum(step[0] for step in seen) == 9 and len(seen) > 2
    assert [bool(step[2]) for step in seen] == [True] * (len(seen) - 1) + [False]
    again: list[tuple[int, int, str]] = []
    list(checked.verify(ALICE, seen[0][2], lambda *step: again.append(step)))
    assert again == seen[1:]
    kept.close()


def test_options_of_a_scrub_make_sense_with_it_alone(site: Site) -> None:
    for words in (["--rate", "5M"], ["--anew"], ["--no-heal"], ["--server", "x"], ["-n", "north"]):
        assert site.run("verify", *words).status == 64
    for words in (["alice"], ["--rate", "0"], ["--rate", "fast"]):
        assert site.run("verify", "--background", *words).status == 64


# -- as it is typed


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    with serving_replica(tmp_path_factory.mktemp("replica")) as made:
        yield made


@pytest.fixture
def pair(tmp_path: Path, replica: Replica) -> Iterator[Pair]:
    with paired(tmp_path, replica) as made:
        yield made


def scrub(pair: Pair, *options: str) -> subprocess.Popen[str]:
    command = [BIN / "mailstore", "-C", pair.master.conf, "verify", "--background", *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )


@pytest.mark.covers("mailstore: commands and options", "verify --background", "verify --rate")
@pytest.mark.covers("mailstore: commands and options", "verify --anew", "verify --no-heal", "verify --server")
def test_it_is_killed_goes_on_and_heals(pair: Pair) -> None:
    pair.master.create("alice", "bob")
    for text in ("one", "two"):
        pair.master.deliver("alice", text)
    pair.run("-A")
    spoil(pair.master.store, "one", ALICE)  # type: ignore[arg-type]
    path = pair.master.root / "conf" / "verify.json"
    slow = scrub(pair, "--rate", "2", "--no-heal")
    until(lambda: path.exists() and json.loads(path.read_text())["now"]["problems"], "the damage is found")
    second = scrub(pair)
    assert second.wait() == 75 and "another mailstore verify" in second.communicate()[1]
    slow.send_signal(signal.SIGKILL)
    slow.communicate()
    assert json.loads(path.read_text())["last"] is None
    stopped = scrub(pair, "--rate", "2")
    until(lambda: json.loads(path.read_text())["now"]["pid"] == stopped.pid, "it has begun")
    stopped.send_signal(signal.SIGTERM)
    out, err = stopped.communicate()
    assert stopped.returncode == 75 and "the next one goes on" in out, err
    done = scrub(pair, "--anew")
    out, err = done.communicate()
    assert done.returncode == 0, out + err
    assert "healed from" in out and "2 owners, 2 messages checked: 1 problem, 1 healed" in out
    last = json.loads(path.read_text())["last"]
    assert (last["damaged"], last["healed"], last["owners"]) == (1, 1, 2)
    assert scrub(pair, "--server", str(pair.socket)).wait() == 0
