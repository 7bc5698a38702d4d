"""multitool(8): ``multitool <command> …``, and ``syncreplica …`` which is ``multitool syncreplica …``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from common.errors import EX_OK, EX_USAGE
from multisite.commands import COMMANDS
from multisite.commands.context import EXIT_STATUS
from multisite.commands.running import run
from multisite.options import DASHES

SHIPPING = {
    "mkorder": "make a shipping order for a file (mkorder(8))",
    "shipping_server": "carry out shipping orders, or receive (shipping_server(8))",
}
"""Commands that have lives of their own."""


def usage() -> str:
    """What ``multitool -help`` prints."""
    summaries = {name: entry.summary for name, entry in COMMANDS.items()} | SHIPPING
    width = max(map(len, summaries))
    lines = [f"  {name:{width}}  {summary}" for name, summary in summaries.items()]
    return "\n".join(
        [
            "usage: multitool command [argument …]",
            "",
            "Replicas of a mail store that are kept in step by packets. multitool command -help says more.",
            "",
            *lines,
            "",
            EXIT_STATUS,
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The console script multitool; the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        print(usage(), file=sys.stderr)
        return EX_USAGE
    name, *rest = words
    if name == "mkorder":
        from multisite.shipping import mkorder

        return mkorder.main(rest)
    if name == "shipping_server":
        from multisite.shipping import cli

        return cli.main(rest)
    if name in COMMANDS:
        return run(name, rest)
    if name[0:1] in DASHES and "help".startswith(name.lstrip(DASHES) or "-"):
        print(usage())
        return EX_OK
    print(f"multitool: there is no command {name!r} (multitool -help)", file=sys.stderr)
    return EX_USAGE


def syncreplica(argv: Sequence[str] | None = None) -> int:
    """The console script syncreplica; the exit status."""
    return run("syncreplica", sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
