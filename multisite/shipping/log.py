"""shipping_server_log: every file sent and received and every error, one line each, appended.

Errors go to syslog as well (facility mail). A log that cannot be written stops no shipping; it is said
once on stderr.
"""

from __future__ import annotations

import logging.handlers
import os
import sys
import time
from pathlib import Path

SYSLOG = Path("/dev/log")


class ShippingLog:
    """Appends whole lines, so that several processes may share the file."""

    def __init__(self, path: Path, syslog: Path = SYSLOG, program: str = "shipping_server") -> None:
        self.path = path
        self._syslog = syslog
        self._program = program
        self._mute = False

    def info(self, text: str) -> None:
        self._append(text)

    def error(self, text: str) -> None:
        self._append(f"error: {text}")
        if self._syslog.exists():
            self._to_syslog(text)

    def complain(self, text: str) -> None:
        """An error that whoever runs the command must see too."""
        self.error(text)
        print(f"{self._program}: {_one_line(text)}", file=sys.stderr, flush=True)

    def _append(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        line = f"{stamp} {self._program}[{os.getpid()}] {_one_line(text)}\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            try:
                os.write(descriptor, line.encode("utf-8", "backslashreplace"))
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._mute:
                print(f"{self._program}: cannot write the log: {error}", file=sys.stderr)
            self._mute = True

    def _to_syslog(self, text: str) -> None:
        try:
            handler = logging.handlers.SysLogHandler(
                str(self._syslog), logging.handlers.SysLogHandler.LOG_MAIL
            )
        except OSError:
            return
        handler.append_nul = False
        handler.ident = f"{self._program}[{os.getpid()}]: "
        handler.handleError = lambda record: None  # type: ignore[method-assign] # no syslog, no noise
        handler.emit(logging.LogRecord(self._program, logging.ERROR, "", 0, _one_line(text), None, None))
        handler.close()


def _one_line(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
