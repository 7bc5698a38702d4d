"""`Sheet`: the figures of one moment, as Prometheus wants them.

Names, help texts and labels follow its conventions: base units, ``_total`` for what only grows. A family has
the same labels each time. Making one loads ``prometheus_client``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cyrus_sync.common import __version__
from cyrus_sync.common.metrics.tallies import Histogram

if TYPE_CHECKING:
    from prometheus_client import Metric

PREFIX = "cyrus_sync_"


class Sheet:
    """Figures, family by family. `labels` are those that all of them have (``channel="north"``).

    A value of None is not known, and left out. `add_*` may be called from one thread at a time.
    """

    def __init__(self, program: str, **labels: str) -> None:
        self.program = program
        self._labels = labels
        self._families: dict[str, Any] = {}
        self.gauge("build_info", "Which program this is.", 1, program=program, version=__version__)

    def gauge(self, name: str, text: str, value: float | None, **labels: str) -> None:
        """What goes up and down. `name` without the prefix, in base units; `text` is a sentence."""
        if value is not None:
            from prometheus_client.core import GaugeMetricFamily

            self._family(GaugeMetricFamily, name, text, labels).add_metric(self._values(labels), value)

    def counter(self, name: str, text: str, value: float | None, **labels: str) -> None:
        """What only grows; `name` ends in ``_total``."""
        if value is not None:
            from prometheus_client.core import CounterMetricFamily

            self._family(CounterMetricFamily, name, text, labels).add_metric(self._values(labels), value)

    def histogram(self, name: str, text: str, tally: Histogram, **labels: str) -> None:
        """How values are spread."""
        from prometheus_client.core import HistogramMetricFamily

        buckets = [("+Inf" if math.isinf(bound) else str(bound), count) for bound, count in tally.cumulated()]
        family = self._family(HistogramMetricFamily, name, text, labels)
        family.add_metric(self._values(labels), buckets=buckets, sum_value=tally.total)

    def _family(self, kind: Any, name: str, text: str, labels: dict[str, str]) -> Any:
        if name not in self._families:
            self._families[name] = kind(PREFIX + name, text, labels=[*self._labels, *labels])
        return self._families[name]

    def _values(self, labels: dict[str, str]) -> list[str]:
        return [*self._labels.values(), *labels.values()]

    def collect(self) -> Iterable[Metric]:
        """All families: what an encoder of ``prometheus_client`` asks for."""
        return list(self._families.values())


def plain_text(sheet: Sheet) -> bytes:
    """The text format, as node_exporter reads it from files."""
    from prometheus_client.exposition import generate_latest

    return bytes(generate_latest(sheet))


def encoded(sheet: Sheet, accept: str) -> tuple[bytes, str]:
    """The text in the form that an Accept header asks for, and the type of that; what is known of the process
    goes with it."""
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.process_collector import ProcessCollector

    encode, kind = choose_encoder(accept)
    process = ProcessCollector(registry=None)
    return bytes(encode(_Together(sheet, process))), kind


class _Together:
    """What several collectors have."""

    def __init__(self, *collectors: Any) -> None:
        self._collectors = collectors

    def collect(self) -> Iterable[Metric]:
        for collector in self._collectors:
            yield from collector.collect()
