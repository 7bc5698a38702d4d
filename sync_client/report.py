"""What sync_client says, and where: one line for a failure, operations where they are asked for.

A failure is one line of ``key=value`` with everything that tells it apart::

    sync failed: user=alice mailbox=user.alice.Work channel=north command="APPLY MAILBOX" \\
reply="IMAP_SYNC_CHECKSUM Checksum Failure" item="MAILBOX user.alice.Work" next="trying USER alice"

It goes to syslog (facility `syslog_facility`, mail if not set), and to stderr while there is one that
somebody reads. Operations go to stdout with ``-v``, to syslog with ``-l`` (to stderr, where there is none).
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Literal

from cyrus_sync.common import syslog
from cyrus_sync.common.commands import LostOutput, disregard_output
from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import CyrusSyncError, ReplyError
from cyrus_sync.common.logs import adopt_twisted
from cyrus_sync.common.progress import make_way
from cyrus_sync.sync_client.engine.errors import ItemsFailed
from cyrus_sync.sync_client.work import Item

log = logging.getLogger("sync_client")

_ADDRESS = ("user", "mailbox", "uniqueid", "channel", "command", "reply")


def set_up(
    cfg: Config,
    *,
    stderr: bool,
    to_syslog: bool = True,
    operations: bool = False,
    briefly: bool = False,
    ident: str = "sync_client",
) -> None:
    """Direct our log records. `stderr`: somebody (or the journal) reads it. `operations` are wanted too.

    `briefly`: the process ends soon, and whoever started it reads stderr; so a syslog that is not there
    is not waited for, nor spoken of.
    """
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for handler in list(root.handlers):
        if getattr(handler, "ours", False):
            root.removeHandler(handler)
            handler.close()
    handlers: list[logging.Handler] = []
    there = not syslog.absence() if briefly else syslog.SOCKET.exists()
    with_syslog = to_syslog and (there or not stderr)
    if with_syslog:
        prefix = cfg.string("syslog_prefix")
        handlers.append(
            syslog.SyslogHandler(
                f"{prefix}/{ident}" if prefix else ident,
                cfg.string("syslog_facility") or "mail",
                stream=sys.stderr if stderr else None,
                stream_below=logging.WARNING,
            )
        )
    if stderr:
        said = logging.StreamHandler(sys.stderr)
        said.setLevel(logging.INFO if operations and not with_syslog else logging.WARNING)
        handlers.append(said)
    for handler in handlers:
        handler.ours = True  # type: ignore[attr-defined] # a mark of ours
        root.addHandler(handler)
    adopt_twisted()


def quoted(value: str) -> str:
    """`value` as it stands in a ``key=value`` line."""
    if value and not any(c in value for c in ' "=\\') and value.isprintable():
        return value
    return '"' + value.translate(_ESCAPES) + '"'


_ESCAPES = {0x22: '\\"', 0x5C: "\\\\", 0x0A: "\\n", 0x0D: "\\r", 0x00: "\\0"}


def failure_lines(
    item: Item | str, error: Exception, following: str, *, channel: str = "", server: str = ""
) -> list[str]:
    """The lines that tell of a failure: one, or one for each part of an error that has parts."""
    if isinstance(error, ItemsFailed) and error.failures:
        return [
            line
            for _, single in error.failures
            for line in failure_lines(item, single, following, channel=channel, server=server)
        ]
    address = dict(error.address) if isinstance(error, CyrusSyncError) else {}
    if isinstance(item, Item) and item.owner.kind == "user":
        address.setdefault("user", item.owner.name)
    if isinstance(error, ReplyError):
        address.setdefault("reply", error.reply)
    if channel:
        address.setdefault("channel", channel)
    pairs = [(key, address.pop(key)) for key in _ADDRESS if key in address]
    pairs += address.items()
    text = error.message if isinstance(error, CyrusSyncError) else f"{type(error).__name__}: {error}"
    pairs += [("error", text), ("server", server), ("item", _shortened(str(item))), ("next", following)]
    return ["sync failed: " + " ".join(f"{key}={quoted(value)}" for key, value in pairs if value)]


def _shortened(text: str, longest: int = 300) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


class Reporter:
    """Says what happens: operations as they are done, failures with their address."""

    def __init__(
        self, *, verbose: int = 0, verbose_logging: bool = False, channel: str = "", server: str = ""
    ) -> None:
        self.on_lost_output: Callable[[LostOutput], None] = _say_lost
        """Told once when standard output takes no more; operations are not printed from then on."""
        self._verbose = verbose
        self._verbose_logging = verbose_logging
        self._channel = channel
        self._server = server

    def operation(self, line: str) -> None:
        """An operation that the engine does (``MAILBOX user.alice``)."""
        if self._verbose:
            try:
                print(line, flush=True)
            except LostOutput as lost:
                self._verbose = 0
                self.on_lost_output(lost)
        if self._verbose_logging:
            log.info("%s", line)

    def failure(self, item: Item | str, error: Exception, following: str) -> None:
        """An item failed; `following` is what happens with it now."""
        make_way()
        for line in failure_lines(item, error, following, channel=self._channel, server=self._server):
            log.error("%s", line)
        if not isinstance(error, CyrusSyncError):
            log.error("unexpected failure of %s", item, exc_info=error)

    @property
    def trace(self) -> Trace | None:
        """Where the protocol trace goes (``-v -v``): stderr; None if it is not wanted."""
        return _trace if self._verbose > 1 else None


def _say_lost(lost: LostOutput) -> None:
    """Replicating is what matters."""
    disregard_output()
    log.warning("operations are not printed any more: standard output: %s", lost.reason.strerror)


Trace = Callable[[Literal["<", ">"], bytes], None]


def _trace(direction: Literal["<", ">"], data: bytes) -> None:
    """What passed, as Cyrus prints it: ``>time>`` what we sent, ``<time<`` what came."""
    out = sys.stderr.buffer
    out.write(b"%s%d%s" % (direction.encode(), int(time.time()), direction.encode()))
    out.write(data if data.endswith(b"\n") else data + b"\n")
    out.flush()
