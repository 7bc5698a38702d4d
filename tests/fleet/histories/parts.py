"""A fleet in a test's hands: nodes as processes, their lines, PostgreSQL, objects; and what goes wrong."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cyrus_sync.fleet.settler import KEEP
from tests.deadlines import scaled, until
from tests.fleet.histories.wires import Way, Wire
from tests.fleet.postgres import Postgres
from tests.objects.seaweed import Seaweed

HOUR = 3600.0
SERVERS = 3
"""Databases over which users are spread. All are on one PostgreSQL."""


class NoAnswer(Exception):
    """A node has died, or was asked while it was dead: what was asked for may have been done."""


class NodeProcess:
    """One node. Its clock is wrong by `skew` seconds."""

    def __init__(self, directory: Path, parts: Parts, url: str, skew: float) -> None:
        self.directory = directory
        self.wire = Wire(("127.0.0.1", parts.postgres.port))
        self.wire_to_objects = Wire(("127.0.0.1", parts.seaweed.port)) if parts.seaweed else None
        objects = str(parts.objects)
        if self.wire_to_objects is not None:
            objects = f"http://127.0.0.1:{self.wire_to_objects.port}/{directory.parent.name}"
        url = url.replace(f":{parts.postgres.port}/", f":{self.wire.port}/")
        self._words = [objects, str(skew), url]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def wires(self) -> list[Wire]:
        return [wire for wire in (self.wire, self.wire_to_objects) if wire is not None]

    def start(self) -> None:
        socket_path = self.directory / "socket"
        socket_path.unlink(missing_ok=True)
        with Path(f"{self.directory}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fleet.histories.node", str(self.directory), *self._words],
                stdout=log, stderr=log,
            )  # fmt: skip

    def await_start(self) -> None:
        until(self._is_there, f"{self.directory.name} listens", 60)

    def _is_there(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, Path(f"{self.directory}.log").read_text()[-3000:]
        with contextlib.suppress(OSError), contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
            probe.connect(str(self.directory / "socket"))
            return True
        return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def forget(self) -> None:
        """All that it has cached is gone; it does not run."""
        shutil.rmtree(self.directory / "cache", ignore_errors=True)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Raises `NoAnswer`."""
        try:
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as line:
                line.settimeout(scaled(60))
                line.connect(str(self.directory / "socket"))
                with line.makefile("rwb") as file:
                    file.write(json.dumps(request).encode() + b"\n")
                    file.flush()
                    answer = file.readline()
        except OSError as error:
            raise NoAnswer(str(error)) from error
        if not answer.endswith(b"\n"):
            raise NoAnswer("the connection has ended")
        found: dict[str, Any] = json.loads(answer)
        return found


class Parts:
    """Three nodes, and what they depend on. `TROUBLES` are the methods that do them harm."""

    def __init__(self, directory: Path, postgres: Postgres, seaweed: Seaweed | None = None) -> None:
        """Objects are in `seaweed`, or in a directory."""
        self.directory = directory
        self.postgres = postgres
        self.seaweed = seaweed
        self.objects = directory / "objects"
        self.objects.mkdir()
        url = " ".join(postgres.database() for _ in range(SERVERS))
        self.nodes = [
            NodeProcess(directory / f"node{number}", self, url, skew)
            for number, skew in enumerate((0.0, HOUR, -HOUR))
        ]
        self.disturbed: dict[NodeProcess, float] = {}
        """Up to when a node may not have heard of PostgreSQL, by the monotonic clock."""

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.await_start()

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()
            for wire in node.wires:
                wire.close()

    @property
    def troubles(self) -> tuple[str, ...]:
        """What can go wrong here."""
        return TROUBLES + (TROUBLES_OF_S3 if self.seaweed is not None else ())

    def trouble(self, what: str, dice: random.Random) -> str:
        """Something goes wrong, and is over when this returns; what it was exactly."""
        node, seconds = dice.choice(self.nodes), dice.uniform(0.05, 2 * _HALF_THE_TIME)
        getattr(self, what)(node, seconds)
        return f"{what} {node.directory.name} {seconds:.2f}"

    def node_is_killed(self, node: NodeProcess, seconds: float) -> None:
        node.kill()
        node.start()
        node.await_start()

    def node_loses_its_cache(self, node: NodeProcess, seconds: float) -> None:
        node.kill()
        node.forget()
        node.start()
        node.await_start()

    def node_is_stopped(self, node: NodeProcess, seconds: float) -> None:
        node.signal(signal.SIGSTOP)
        time.sleep(seconds)
        node.signal(signal.SIGCONT)

    def node_is_cut_off(self, node: NodeProcess, seconds: float) -> None:
        self._disturb(node, Way.CUT, seconds)

    def answers_are_lost(self, node: NodeProcess, seconds: float) -> None:
        self._disturb(node, Way.MUTE, seconds)

    def line_stands_still(self, node: NodeProcess, seconds: float) -> None:
        self._disturb(node, Way.STILL, seconds)

    def postgres_crashes(self, node: NodeProcess, seconds: float) -> None:
        for one in self.nodes:
            self.disturbed[one] = float("inf")
        self.postgres.stop(signal.SIGKILL)
        self.postgres.start()
        for one in self.nodes:
            self.disturbed[one] = time.monotonic() + RESTING

    def objects_are_away(self, node: NodeProcess, seconds: float) -> None:
        if self.seaweed is not None:
            self._turn_to_objects(self.nodes, Way.CUT, seconds)
            return
        away = self.objects.with_name("objects, away")
        self.objects.rename(away)
        self.objects.touch()  # nobody shall make a directory there
        time.sleep(seconds)
        self.objects.unlink()
        away.rename(self.objects)

    def objects_crash(self, node: NodeProcess, seconds: float) -> None:
        assert self.seaweed is not None
        self.seaweed.kill()
        time.sleep(seconds)
        self.seaweed.start()

    def objects_stand_still(self, node: NodeProcess, seconds: float) -> None:
        assert self.seaweed is not None
        with self.seaweed.stopped():
            time.sleep(seconds)

    def node_is_cut_off_from_objects(self, node: NodeProcess, seconds: float) -> None:
        self._turn_to_objects([node], Way.CUT, seconds)

    def answers_of_objects_are_lost(self, node: NodeProcess, seconds: float) -> None:
        self._turn_to_objects([node], Way.MUTE, seconds)

    @staticmethod
    def _turn_to_objects(nodes: Iterable[NodeProcess], way: Way, seconds: float) -> None:
        wires = [node.wire_to_objects for node in nodes if node.wire_to_objects is not None]
        for wire in wires:
            wire.turn(way)
        time.sleep(seconds)
        for wire in wires:
            wire.turn(Way.OPEN)

    def journal_is_settled(self, node: NodeProcess, seconds: float) -> None:
        with contextlib.suppress(NoAnswer):
            node.ask(do="settle", keep=KEEP if seconds < _HALF_THE_TIME else 0.0)

    def settler_is_killed(self, node: NodeProcess, seconds: float) -> None:
        thread = threading.Thread(target=self.journal_is_settled, args=(node, 0.0), daemon=True)
        thread.start()
        time.sleep(seconds / 8)
        self.node_is_killed(node, 0.0)
        thread.join()

    def servers_change(self, node: NodeProcess, seconds: float) -> None:
        with contextlib.suppress(NoAnswer):
            node.ask(do="rebalance", which=int(seconds * 1000) % SERVERS)

    def change_of_servers_is_killed(self, node: NodeProcess, seconds: float) -> None:
        thread = threading.Thread(target=self.servers_change, args=(node, seconds), daemon=True)
        thread.start()
        time.sleep(seconds / 8)
        self.node_is_killed(node, 0.0)
        thread.join()

    def _disturb(self, node: NodeProcess, way: Way, seconds: float) -> None:
        self.disturbed[node] = float("inf")
        node.wire.turn(way)
        time.sleep(seconds)
        node.wire.turn(Way.OPEN)
        self.disturbed[node] = time.monotonic() + RESTING

    def was_disturbed(self, node: NodeProcess, begun: float) -> bool:
        """Whether the node may have answered without PostgreSQL, since a moment of the monotonic clock."""
        return self.disturbed.get(node, 0.0) >= begun


_HALF_THE_TIME = 0.4
"""What is not needed any more is deleted at once in the other half, under the eyes of who reads it."""

RESTING = 1.5
"""Seconds for which a node may do without PostgreSQL after it was away: `fleet.database` says one."""

TROUBLES = (
    *("node_is_killed", "node_loses_its_cache", "node_is_stopped", "node_is_cut_off"),
    *("answers_are_lost", "line_stands_still", "postgres_crashes", "objects_are_away"),
    *("journal_is_settled", "settler_is_killed", "servers_change", "change_of_servers_is_killed"),
)

TROUBLES_OF_S3 = (
    *("objects_crash", "objects_stand_still", "node_is_cut_off_from_objects"),
    "answers_of_objects_are_lost",
)
