"""Records to the machine's syslog, and what becomes of them while there is none.

A line that syslog does not take (nobody listens behind a socket that is still there, the daemon restarts or
is stuck) goes to standard error instead, and that is said there. Where there is no standard error, as in the
background, lines wait for syslog to come back. Every record tries syslog anew; nothing here blocks for longer
than `PATIENCE` or raises.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import logging.handlers
import os
import socket
import time
from collections import deque
from pathlib import Path
from typing import TextIO

SOCKET = Path("/dev/log")
PATIENCE = 0.25
"""Seconds that a record waits for a syslog whose queue is full; the next do not, until it takes one again."""
MAX_WAITING = 1000
"""Lines that wait for syslog where there is no standard error; the oldest give way, and are counted."""
MAX_LINE = 8000
"""Octets of a line; what is longer is cut, as many a syslog would."""

_FACILITIES = logging.handlers.SysLogHandler.facility_names
_LEVELS = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7


def absence() -> str:
    """Why lines cannot go to syslog now; empty if they can."""
    handler = SyslogHandler("")
    try:
        handler.connect()
    except OSError as error:
        return f"no syslog behind {SOCKET} ({error.strerror})"
    finally:
        handler.close()
    return ""


class SyslogHandler(logging.Handler):
    """Records as RFC 3164 lines to the local syslog, under ``ident[pid]:``.

    `facility` by its name in syslog.conf, mail if there is no such. `stream` takes what syslog does not;
    None: it waits. `stream_below` is the level from which on somebody else keeps records, and `otherwise`
    says where they are then.
    """

    def __init__(
        self,
        ident: str,
        facility: str = "mail",
        *,
        path: Path | None = None,
        stream: TextIO | None = None,
        stream_below: int = logging.CRITICAL + 1,
        otherwise: str = "the log goes to standard error",
    ) -> None:
        super().__init__()
        self.ident = ident
        self.facility = _FACILITIES.get(facility.lower(), logging.handlers.SysLogHandler.LOG_MAIL)
        self._path = path or SOCKET
        self._stream = stream
        self._stream_below = stream_below
        self._otherwise = otherwise
        self._socket: socket.socket | None = None
        self._patient = True
        self._away = False
        self._elsewhere = 0
        """Lines that went to `stream` since syslog went away."""
        self._waiting: deque[tuple[int, str]] = deque()
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            lines = self.format(record).splitlines()
        except Exception:
            self.handleError(record)
            return
        for line in lines:
            self._log(record.levelno, line)

    def connect(self) -> socket.socket:
        """Raises OSError where nobody listens."""
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            line = socket.socket(socket.AF_UNIX, kind)
            try:
                line.settimeout(PATIENCE)
                line.connect(str(self._path))
            except OSError as error:
                line.close()
                if error.errno == errno.EPROTOTYPE and kind == socket.SOCK_DGRAM:
                    continue
                raise
            self._socket = line
            return line
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Lines that wait have one more chance."""
        with self.lock or contextlib.nullcontext():
            if self._waiting:
                with contextlib.suppress(OSError):
                    self._send_waiting()
            self._disconnect()
        super().close()

    def _log(self, level: int, line: str) -> None:
        try:
            self._send_waiting()
            self._send(level, line)
        except OSError as error:
            self._went_away(error)
            self._keep(level, line)

    # -- while syslog is there

    def _send(self, level: int, line: str) -> None:
        """Raises OSError where syslog does not take it."""
        priority = self.facility << 3 | next((code for least, code in _LEVELS if level >= least), _DEBUG)
        text = f"<{priority}>{self.ident}[{os.getpid()}]: {line}".encode("utf-8", "backslashreplace")
        for attempt in (1, 2):
            try:
                self._put(text[:MAX_LINE])
                break
            except (BlockingIOError, TimeoutError):
                self._patient = False
                raise
            except OSError:  # it was started anew, and this socket leads to the one before
                self._disconnect()
                if attempt == 2:
                    raise
        self._patient = True

    def _put(self, text: bytes) -> None:
        line = self._socket or self.connect()
        line.settimeout(PATIENCE if self._patient else 0)
        if line.type == socket.SOCK_STREAM:
            try:
                line.sendall(text + b"\0")
            except (BlockingIOError, TimeoutError):  # half a line may have gone
                self._disconnect()
                raise
        else:
            line.send(text)

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # -- while it is not

    def _went_away(self, error: OSError) -> None:
        if self._away:
            return
        self._away = True
        reason = error.strerror or str(error) or type(error).__name__
        self._print(logging.WARNING, f"no syslog behind {self._path} ({reason}): {self._otherwise}")

    def _keep(self, level: int, line: str) -> None:
        if self._stream is not None:
            if level < self._stream_below:
                self._print(level, line)
            self._elsewhere += 1
            return
        if len(self._waiting) == MAX_WAITING:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append((level, line))

    def _send_waiting(self) -> None:
        """What happened while syslog was away. Raises OSError if it still is."""
        if not self._away:
            return
        note = f"syslog is back; {self._elsewhere} lines did not go there"
        if self._stream is None:
            note = f"syslog is back; {len(self._waiting)} lines waited for it, {self._dropped} are lost"
        self._send(logging.WARNING, note)
        self._away = False
        self._elsewhere = self._dropped = 0
        while self._waiting:
            self._send(*self._waiting[0])
            self._waiting.popleft()

    def _print(self, level: int, line: str) -> None:
        if self._stream is None:
            return
        stamp = time.strftime("%b %d %H:%M:%S")
        with contextlib.suppress(OSError, ValueError):  # standard error is closed, or its disk is full
            self._stream.write(f"{stamp} {self.ident}[{os.getpid()}] {logging.getLevelName(level)}: {line}\n")
            self._stream.flush()
