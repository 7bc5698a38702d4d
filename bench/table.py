"""The figures as a table for people, or as Markdown for the README."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from .workloads import Row

HEADINGS = (
    "ground", "line", "ms", "pair", "workload", "msgs", "MB", "s", "s connected", "msgs/s", "MB/s",
    "server CPU s", "client CPU s", "server µs/msg", "client µs/msg",
    "server RSS MB", "client RSS MB", "note",
)  # fmt: skip

REFERENCE = "real-real"


def cells(row: Row) -> list[str]:
    """One row's text, in the order of `HEADINGS`."""
    bulk = row.messages > 100

    def per_message(cpu: float) -> str:
        return f"{cpu / row.messages * 1e6:.0f}" if bulk else ""

    return [
        row.ground,
        row.line,
        f"{row.delay * 1000:.0f}",
        row.pair,
        row.workload,
        f"{row.messages:,}" if row.messages else "",
        f"{row.octets / 1e6:.0f}" if row.octets else "",
        f"{row.seconds:.3f}",
        f"{row.connected:.3f}",
        f"{row.rate:,.0f}" if bulk else "",
        f"{row.octets / 1e6 / row.connected:.1f}" if row.octets and row.connected else "",
        f"{row.server_cpu:.2f}",
        f"{row.client_cpu:.2f}",
        per_message(row.server_cpu),
        per_message(row.client_cpu),
        f"{row.server_rss / 1e6:.0f}",
        f"{row.client_rss / 1e6:.0f}",
        row.note,
    ]


def show(rows: Sequence[Row], console: Console) -> None:
    table = Table(box=None, header_style="bold")
    for n, heading in enumerate(HEADINGS):
        left = n < 5 or heading == "note"
        table.add_column(heading, justify="left" if left else "right", overflow="fold")
    last: tuple[object, ...] | None = None
    for row in rows:
        key = (row.ground, row.line, row.delay, row.workload)
        table.add_row(*cells(row), end_section=last is not None and key != last)
        last = key
    console.print(table)


def markdown(rows: Iterable[Row]) -> str:
    """The same as a Markdown table."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
    return "\n".join(lines)


def ratios(rows: Sequence[Row]) -> str:
    """How many times as fast each pair is as real-real on the same ground and line, as Markdown.

    A workload's time is that of its connection; the real pair's stands in seconds, the others as ratios.
    """
    pairs = list(dict.fromkeys(row.pair for row in rows))
    if REFERENCE not in pairs:
        return ""
    took: dict[tuple[str, str, float, str], dict[str, float]] = {}
    for row in rows:
        took.setdefault((row.ground, row.line, row.delay, row.workload), {})[row.pair] = row.connected
    others = [pair for pair in pairs if pair != REFERENCE]
    headings = ["ground", "line", "ms", "workload", f"{REFERENCE} s", *others]
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    for (ground, line, delay, workload), times in took.items():
        if not times.get(REFERENCE):
            continue
        usual = times[REFERENCE]
        figures = [f"{usual / times[pair]:.1f} ×" if times.get(pair) else "" for pair in others]
        words = [ground, line, f"{delay * 1000:.0f}", workload, f"{usual:.3f}", *figures]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)
