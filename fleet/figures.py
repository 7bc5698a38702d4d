"""The figures of a fleet for Prometheus: what this process has counted, and how PostgreSQL servers stand.

Servers are asked in threads of their own, over a connection of their own, all at once; whoever asks for the
figures waits for `PATIENCE` at most. A server that is silent is *not up*, what waits on it is not known, and
it costs no more than that one thread until it answers.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.metrics.shared import add_disks
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.fleet.counted import REQUESTS, RESULTS
from cyrus_sync.fleet.database import Server
from cyrus_sync.fleet.servers import Servers
from cyrus_sync.fleet.tallies import COMMITS, COPIES, FAILURES, READS, Tallies

PATIENCE = 1.0
"""Seconds. Prometheus waits for ten."""

BLOCKS = 4000
"""So many blocks of the journal are looked at, 32 MB. Of a longer one it is a sample, from all over it."""

CACHE = "(store_cache)"
"""Stands among the names of partitions; none can be called so."""

_SIZE = "SELECT pg_relation_size('journal') / current_setting('block_size')::int"

_WAITING = """
SELECT count(*), coalesce(sum(octet_length(data)), 0)::bigint,
    coalesce(extract(epoch FROM now() - min(made)), 0)::float8
FROM journal TABLESAMPLE SYSTEM (%s::real)
"""


class Waiting(NamedTuple):
    """What is in the journal of one server."""

    commits: float
    octets: float
    age: float
    """Seconds since the oldest commit, by PostgreSQL's clock."""


def look_at(server: Server, blocks: int = BLOCKS) -> Waiting:
    """How much there is, exact up to so many blocks. `Away`, and psycopg's errors."""
    ((size,),) = server.ask(_SIZE)
    share = min(1.0, blocks / size) if size else 1.0
    ((commits, octets, age),) = server.ask(_WAITING, share * 100)
    return Waiting(round(commits / share), round(octets / share), age)


class Watch:
    """Looks at one server, once at a time."""

    def __init__(self, server: Server) -> None:
        self.name = server.name
        self._server = server
        self._lock = threading.Lock()
        self._done: threading.Event | None = None
        self._found: Waiting | None = None

    def begin(self) -> threading.Event | None:
        """Look; what is set when that is done. None while an earlier look has not ended."""
        with self._lock:
            if self._done is not None and not self._done.is_set():
                return None
            self._found = None
            self._done = threading.Event()
            threading.Thread(target=self._look, args=(self._done,), name="figures", daemon=True).start()
            return self._done

    def _look(self, done: threading.Event) -> None:
        import psycopg

        try:
            self._found = look_at(self._server)
        except (CyrusSyncError, psycopg.Error):
            pass  # it is not up
        finally:
            done.set()

    def found(self, done: threading.Event | None, seconds: float) -> Waiting | None:
        """None where nothing is known by then."""
        return self._found if done is not None and done.wait(max(seconds, 0)) else None

    def close(self) -> None:
        self._server.close()


class FleetFigures:
    """Of one process of a node."""

    def __init__(self, servers: Servers, tallies: Tallies, cache: Path) -> None:
        self._servers = servers
        self._tallies = tallies
        self._cache = cache
        self._watches = [Watch(Server(url)) for url in servers.urls]

    def add(self, sheet: Sheet) -> None:
        """For one thread at a time. Blocks for `PATIENCE` at most."""
        self._add_servers(sheet)
        self._add_counts(sheet)
        add_disks(sheet, {CACHE: self._cache})

    def close(self) -> None:
        for watch in self._watches:
            watch.close()

    def _add_servers(self, sheet: Sheet) -> None:
        until = time.monotonic() + PATIENCE
        begun = [(watch, watch.begin()) for watch in self._watches]
        failures = self._servers.failures
        for number, (watch, done) in enumerate(begun, 1):
            found = watch.found(done, until - time.monotonic())
            labels = {"program": sheet.program, "shard": str(number), "server": watch.name}
            gauge = sheet.gauge
            text = "Whether a PostgreSQL server of store_journal answers, within a second."
            gauge("fleet_shard_up", text, float(found is not None), **labels)
            text = "Commits that are not settled into the object store; of many, from a sample."
            gauge("fleet_journal_commits", text, found and found.commits, **labels)
            text = "Octets of these commits."
            gauge("fleet_journal_bytes", text, found and found.octets, **labels)
            text = "Age of the oldest of these commits, by PostgreSQL's clock."
            gauge("fleet_journal_oldest_age_seconds", text, found and found.age, **labels)
            text = "Statements, and connections, that failed since it was away."
            sheet.counter("fleet_shard_failures_total", text, failures[number - 1], **labels)

    def _add_counts(self, sheet: Sheet) -> None:
        tallies, counter = self._tallies, sheet.counter
        labels = {"program": sheet.program}
        for result in COMMITS:
            spent = tallies.spent(f"commits {result}")
            text = "Commits, by what became of them; overtaken ones are made once more."
            counter("fleet_commits_total", text, spent.times, **labels, result=result)
        text = "Octets of commits in the journal."
        counter("fleet_commit_bytes_total", text, tallies.spent("commits published").octets, **labels)
        text = "From SQLite's commit until the fleet has it."
        sheet.histogram("fleet_commit_duration_seconds", text, tallies.commit_seconds, **labels)
        for found in COPIES:
            spent = tallies.spent(f"copies {found}")
            text = "Users who were asked for, by what this node's copy was, and how it was made current."
            counter("fleet_copies_total", text, spent.times, **labels, found=found)
            text = "Octets that were fetched for that."
            counter("fleet_copy_bytes_total", text, spent.octets, **labels, found=found)
        for source in READS:
            spent = tallies.spent(f"reads {source}")
            text = "Reads of messages, by where they were."
            counter("fleet_reads_total", text, spent.times, **labels, source=source)
            text = "Octets of these reads."
            counter("fleet_read_bytes_total", text, spent.octets, **labels, source=source)
        for request in REQUESTS:
            for result in RESULTS:
                spent = tallies.spent(f"{request} {result}")
                text = "Requests to the object store."
                counter(
                    "fleet_object_requests_total", text, spent.times, **labels, request=request, result=result
                )
        for request in ("put", "get"):
            text = "Octets of objects that were put and fetched."
            octets = tallies.spent(f"{request} ok").octets
            counter("fleet_object_bytes_total", text, octets, **labels, request=request)
        for kind in FAILURES:
            text = "What was not as it was published: copies of this node, commits, objects."
            counter(
                "fleet_failures_total", text, tallies.spent(f"failures {kind}").times, **labels, kind=kind
            )
