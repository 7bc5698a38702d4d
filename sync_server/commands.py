"""The commands of an administrator: called in order, answered in order, refused in one place.

A command is carried out by its handler (`sync_server.handlers`). Whatever that raises becomes exactly one
answer in `_refusal`, and a line of the log that says why, about whom, and for whom. Only where a part of an
answer has been sent already the connection ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred, succeed

from cyrus_sync.common.errors import (
    ConnectionLost,
    CyrusSyncError,
    PeerError,
    ReplyError,
    StoreError,
    UnknownFailure,
)
from cyrus_sync.common.metrics.codes import code_of
from cyrus_sync.common.protocol.commands import ADDITIONS
from cyrus_sync.common.protocol.events import DlistCommand
from cyrus_sync.common.stores import disk
from cyrus_sync.sync_server import replies
from cyrus_sync.sync_server.handlers import HANDLERS, Handler
from cyrus_sync.sync_server.outbox import Outbox, Slot
from cyrus_sync.sync_server.replies import line
from cyrus_sync.sync_server.request import Answer, Blocking, Request
from cyrus_sync.sync_server.service import Service
from cyrus_sync.sync_server.work import Work

log = logging.getLogger("sync_server")

_CHUNK = 128 * 1024


class Commands:
    """GET, APPLY and RESTORE of one connection."""

    def __init__(
        self, service: Service, outbox: Outbox, *, client: str, login: str, broken: Callable[[bytes], None]
    ) -> None:
        """`broken` is told the last words when an answer cannot be completed."""
        self.work = Work(service.replica(), service.threads, service.staging, service.measures)
        self.refused = 0
        self._service = service
        self._outbox = outbox
        self._client = client
        self._login = login
        self._broken = broken
        self._closed = False

    def ready(self) -> Deferred[Any] | None:
        """None where more may be queued, else something to wait for."""
        ready = self.work.replica.ready()
        return None if ready.called else ready

    def run(self, event: DlistCommand) -> None:
        """Carry out a complete command; its answer goes to the outbox."""
        bulk = self.work.take_bulk()
        handler = HANDLERS.get((event.verb, event.name))
        if handler is None:
            self.refused += 1
            bulk.close()
            self._outbox.say(line(replies.UNKNOWN_NAME))
            return
        request = Request(event, bulk, self.work)
        slot = self._outbox.open(max(handler.cost, request.weight))
        Deferred.fromCoroutine(self._carry_out(slot, handler, request))

    def restart(self) -> None:
        """RESTART: forget what is staged, behind everything before it."""
        slot = self._outbox.open()
        done = self.work.replica.restart()
        done.addErrback(lambda failure: log.error("cannot clear the staging area: %s", failure.value))
        done.addCallback(lambda _: slot.finish(line(replies.RESTARTING)))

    def close(self) -> None:
        """The connection has ended: nobody waits for what is still under way."""
        self._closed = True
        self.work.close()

    async def _carry_out(self, slot: Slot, handler: Handler, request: Request) -> None:
        """Call the handler, at once as far as its verb; write its answer when its turn has come."""
        begun = self._service.now()
        code = "OK"
        try:
            self._check_role(request)
            await self._answer(slot, await handler.function(request))
            if log.isEnabledFor(logging.DEBUG):
                log.debug("OK in %.3f s %s", self._service.now() - begun, self._address(request))
        except ConnectionLost:
            code = ""
        except Exception as error:
            code = code_of(error)
            if self._closed:
                log.debug("nobody waits for: %s %s", error, self._address(request))
            elif slot.sent:
                log.exception("unexpected end in the middle of an answer %s", self._address(request))
                self._broken(line(replies.fatal("Internal error")))
            else:
                reply = self._refusal(error, request)
                await self._after_penalty(reply, request)
                slot.finish(line(reply))
        finally:
            request.bulk.close()
            if code:
                self._service.measures.answered(request.title, code, self._service.now() - begun)

    def _check_role(self, request: Request) -> None:
        """A server that was promoted is nobody's replica: its old master, coming back, must not undo what
        users have done since. Raises `UnknownFailure`."""
        if request.verb == "GET" or request.name == "CAPABILITIES":
            return
        if ADDITIONS not in self.work.replica.capabilities and (reason := self._service.refuses()):
            raise UnknownFailure(reason)

    async def _answer(self, slot: Slot, answer: Answer) -> None:
        """Small answers go out in one piece, large ones in pieces when their turn has come."""
        if answer is None:
            slot.finish(line(replies.SUCCESS))
            return
        if not isinstance(answer, Blocking):
            pieces = iter(answer)
            await self._send_all(slot, lambda: succeed(_gather(pieces)))
            return
        try:
            await self._send_all(slot, lambda: self._service.threads.run(_gather, answer.lines))
        finally:
            if answer.snapshot is not None:
                await self._service.threads.run(answer.close)
            else:
                answer.close()

    async def _send_all(self, slot: Slot, gather: Callable[[], Deferred[tuple[bytes, bool]]]) -> None:
        while True:
            chunk, more = await gather()
            if not more:
                slot.finish(chunk + line(replies.SUCCESS))
                return
            await slot.turn()
            await slot.send(chunk)

    def _refusal(self, error: Exception, request: Request) -> bytes:
        """The one place that turns an exception into an answer."""
        self.refused += 1
        why, address = str(error), self._address(request)
        if isinstance(error, OSError):
            why = disk.why(error)
        if isinstance(error, CyrusSyncError):
            why, address = error.message, self._address(request, error.address)
        if isinstance(error, ReplyError):
            said = error.reply.strip()
            log.warning("NO %s%s %s", said, "" if why in said else f": {why}", address)
            if not error.code:
                return replies.refusal(error.message)
            return b"NO " + error.reply.encode("ascii", "replace") + _which(error)
        if isinstance(error, StoreError | OSError) and not _surprising(error):
            log.error("cannot store: %s %s", why, address)
            return replies.refusal(why)
        if isinstance(error, PeerError):
            log.warning("refused: %s %s", why, address)
            return replies.refusal(why)
        log.error(
            "unexpected %s: %s %s", type(error).__name__, why, address, exc_info=error.__cause__ or error
        )
        inner = error.__cause__ or error
        return replies.refusal(f"internal error ({type(inner).__name__}), see the log of the replica")

    async def _after_penalty(self, reply: bytes, request: Request) -> None:
        key = (self._client.rpartition(":")[0], request.title, tuple(request.subject.items()), reply)
        delay = self._service.penalty.failed(key)
        if delay:
            log.warning("the same failure again, answering %.1f s later %s", delay, self._address(request))
            await self._service.sleep(delay)

    def _address(self, request: Request, more: dict[str, str] | None = None) -> str:
        """Who, and where: the end of every line of the log."""
        parts = {"client": self._client, "login": self._login, "command": request.title}
        parts |= request.subject | (more or {})
        return "[" + " ".join(f"{key}={value}" for key, value in parts.items() if value) + "]"


def _which(error: ReplyError) -> bytes:
    """The message that is meant, where the client cannot know it."""
    guid = error.address.get("guid", "")
    if not guid or guid in error.message or not error.message:
        return b""
    return f" ({guid})".encode("ascii", "replace")


def _surprising(error: Exception) -> bool:
    """True for a mistake of ours that came up in a store's thread, False for trouble with a disk."""
    return isinstance(error, StoreError) and error.message.startswith("internal error")


def _gather(pieces: Iterator[bytes]) -> tuple[bytes, bool]:
    """The next `_CHUNK` bytes or so of an answer, and whether more follow."""
    gathered: list[bytes] = []
    size = 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= _CHUNK:
            return b"".join(gathered), True
    return b"".join(gathered), False
