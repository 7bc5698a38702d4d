"""``python -m bench.hour --minutes 60``: a real Cyrus under load, and our rolling client reading its spool.

Ten people work with their mail over IMAP (append, flags, expunge, move, create, delete, rename, annotate),
mail comes by LMTP, and cyr_expire, ctl_cyrusdb -c, reconstruct, squatter and quota run all the while. Our
client rolls for a minute, is ended, and rolls again after a pause, so that what people wait for can be
compared. At the end everybody stops. Then the log has to be worked off, nobody may stay set aside, and master
and replica have to be equal, mailbox by mailbox and record by record.

Exit status: 0; 1 there was a difference, or somebody was still set aside; 77 there is no real Cyrus.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import time
from pathlib import Path

from tests.deadlines import scaled
from tests.interop.beside import BesideCyrus
from tests.interop.busy import STORM, WITH_RENAMES, Busy, Housekeeper, Post, Timings
from tests.interop.csync import differences, state_of
from tests.interop.ours import Ours
from tests.interop.releases import HOST
from tests.interop.running import Rolling

from .private_syslog import Syslog, enter

PERCENTILES = (50, 90, 99)
RECOVERY = 900
"""Seconds after the load within which everybody has to be done."""


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.hour", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--pause", type=float, default=0.5, metavar="S",
                        help="between two things that one does, about; default 0.5")  # fmt: skip
    parser.add_argument("--round", type=float, default=60.0, metavar="S",
                        help="how long the client rolls before it pauses; default 60")  # fmt: skip
    parser.add_argument("--housekeeping", type=float, default=15.0, metavar="S",
                        help="between two programs of the administrator; default 15")  # fmt: skip
    parser.add_argument("--storm", action="store_true", help="people rename more than they do all else")
    return parser.parse_args(argv)


class Phases:
    """When the client rolled (True) and when it did not."""

    def __init__(self) -> None:
        self._begun: list[tuple[float, bool]] = []

    def begin(self, rolling: bool) -> None:
        self._begun.append((time.monotonic(), rolling))

    def at(self, moment: float) -> bool:
        return next(rolling for begun, rolling in reversed(self._begun) if begun <= moment)


def work(
    master: BesideCyrus, ours: Ours, options: argparse.Namespace, users: list[str], timings: Timings
) -> tuple[Phases, Rolling, list[str]]:
    """The load, and rounds with and without our client. Ends with the client rolling, everybody at rest."""
    end = time.monotonic() + 60 * options.minutes

    def ends() -> bool:
        return time.monotonic() >= end

    steps = STORM if options.storm else WITH_RENAMES
    busy = [Busy(master, user, ends, steps=steps, pause=options.pause, timings=timings) for user in users]
    post = Post(master, users, ends, options.pause, timings)
    keeper = Housekeeper(master, users, ends, options.housekeeping)
    phases = Phases()
    phases.begin(True)
    rolling = master.roll("-d", "1", to=ours.csync)
    for thread in (*busy, post, keeper):
        thread.start()
    while not ends():
        time.sleep(min(options.round, max(0.0, end - time.monotonic())))
        if not ends():
            rolling.stop()
            phases.begin(False)
            time.sleep(min(options.round, max(0.0, end - time.monotonic())))
            phases.begin(True)
            rolling = master.roll("-d", "1", to=ours.csync)
    for thread in (*busy, post, keeper):
        thread.join(scaled(120))
    trouble = [f"{one.name}: {one.error!r}" for one in (*busy, post) if one.error is not None]
    return phases, rolling, trouble + keeper.said


def settle(master: BesideCyrus, ours: Ours, rolling: Rolling) -> list[str]:
    """Wait until the log is worked off and nobody is set aside; what did not come to be."""
    begun = time.monotonic()
    logs = (master.sync_log, master.sync_log.with_name("log-run"))
    aside = master.sync_log.with_name("quarantine.yaml")
    told = {"the log is worked off": False, "nobody is set aside": False}
    if aside.exists():
        print(f"set aside when the load ended:\n{aside.read_text()}", flush=True)
    while time.monotonic() - begun < RECOVERY:
        if rolling.process.poll() is not None:
            return [f"the client ended with {rolling.process.returncode}: {rolling.text()[-2000:]}"]
        now = {
            "the log is worked off": not any(log.exists() for log in logs),
            "nobody is set aside": not aside.exists(),
        }
        for what, holds in now.items():
            if holds and not told[what]:
                print(f"{what} {time.monotonic() - begun:.1f} s after the load", flush=True)
        told = now
        if all(now.values()):
            return []
        time.sleep(0.2)
    return [f"not after {RECOVERY} s: {what}" for what, holds in told.items() if not holds]


def compare(master: BesideCyrus, ours: Ours, users: list[str]) -> list[str]:
    """What differs, but for records of messages that are gone: each side forgets those in its own time."""
    found = []
    for user in users:
        here, there = (state_of(side.csync, user, expunged=False) for side in (master, ours))
        found += [
            f"{user}: {line}"
            for line in differences(here, there)
            if not re.search("DELETEDMODSEQ|/DELETED[.]", line)
        ]
    ran = ours.mailstore("verify")
    return found + ([] if ran.status == 0 else [ran.describe()])


def tell_of_waiting(timings: Timings, phases: Phases) -> None:
    print(
        f"{'':10} {'client':8} {'count':>7}" + "".join(f" {p:>6}. perc." for p in PERCENTILES) + "    worst"
    )
    for what in sorted({what for what, _, _ in timings.taken}):
        for rolling in (False, True):
            taken = [s for one, begun, s in timings.taken if one == what and phases.at(begun) is rolling]
            if len(taken) < 2:
                continue
            cuts = statistics.quantiles(taken, n=100)
            line = "".join(f" {cuts[p - 1] * 1e3:>9.1f} ms" for p in PERCENTILES)
            name = "rolls" if rolling else "pauses"
            print(f"{what:10} {name:8} {len(taken):>7}{line} {max(taken) * 1e3:>7.1f} ms")


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    if reason := HOST.why_unavailable():
        print(f"bench.hour: no real Cyrus: {reason}", file=sys.stderr)
        return 77
    mark = f"hour{os.getpid()}"
    syslog = Syslog(mark)
    users = [f"person{number}" for number in range(options.people)]
    timings = Timings()
    settings = {"maxliteral": "0", "syslog_prefix": mark}
    with BesideCyrus.running("hour", settings) as master, Ours.installed("replica") as ours:
        assert isinstance(master, BesideCyrus)
        master.create_user(*users)
        phases, rolling, trouble = work(master, ours, options, users, timings)
        print(f"{len(timings.taken)} things were timed in {options.minutes:g} minutes", flush=True)
        wrong = settle(master, ours, rolling)
        status = rolling.stop()
        tell_of_waiting(timings, phases)
        wrong += compare(master, ours, users)
        said = Path(rolling.output).read_text(errors="replace")
        for line in trouble:
            print(f"load: {line}")
        if syslog.listening:
            print(f"daemons: {syslog.lines} lines, {len(syslog.errors)} of them errors")
            kinds = {re.sub(r"[0-9a-f]{6,}|\d+|<[^>]*>", "#", line) for line in syslog.errors}
            for kind in sorted(kinds)[:40]:
                print(f"  {kind}")
        print(f"client: ended with {status}; its last run said {len(said.splitlines())} lines")
        for line in wrong:
            print(f"WRONG: {line}")
        print("nothing differs" if not wrong else f"{len(wrong)} things are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    enter("bench.hour", sys.argv[1:])
    sys.exit(main())
