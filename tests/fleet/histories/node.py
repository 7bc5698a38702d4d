"""A node of a fleet as a process of its own.

``python -m tests.fleet.histories.node DIRECTORY OBJECTS SKEW URLS``
OBJECTS is a directory, or the address of an S3 server with a prefix behind it.
It listens on ``DIRECTORY/socket``. A request is a line of JSON, and so is its answer: what was asked for, or
``error``, and ``kind``: ``overtaken`` says that nothing was done, ``unknown`` says nothing.
"""

from __future__ import annotations

import json
import socketserver
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailReader, MailWriter, StaleOwner
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.fleet.home import FleetHome
from cyrus_sync.fleet.rebalance import Rebalance
from cyrus_sync.fleet.servers import Servers
from cyrus_sync.fleet.settler import Settler
from cyrus_sync.objects.directory import DirectoryObjects
from cyrus_sync.objects.s3 import S3Objects
from cyrus_sync.objects.store import ObjectStore
from tests.common.stores.tools import guid_of, message, random_message, text_of
from tests.objects.seaweed import bucket

LOCK_SECONDS = 20.0
MARK = "w"
"""What the keywords begin with that count a message's changes."""

Answer = dict[str, Any]


def text(number: int, size: int) -> bytes:
    """The message of a number. A large one stays large: it is an object before its commit."""
    return random_message(number, size) if size else message(number)


T = TypeVar("T")


class Node:
    """What can be asked. Safe for several threads."""

    def __init__(self, directory: Path, objects: str, skew: float, url: str) -> None:
        """`skew`: seconds by which this node's clock is wrong."""
        self._objects = _objects_at(objects)
        self._servers = Servers(url.split())
        self._home = FleetHome(self._servers, self._objects, directory / "cache", notes=directory / "notes")
        self._store = NativeStore(self._home, action_log=None, clock=lambda: time.time() + skew)

    def append(self, user: str, number: int, size: int) -> Answer:
        def work(writer: MailWriter, inbox: str) -> int:
            (uid,) = writer.append(inbox, [(text(number, size), 1, "")])
            return uid

        return {"uid": self._change(user, work)}

    def mark(self, user: str, uid: int, number: int, before: list[int]) -> Answer:
        """Give a message the mark `number` instead of those `before`."""

        def work(writer: MailWriter, inbox: str) -> None:
            remove = [f"{MARK}{one}" for one in before]
            writer.set_flags(inbox, [uid], add=[f"{MARK}{number}"], remove=remove)

        self._change(user, work)
        return {}

    def _change(self, user: str, work: Callable[[MailWriter, str], T]) -> T:
        """A group that was overtaken is run once more, as a session does it."""
        try:
            return self._change_once(user, work)
        except StaleOwner:
            return self._change_once(user, work)

    def _change_once(self, user: str, work: Callable[[MailWriter, str], T]) -> T:
        inbox = f"user.{user}"
        with self._store.write(Owner("user", user), timeout=LOCK_SECONDS) as writer:
            if writer.mailbox(inbox) is None:
                writer.create(inbox)
            return work(writer, inbox)

    def read(self, user: str, bodies: bool) -> Answer:
        """Every message as UID, GUID, marks and modseq; with `bodies` each is read and compared with its
        GUID."""
        with self._store.read(Owner("user", user)) as reader:
            state = reader.mailbox(f"user.{user}")
            if state is None:
                return {"messages": [], "highestmodseq": 0, "last_uid": 0}
            records = [record for batch in reader.records(state.uniqueid) for record in batch]
            if bodies:
                _read_all(reader, [record.guid for record in records])
            return {
                "messages": [[one.uid, one.guid.hex(), one.flags, one.modseq] for one in records],
                "highestmodseq": state.highestmodseq,
                "last_uid": state.last_uid,
                "crc": [state.sync_crc, reader.recalculate_crcs(state.uniqueid)[0]],
            }

    def settle(self, keep: float) -> Answer:
        settler = Settler(self._home.journal, self._objects, keep=keep)
        settled = [str(owner) for owner, _ in settler.run(settler.due(everybody=True))]
        settler.empty_gone()
        return {"settled": settled}

    def rebalance(self, which: int) -> Answer:
        """One of the servers leaves, or comes back. What another one has begun is gone on with."""
        work = Rebalance(self._servers)
        layout = self._servers.look()
        number = self._servers.number_of(which)
        if layout.moving:
            layout = work.begin()
        elif number not in layout.servers:
            layout = work.begin(back=[number])
        elif len(layout.servers) > 1:
            layout = work.begin([number])
        work.mend(layout)
        moved = sum(work.move(layout, *place) for place in list(work.misplaced(layout)))
        return {"moved": moved, "ended": work.end(layout)}

    def answer(self, request: Answer) -> Answer:
        what = request.pop("do")
        try:
            done: Answer = getattr(self, what)(**request)
            return done
        except StaleOwner as error:
            return {"error": str(error), "kind": "overtaken"}
        except (CyrusSyncError, OSError) as error:
            return {"error": f"{type(error).__name__}: {error}", "kind": "unknown"}


def _objects_at(typed: str) -> ObjectStore:
    if not typed.startswith("http:"):
        return DirectoryObjects(Path(typed))
    endpoint, _, prefix = typed.rpartition("/")
    return S3Objects(bucket(endpoint, prefix))


def _read_all(reader: MailReader, guids: list[bytes]) -> None:
    for batch in reader.bodies(guids):
        for body in batch:
            if guid_of(text_of(body)) != body.guid:
                raise AssertionError(f"{body.guid.hex()} is another message")


def main() -> None:
    words = sys.argv[1:]
    directory = Path(words[0])
    directory.mkdir(exist_ok=True)
    node = Node(directory, words[1], float(words[2]), words[3])

    class Asked(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(json.dumps(node.answer(json.loads(line))).encode() + b"\n")

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    path = directory / "socket"
    path.unlink(missing_ok=True)
    with Server(str(path), Asked) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
