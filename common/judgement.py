"""How what a program keeps an eye on is judged: fit for Nagios, and in words."""

from __future__ import annotations

OK, WARNING, CRITICAL, UNKNOWN = range(4)
"""Exit statuses of a Nagios plug-in."""
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def badness(status: int) -> float:
    """By what the worst of several is found: UNKNOWN is worse than OK alone."""
    return 0.5 if status == UNKNOWN else float(status)


def span(seconds: float | None) -> str:
    """A time as people say it: ``42s``, ``7m``, ``3h``, ``12d``; ``-`` for none.

    >>> span(None), span(59.6), span(600), span(5 * 3600), span(3 * 86400)
    ('-', '60s', '10m', '5h', '3d')
    """
    if seconds is None:
        return "-"
    for unit, least in (("d", 2 * 86400), ("h", 2 * 3600), ("m", 120)):
        if seconds >= least:
            return f"{int(seconds / {'d': 86400, 'h': 3600, 'm': 60}[unit])}{unit}"
    return f"{round(seconds)}s"
