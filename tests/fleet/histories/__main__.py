"""``python -m tests.fleet.histories``: many histories, one after the other, on one fleet."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import tempfile
import time
from pathlib import Path

from tests.fleet.histories.history import Complaint, History, described
from tests.fleet.histories.parts import RESTING, Parts
from tests.fleet.postgres import new_postgres
from tests.objects.seaweed import running


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.histories", description=__doc__)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the first one")
    parser.add_argument("--troubles", type=int, default=4, help="in each one")
    parser.add_argument("--objects", choices=("s3", "directory"), default="s3", help="default: %(default)s")
    options = parser.parse_args()
    numbers = itertools.count(1).__next__
    totals = [0, 0, 0, 0]
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(new_postgres())
        postgres.start()
        (weed := directory / "weed").mkdir()
        parts = Parts(
            directory, postgres, stack.enter_context(running(weed)) if options.objects == "s3" else None
        )
        try:
            parts.start()
            for seed in range(options.seed, options.seed + options.count):
                history = History(parts, seed, numbers)
                history.run(random.Random(seed).choices(parts.troubles, k=options.troubles))
                time.sleep(RESTING)
                try:
                    history.check()
                except Complaint as complaint:
                    print(f"history {seed}: {complaint}")
                    print(*history.troubles, sep="\n")
                    return 1
                totals = [before + more for before, more in zip(totals, history.counts, strict=True)]
                print(f"history {seed}:", history, flush=True)
        finally:
            parts.stop()
    print(f"{options.count} histories, no complaint:", described(*totals))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
