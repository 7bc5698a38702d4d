"""shipping_server_log: every file sent and received and every error, one line each, appended.

Errors go to syslog as well (facility mail). A log that cannot be written stops no shipping, neither does a
syslog that is not there; either is said once on stderr.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

from cyrus_sync.common.commands import reason
from cyrus_sync.common.files import make_directories
from cyrus_sync.common.printable import printable
from cyrus_sync.common.syslog import SOCKET, SyslogHandler


class ShippingLog:
    """Appends whole lines, so that several processes may share the file."""

    def __init__(self, path: Path, socket: Path = SOCKET, program: str = "shipping_server") -> None:
        self.path = path
        self._syslog = socket
        self._handler: SyslogHandler | None = None
        self.program = program
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
        print(f"{self.program}: {printable(text)}", file=sys.stderr, flush=True)

    def _append(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        line = f"{stamp} {self.program}[{os.getpid()}] {printable(text)}\n"
        try:
            make_directories(self.path.parent)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line.encode("utf-8", "backslashreplace"))
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._mute:
                print(f"{self.program}: cannot write the log: {reason(error)}", file=sys.stderr)
            self._mute = True

    def _to_syslog(self, text: str) -> None:
        if self._handler is None:
            self._handler = SyslogHandler(
                self.program,
                path=self._syslog,
                stream=sys.stderr,
                stream_below=logging.NOTSET,
                otherwise=f"errors are in {self.path} alone",
            )
        self._handler.handle(
            logging.LogRecord(self.program, logging.ERROR, "", 0, "%s", (printable(text),), None)
        )
