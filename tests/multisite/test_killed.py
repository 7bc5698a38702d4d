"""syncreplica is killed with SIGKILL at random moments; done again, it ends as if nothing had happened.

Real processes. MULTISITE_KILLS sets how often each is killed (default 8), MULTISITE_KILLS_SEED when.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.care.verify import verify
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.multisite.packet import PacketReader
from cyrus_sync.multisite.replay.context import ReplayContext
from cyrus_sync.multisite.replay.replay import Replay
from cyrus_sync.multisite.working import Work
from tests.multisite.world import Site, exchange_until_quiet, family_of

KILLS = int(os.environ.get("MULTISITE_KILLS", "8"))
SEED = int(os.environ.get("MULTISITE_KILLS_SEED", "1"))
MESSAGES = 320
JANUARY = 1704103200
TRIP = "trip"

SMALL_STEPS = "import cyrus_sync.multisite.applying as i; i.COMMIT_EVERY, i.COMMIT_OPERATIONS = 1 << 14, 2;"
"""Commits often, so that it is killed between commits, too."""
PROGRAM = (
    "import sys; from cyrus_sync.multisite.multitool import syncreplica;"
    "from cyrus_sync.multisite.commands import syncreplica_import, syncreplica_export;"
    "print('begins', flush=True); sys.exit(syncreplica())"
)

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120 + 12 * KILLS)]


@dataclass
class Pair:
    """Boston, which has a few hundred changed messages for Bangalore; and both as they were then."""

    directory: Path
    boston: Site
    bangalore: Site

    @property
    def trip(self) -> Path:
        return self.directory / TRIP

    def begin_again(self) -> None:
        """Both sites as they were in the beginning, and no packet."""
        for site in (self.boston, self.bangalore):
            shutil.rmtree(site.directory)
            shutil.copytree(self.directory / f"{site.name}.then", site.directory)
        shutil.rmtree(self.trip, ignore_errors=True)
        self.trip.mkdir()

    def believed(self) -> dict[str, int]:
        """What Boston believes that Bangalore has."""
        with self.boston.member() as member:
            return member.log.epochs.row(member.family.find("bangalore").id)

    def check_that_all_is_well(self) -> None:
        """Both hold the same, whole and once, and have nothing to tell."""
        assert self.bangalore.dump() == self.boston.dump()
        assert sum(len(guids) for guids in self.bangalore.guids("alice").values()) == live_at(self.boston)
        with self.bangalore.store() as store:
            assert isinstance(store, NativeStore)
            assert [problem for owner in store.owners() for problem in verify(store, owner)] == []
        assert self.bangalore.export_to(self.boston, self.directory / "back") == []
        assert self.boston.export_to(self.bangalore, self.directory / "back") == []


def live_at(site: Site) -> int:
    return sum(len(guids) for guids in site.guids("alice").values())


def message(subject: str, chance: random.Random) -> bytes:
    """A small one or a larger one, which cannot be compressed much."""
    body = chance.randbytes(chance.choice((9, 3000))).hex()
    return f"Subject: {subject}\r\n\r\n{body}\r\n".encode()


def change(site: Site, chance: random.Random) -> None:
    """Some forty operations of all kinds, with a few hundred messages."""
    folders = ["user.alice", *(f"user.alice.f{number}" for number in range(5))]
    with site.store() as store, store.write(Owner("user", "alice")) as box:
        for name in folders[1:]:
            box.create(name)
    for step in range(40):
        name = folders[step % len(folders)]
        new = [
            (message(f"{step}.{n}", chance), JANUARY + step, chance.choice(("", "\\Seen", "Work")))
            for n in range(MESSAGES // 40)
        ]
        with site.store() as store, store.write(Owner("user", "alice")) as box:
            box.append(name, new)
            box.set_flags("user.alice", [1, 2], add=[f"Step{step % 7}"])
            if step % 5 == 4:
                box.expunge(name, [step // 5 + 1])
                box.copy("user.alice", [3], "user.alice.f0")
            if step % 9 == 8:
                box.annotate(name, "/comment", "alice", b"step %d" % step)
                box.subscribe(name)
        with site.member() as member:
            assert member.record() == []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    directory = tmp_path_factory.mktemp("killed")
    boston, bangalore = family_of(directory, "boston", "bangalore")
    with boston.store() as store, store.write(Owner("user", "alice")) as box:
        box.create("user.alice")
        box.append("user.alice", [(b"Subject: %d\r\n\r\nold\r\n" % n, JANUARY, "") for n in range(20)])
    exchange_until_quiet([boston, bangalore], directory)
    change(boston, random.Random(SEED))
    for site in (boston, bangalore):
        shutil.copytree(site.directory, directory / f"{site.name}.then")
    return Pair(directory, boston, bangalore)


@pytest.fixture
def pair(made: Pair) -> Pair:
    made.begin_again()
    return made


def command(site: Site, *words: str | Path, before: str = "") -> list[str]:
    return [sys.executable, "-c", before + PROGRAM, "-C", f"{site.directory}/imapd.conf", *map(str, words)]


def started(line: list[str]) -> subprocess.Popen[bytes]:
    """The command, at the moment when its work begins."""
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begins\n"
    return process


def run(line: list[str]) -> float:
    """To its end, which must be a good one; how long it takes."""
    process = started(line)
    begun = time.monotonic()
    said, _ = process.communicate()
    assert process.returncode == 0, said.decode()
    return time.monotonic() - begun


def killed(line: list[str], after: float) -> bool:
    """Run it and kill it after so many seconds; False if it had ended by then."""
    process = started(line)
    time.sleep(after)
    process.kill()
    said, _ = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), said.decode()
    return process.returncode != 0


def when_to_kill(line: list[str], kills: int) -> Iterator[float]:
    """When to kill. Runs the command once."""
    whole = run(line)
    chance = random.Random(SEED)
    for _ in range(kills):
        yield chance.uniform(0, whole)


def test_an_import_that_was_killed_goes_on_where_it_was(pair: Pair) -> None:
    (packet,) = pair.boston.export_to(pair.bangalore, pair.trip)
    kept = pair.directory / "packet"
    shutil.copy(packet, kept)
    shutil.copytree(pair.boston.directory, pair.directory / "boston.exported")
    outcomes: list[bool] = []
    slow = command(pair.bangalore, "-import", packet, before=SMALL_STEPS)
    for number, moment in enumerate(when_to_kill(slow, KILLS)):
        before = SMALL_STEPS if number % 4 else ""
        pair.begin_again()
        shutil.rmtree(pair.boston.directory)
        shutil.copytree(pair.directory / "boston.exported", pair.boston.directory)
        shutil.copy(kept, packet)
        line = command(pair.bangalore, "-import", packet, before=before)
        outcomes.append(killed(line, moment))
        if number % 3 == 2 and packet.exists():
            killed(line, moment * 0.8)
        if packet.exists():
            run(line)
        assert not packet.exists()
        assert list((pair.bangalore.directory / "conf/multisite/staging").iterdir()) == []
        pair.check_that_all_is_well()
        if number % 3 == 0:
            # The packet itself, once more.
            shutil.copy(kept, packet)
            run(line)
            pair.check_that_all_is_well()
    shutil.rmtree(pair.directory / "boston.exported")
    assert any(outcomes)


class Killed(BaseException):
    """Instead of a signal."""


def import_killed(site: Site, packet: Path, moment: str) -> None:
    """Import and die, before the mail store is committed, or after it and before the log is."""
    unchanged = Work.commit

    def commit(work: Work, context: ReplayContext, replay: Replay) -> None:
        if replay.consumed or moment == "before":
            if moment == "after":
                context.batch.commit()
            raise Killed
        unchanged(work, context, replay)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Work, "commit", commit)
        site.import_from([packet])


MOMENTS = [("before",), ("after",), ("before", "after"), ("after", "before", "after")]


@pytest.mark.parametrize("moments", MOMENTS)
def test_what_is_in_the_store_and_not_in_the_log_is_not_taken_for_a_change_made_here(
    pair: Pair, moments: tuple[str, ...]
) -> None:
    (packet,) = pair.boston.export_to(pair.bangalore, pair.trip)
    for moment in moments:
        import_killed(pair.bangalore, packet, moment)
    assert pair.bangalore.import_from([packet]).applied == [packet]
    pair.check_that_all_is_well()


def settle_at_master(pair: Pair, moments: tuple[str, ...]) -> list[dict[str, list[bytes]]]:
    """Bangalore has changed alice too, and made folders of the same names. Boston, her master, imports it and
    dies at these moments. What both have at last: live messages by folder."""
    pair.begin_again()
    change(pair.bangalore, random.Random(SEED + 1))
    (packet,) = pair.bangalore.export_to(pair.boston, pair.trip)
    for moment in moments:
        import_killed(pair.boston, packet, moment)
    assert pair.boston.import_from([packet]).applied == [packet]
    exchange_until_quiet([pair.boston, pair.bangalore], pair.directory)
    both = (pair.boston.guids("alice"), pair.bangalore.guids("alice"))
    return [{name: sorted(guids) for name, guids in site.items()} for site in both]


@pytest.fixture(scope="module")
def undisturbed(made: Pair) -> list[dict[str, list[bytes]]]:
    """What comes of it if nobody dies."""
    return settle_at_master(made, ())


@pytest.mark.parametrize("moments", MOMENTS)
def test_a_master_that_was_killed_settles_everything_once(
    pair: Pair, undisturbed: list[dict[str, list[bytes]]], moments: tuple[str, ...]
) -> None:
    """Generated names are told to nobody as if they had been given, either."""
    boston, bangalore = settle_at_master(pair, moments)
    assert "user.alice.bangalore_f0" in boston and "user.alice.boston_f0" in bangalore
    assert [boston, bangalore] == undisturbed


@pytest.mark.parametrize("way", ["out", "ship"])
def test_an_export_that_was_killed_leaves_whole_packets_or_none(pair: Pair, way: str) -> None:
    bay = pair.boston.directory / "conf/shipping/ms_ship/outgoing"
    where = pair.trip if way == "out" else bay
    how = ["-out", pair.trip / "packet"] if way == "out" else ["-ship"]
    line = command(pair.boston, "-export", "-maxsize", "40k", *how, "bangalore")
    then = pair.believed()
    outcomes: list[bool] = []
    for moment in when_to_kill(line, (KILLS + 1) // 2):
        pair.begin_again()
        outcomes.append(killed(line, moment))
        left = packets_in(where)
        for packet in left:
            with PacketReader(packet) as reader:
                reader.verify(None)
        raised = pair.believed() != then
        if raised:
            with PacketReader(left[-1]) as reader:
                assert reader.header.last, "what Bangalore is believed to get is there"
        if way == "ship":
            run(line)
            assert all(packet.with_name(f"sh_o_{packet.name}").exists() for packet in packets_in(bay))
        elif not raised:
            run([*line[:-2], str(pair.trip / "again"), line[-1]])
        run(command(pair.bangalore, "-import", where))
        assert packets_in(where) == []
        pair.check_that_all_is_well()
    assert any(outcomes)


def packets_in(directory: Path) -> list[Path]:
    """Finished ones, in the order of their numbers."""
    if not directory.exists():
        return []
    names = [path for path in directory.iterdir() if not path.name.startswith((".ms_tmp_", "sh_o_"))]
    return sorted(names, key=lambda path: (len(path.name), path.name))
