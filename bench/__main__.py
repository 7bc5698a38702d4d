"""``python -m bench``: measure replication between any two ends, and print a table.

Examples::

    python -m bench                                      # ours on both ends, in memory
    python -m bench --ground ext4 --pairs ours-ours real-real
    python -m bench --scale 0.01 --workloads initial     # to see that it works
"""

from __future__ import annotations

import argparse
import itertools
import sys

from rich.console import Console

from tests.interop.releases import HOST

from .ends import end
from .ground import NAMES, ground
from .table import markdown, ratios, show
from .workloads import USUAL, WORKLOADS, Pair, Row

PAIRS = ("ours-ours", "real-real", "real-ours", "ours-real", "spool-ours", "spool-real")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--ground", nargs="+", default=["tmpfs"], metavar="G", help=f"{NAMES}; default tmpfs")
    parser.add_argument("--pairs", nargs="+", default=["ours-ours"], choices=PAIRS, metavar="MASTER-REPLICA",
                        help=f"of {', '.join(PAIRS)}; default ours-ours")  # fmt: skip
    parser.add_argument("--line", nargs="+", default=["clear"], choices=["clear", "deflate"],
                        help="compressed or not; default clear")  # fmt: skip
    parser.add_argument("--delay", nargs="+", type=float, default=[0.0], metavar="MS",
                        help="milliseconds from here to there and back; default 0")  # fmt: skip
    parser.add_argument("--workloads", nargs="+", default=[*USUAL], choices=[*WORKLOADS], metavar="W",
                        help=f"of {', '.join(WORKLOADS)}; all but the last if none is named")  # fmt: skip
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the full size, e.g. 0.01")
    parser.add_argument("--markdown", action="store_true",
                        help="print the tables as Markdown, with ratios to real-real")  # fmt: skip
    return parser.parse_args(argv)


def measure(where: str, pair: str, line: str, delay: float, options: argparse.Namespace) -> list[Row]:
    """All rows of one pair on one ground, over a line with `delay` seconds there and back; both ends are
    new and gone afterwards."""
    rows: list[Row] = []
    master_kind, _, replica_kind = pair.partition("-")
    with (
        ground(where) as work,
        end(master_kind, "master", work) as master,
        end(replica_kind, "replica", work) as replica,
    ):
        both = Pair(master, replica, work, line == "deflate", options.scale, delay / 2)
        for workload in options.workloads:
            for row in WORKLOADS[workload](both):
                row.pair, row.ground, row.line, row.delay = pair, where, line, delay
                way = f"{where} {pair} {line} {delay * 1000:.0f} ms"
                print(f"{way}: {row.workload}: {row.connected:.3f} s", file=sys.stderr)
                rows.append(row)
    return rows


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0; 1 a measurement failed; 77 a real Cyrus is wanted and there is none."""
    options = arguments(argv)
    reason = HOST.why_unavailable()
    if reason and any("real" in pair or "spool" in pair for pair in options.pairs):
        print(f"bench: no real Cyrus: {reason}", file=sys.stderr)
        return 77
    rows: list[Row] = []
    ways = itertools.product(options.ground, options.delay, options.line, options.pairs)
    for where, delay, line, pair in ways:
        rows += measure(where, pair, line, delay / 1000, options)
    if options.markdown:
        print(markdown(rows))
        print()
        print(ratios(rows))
    else:
        wide = None if sys.stdout.isatty() else 240
        show(rows, Console(width=wide))
    return 0


if __name__ == "__main__":
    sys.exit(main())
