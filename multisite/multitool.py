"""multitool(8): ``multitool <command> …``, and ``syncreplica …`` which is ``multitool syncreplica …``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyrus_sync.common.commands import Misuse, run_command, version_text
from cyrus_sync.common.errors import EX_OK, UsageError
from cyrus_sync.common.one_dash import HELP, VERSION, wants
from cyrus_sync.multisite.commands import COMMANDS
from cyrus_sync.multisite.commands.context import EXIT_STATUS
from cyrus_sync.multisite.commands.running import run

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
    return run_command("multitool", _run, argv)


def _run(words: list[str]) -> int:
    if not words:
        raise Misuse("a command is needed", "multitool", usage())
    name, *rest = words
    if name == "mkorder":
        from cyrus_sync.shipping import mkorder

        return mkorder.main(rest)
    if name == "shipping_server":
        from cyrus_sync.shipping import cli

        return cli.main(rest)
    if name in COMMANDS:
        return _subcommand(name, rest)
    if wants(name, HELP):
        print(usage())
        return EX_OK
    if wants(name, VERSION):
        print(version_text("multitool"))
        return EX_OK
    raise UsageError(f"there is no command {name!r} (multitool -help)")


def syncreplica(argv: Sequence[str] | None = None) -> int:
    """The console script syncreplica; the exit status."""
    return _subcommand("syncreplica", argv)


def sync_export_list(argv: Sequence[str] | None = None) -> int:
    """The console script sync_export_list; the exit status."""
    return _subcommand("sync_export_list", argv)


def sync_receive(argv: Sequence[str] | None = None) -> int:
    """The console script sync_receive; the exit status."""
    return _subcommand("sync_receive", argv)


def _subcommand(name: str, argv: Sequence[str] | None) -> int:
    """What a subcommand says, it says in its own name."""
    return run_command(name, lambda words: run(name, words), argv)


if __name__ == "__main__":
    sys.exit(main())
