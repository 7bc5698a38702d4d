"""Where a daemon's log goes: syslog (facility mail, its name as ident) as Cyrus has it, or stderr.

stderr where it is a terminal, where there is no syslog socket, or where it was asked for; and what a syslog
does not take that is not there (`common.syslog`). Whatever the handler meets (a full disk, a syslog that went
away) the daemon goes on. Twisted's own log joins ours.
"""

from __future__ import annotations

import functools
import logging
import sys
from typing import Any, TextIO, cast

from twisted.logger import ILogObserver, LogEvent, LogLevel, STDLibLogObserver, globalLogBeginner
from zope.interface import implementer

from cyrus_sync.common import syslog


class _OneLine(logging.Formatter):
    """A record is one line whatever is in it; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if not text.isprintable():
            text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
        record.msg, record.args = text, ()
        return super().format(record)


def start_logging(
    ident: str,
    *,
    to_stderr: bool,
    verbose: bool,
    facility: str = "mail",
    prefix: str = "",
    stream: TextIO | None = None,
) -> None:
    """Set up the root logger, once per process."""
    logging.raiseExceptions = False
    handler: logging.Handler
    if to_stderr or not syslog.SOCKET.exists():
        handler = logging.StreamHandler(stream or sys.stderr)
        handler.setFormatter(
            _OneLine(f"%(asctime)s {ident}[%(process)d] %(levelname)s: %(message)s", "%b %d %H:%M:%S")
        )
    else:
        handler = syslog.SyslogHandler(
            f"{prefix}/{ident}" if prefix else ident, facility, stream=stream or sys.stderr
        )
        handler.setFormatter(_OneLine("%(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    adopt_twisted()


@implementer(ILogObserver)
class _Warnings:
    """Twisted's warnings and failures (an error that nobody has caught) go the same way as ours."""

    def __init__(self) -> None:
        self._next = STDLibLogObserver(name="twisted")

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_level", LogLevel.info) >= LogLevel.warn:
            self._next(event)


@functools.cache
def adopt_twisted() -> None:
    """Twisted's warnings go where ours go. Once per process: Twisted minds a second time."""
    globalLogBeginner.beginLoggingTo([cast(Any, _Warnings())], discardBuffer=True, redirectStandardIO=False)
