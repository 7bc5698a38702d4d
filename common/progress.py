"""How far long work has come: a line on a terminal with rate and time left, else a line of the log a minute.

One mechanism for all commands. Whoever works says how much there is, if that is known, and what is done:

>>> with progress("verifying", total=3, unit="owners", stream=sys.stderr) as meter:    # doctest: +SKIP
...     for owner in owners:
...         meter.at(owner)
...         meter.advance()

Nothing is shown of work that takes less than a second. What is said costs nothing but a look at the clock.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from cyrus_sync.common.printable import printable

FIRST_SECONDS = 1.0
"""Work that is over by then needs no progress."""

EACH_SECONDS = 0.2
"""Between two versions of the line on a terminal."""

LOG_SECONDS = 60.0
"""Between two lines of the log."""

_LONGEST = 40
"""Letters of what is being worked on."""

_CLEAR = "\r\x1b[2K"
"""To the beginning of the line, which is empty then."""

_log = logging.getLogger(__name__)

_current: list[Meter] = []


class Meter:
    """What of some work is done. All methods belong to one thread at a time."""

    def __init__(
        self,
        title: str,
        *,
        total: float | None = None,
        unit: str = "messages",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`unit` is what is counted, in the plural; ``octets`` are shown as KB and MB."""
        self.title = title
        self.total = total
        self.unit = unit
        self.done = 0.0
        self.subject = ""
        self._clock = clock
        self._begun = clock()
        self._due = self._begun + FIRST_SECONDS

    def advance(self, count: float = 1) -> None:
        """So much more is done."""
        self.done += count
        self._tick()

    def at(self, subject: object) -> None:
        """This is being worked on now: an owner, a file."""
        self.subject = printable(str(subject))
        self._tick()

    def expect(self, total: float | None) -> None:
        """So much there is, as it turns out."""
        self.total = total

    def _tick(self) -> None:
        now = self._clock()
        if now >= self._due:
            self._due = now + self.interval
            self.show(self.text())

    @property
    def interval(self) -> float:
        """Seconds between two looks."""
        return LOG_SECONDS

    def show(self, text: str) -> None:
        """Say it."""

    def hide(self) -> None:
        """Something else is going to be printed."""

    def close(self) -> None:
        """The work is over, well or not."""

    @property
    def rate(self) -> float:
        """Units a second since the beginning."""
        return self.done / max(self._clock() - self._begun, 0.001)

    def left(self) -> float | None:
        """Seconds that the rest will take at this rate; None where nobody knows."""
        if not self.total or not self.done:
            return None
        return max(0.0, self.total - self.done) / self.rate

    def text(self) -> str:
        """``verifying: 120 of 20,000 owners (0 %), 40/s, 8 min left: alice``"""
        done = amount(self.done, self.unit)
        parts = [f"{done} of {amount(self.total, self.unit)}" if self.total else done]
        if self.unit != "octets":
            parts[0] += f" {self.unit}"
        parts.append(f"{amount(self.rate, self.unit)}/s")
        if self.total:
            parts[0] += f" ({min(100, int(100 * self.done / self.total))} %)"
        left = self.left()
        if left is not None:
            parts.append(f"{duration(left)} left")
        subject = self.subject if len(self.subject) <= _LONGEST else f"{self.subject[: _LONGEST - 1]}…"
        return f"{self.title}: {', '.join(parts)}{f': {subject}' if subject else ''}"


class _Logged(Meter):
    """Says it in the log."""

    def __init__(self, title: str, say: Callable[[str], object], **keywords: Any) -> None:
        super().__init__(title, **keywords)
        self._say = say
        self._due = self._begun + LOG_SECONDS

    def show(self, text: str) -> None:
        self._say(text)


class _Shown(Meter):
    """Shows it on a terminal, in one line that is gone in the end."""

    def __init__(self, title: str, stream: TextIO, **keywords: Any) -> None:
        super().__init__(title, **keywords)
        self._stream = stream
        self._is_shown = False

    @property
    def interval(self) -> float:
        return EACH_SECONDS

    def show(self, text: str) -> None:
        width = max(20, shutil.get_terminal_size().columns - 1)
        fitting = text if len(text) <= width else f"{text[: width - 1]}…"
        self._write(f"{_CLEAR}{fitting}")
        self._is_shown = True

    def hide(self) -> None:
        if self._is_shown:
            self._write(_CLEAR)
            self._is_shown = False

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except UnicodeEncodeError:
            self._stream.write(text.encode("ascii", "replace").decode())
            self._stream.flush()

    def close(self) -> None:
        self.hide()


@contextlib.contextmanager
def progress(
    title: str,
    *,
    stream: TextIO | None,
    log: Callable[[str], object] = _log.info,
    total: float | None = None,
    unit: str = "messages",
    silent: bool = False,
) -> Iterator[Meter]:
    """A meter for the time of the work. `stream`: where a terminal may be; `log`: who gets a line a minute
    where there is none; `silent`: nothing is said on a terminal."""
    keywords: dict[str, Any] = {"total": total, "unit": unit}
    made: Meter
    if stream is not None and stream.isatty():
        made = Meter(title, **keywords) if silent else _Shown(title, stream, **keywords)
    else:
        made = _Logged(title, log, **keywords)
    _current.append(made)
    try:
        yield made
    finally:
        _current.remove(made)
        made.close()


def minutely(
    title: str, log: Callable[[str], object], *, total: float | None = None, unit: str = "messages"
) -> Meter:
    """A meter of a daemon, whose work ends by itself: a line of the log a minute."""
    return _Logged(title, log, total=total, unit=unit)


def make_way() -> None:
    """Something is going to be printed: the line on the terminal gives way until it is due again."""
    for meter in _current:
        meter.hide()


def amount(count: float | None, unit: str) -> str:
    """``1,234``, or ``12.5 MB`` of octets."""
    if count is None:
        return "?"
    if unit != "octets":
        return f"{count:,.0f}" if count >= 10 or count == int(count) else f"{count:.1f}"
    for name in ("octets", "KB", "MB", "GB"):
        if count < 1000 or name == "GB":
            return f"{count:.0f} {name}" if name == "octets" else f"{count:.1f} {name}"
        count /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> duration(3), duration(90), duration(7 * 3600 + 600), duration(3 * 86400)
    ('3 s', '90 s', '7 h 10 min', '3 days')
    """
    if seconds < 120:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 2 * 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{round(minutes / 1440)} days"
