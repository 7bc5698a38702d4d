"""How far behind a channel was, as a small drawing: SVG within the page, styled by its style sheet.

Bars of a day, five minutes each. The height is the square root of the seconds: three seconds are seen beside
an hour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from twisted.web.template import Tag, tags

from cyrus_sync.common.judgement import span
from cyrus_sync.web.facts import THRESHOLDS

WIDTH, HEIGHT = 576, 96
_LEAST_TOP = 60
"""Seconds at the top of a plot in which nothing is higher."""


def plot(lags: Sequence[int | None], name: str) -> Tag:
    """`lags` in seconds, the oldest first, None where nobody looked. `name` is what is plotted."""
    known = [lag for lag in lags if lag is not None]
    top = max([_LEAST_TOP, *known])
    drawing = _svg("svg", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", class_="plot")
    drawing.attributes["preserveAspectRatio"] = "none"
    drawing(_svg("title")(_in_words(known, name)))
    for limit, level in ((THRESHOLDS.warning, "warning"), (THRESHOLDS.critical, "critical")):
        if limit <= top:
            y = f"{_y(limit, top):.1f}"
            drawing(_svg("line", x1="0", x2=str(WIDTH), y1=y, y2=y, class_=f"limit {level}"))
    for level, wanted in _LEVELS.items():
        path = "".join(_bars(lags, top, wanted))
        if path:
            drawing(_svg("path", d=path, class_=f"bar {level}"))
    return tags.figure(
        drawing,
        tags.figcaption(
            tags.span("24 hours ago"),
            tags.span(f"at most {span(max(known))} behind" if known else "nobody has looked yet"),
            tags.span("now"),
        ),
        class_="history",
    )


_LEVELS: dict[str, Callable[[int], bool]] = {
    "ok": lambda lag: lag < THRESHOLDS.warning,
    "warning": lambda lag: THRESHOLDS.warning <= lag < THRESHOLDS.critical,
    "critical": lambda lag: lag >= THRESHOLDS.critical,
}


def _svg(name: str, **attributes: str) -> Tag:
    """An element of SVG. (`tags` knows those of HTML.)"""
    return Tag(name, {key.rstrip("_"): value for key, value in attributes.items()})


def _in_words(known: Sequence[int], name: str) -> str:
    if not known:
        return f"{name}: nothing is known of the last day"
    return f"{name}: at most {span(max(known))} behind within the last day, {span(known[-1])} now"


def _y(seconds: float, top: float) -> float:
    return HEIGHT - (HEIGHT - 4) * math.sqrt(seconds / top)


def _bars(lags: Sequence[int | None], top: float, wanted: Callable[[int], bool]) -> Iterator[str]:
    """The bars of one level as one path. Where all is well there is a line at the foot."""
    each = WIDTH / len(lags)
    for number, lag in enumerate(lags):
        if lag is not None and wanted(lag):
            height = max(2.0, HEIGHT - _y(lag, top))
            yield f"M{number * each:.1f} {HEIGHT}v-{height:.1f}h{each:.2f}v{height:.1f}z"
