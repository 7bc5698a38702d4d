"""Ten writers against one reader: no line is lost, whatever the reader does with what it takes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from cyrus_sync.common.errors import ConnectionLost
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.sync_client.quarantine import Quarantine
from cyrus_sync.sync_client.run import Outcome
from cyrus_sync.sync_client.sources import ChannelSource, owner_of_line

LINES = int(os.environ.get("CYRUS_SYNC_RACE_LINES", "100000"))
WRITERS = 10

WRITER = """
import sys, pathlib
from cyrus_sync.common.synclog.log import SyncLog
log = SyncLog(pathlib.Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    log.append([("MAILBOX", f"user.w{sys.argv[2]}.box{number}")], fsync=False)
"""


def test_ten_writers_racing_the_claim_lose_no_line(tmp_path: Path):
    path = tmp_path / "log"
    each = LINES // WRITERS
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number), str(each)])
        for number in range(WRITERS)
    ]
    dice = random.Random(5)
    quarantine = Quarantine(tmp_path, time.time, owner_of_line)
    quarantine.load()
    source = ChannelSource(SyncLog(path), quarantine)
    done: set[str] = set()
    claims = 0
    try:
        while any(writer.poll() is None for writer in writers) or source.pending():
            batch = source.take()
            if batch is None:
                time.sleep(0.001)
                continue
            claims += 1
            fate = dice.random()
            if fate < 0.1:
                batch.release()  # killed in the middle: the run file is left over
                continue
            items = list(batch.plan.items)
            left = items[: len(items) // 2] if fate < 0.3 else []
            for item in items[len(left) :]:
                done.update(item.args)
            broken = ConnectionLost() if left else None
            source.conclude(batch, Outcome(done=len(items) - len(left), remaining=left, broken=broken))
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert all(writer.returncode == 0 for writer in writers)
    assert done == {f"user.w{w}.box{n}" for w in range(WRITERS) for n in range(each)}
    assert claims > 10, "the reader did race the writers"
    assert not source.pending() and source.set_aside == 0
