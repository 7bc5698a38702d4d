"""shipping_server(8): carry out shipping orders, or be the side that receives. Silent when all went well."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import sdnotify

from cyrus_sync.common.commands import run_command
from cyrus_sync.common.config import DEFAULT_PATH, Config
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, UsageError
from cyrus_sync.common.one_dash import ABOUT_ITSELF, Grammar, Option, Parsed, run_words
from cyrus_sync.shipping.key import make_key
from cyrus_sync.shipping.run import deliver, poll, sources
from cyrus_sync.shipping.site import Site

EXIT_STATUS = """\
exit status:
  0   everything that could be done is done (also: there was nothing to do)
  1   an order was not carried out, or not for every destination; it stays, the reason was printed
  64  the command line makes no sense
  75  a file or directory cannot be used now
  78  imapd.conf or shipping.conf has a bad value, or an address cannot be listened on"""

GRAMMAR = Grammar(
    "shipping_server",
    [
        Option("scl/ass", "class", "only orders of this storage class"),
        Option("pol/l", "", "the orders in the storage bays and return bays"),
        Option("rec/eiver", "", "run in the foreground and receive what other hosts send"),
        Option("makek/ey", "", "make the family key; copy the file to the other hosts"),
        Option("C", "file", f"imapd.conf to read ({DEFAULT_PATH})"),
        *ABOUT_ITSELF,
    ],
    "[order-file | directory …]",
    "Carry out shipping orders: those in the bays (-poll), or the files and directories that are named.",
    EXIT_STATUS,
)


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; the exit status."""

    def work(words: list[str]) -> int:
        return run_words("shipping_server", GRAMMAR, words, _run)

    return run_command("shipping_server", work, argv)


def _check(options: Parsed) -> None:
    modes = [name for name in ("poll", "receiver", "makekey") if name in options]
    if len(modes) + bool(options.operands) != 1:
        raise UsageError("either -poll or the orders to work on are needed (or -receiver, or -makekey)")
    if "sclass" in options and modes not in (["poll"], []):
        raise UsageError(f"-sclass says nothing with -{modes[0]}")


def _run(options: Parsed) -> int:
    _check(options)
    config = Config.load(options.text("C") or DEFAULT_PATH, program="shipping_server")
    site = Site.from_config(config)
    storage_class = options.text("sclass")
    if "makekey" in options:
        make_key(site.key_file)
        print(f"made {site.key_file}; every host of the family needs this same file, and nobody else")
    elif "receiver" in options:
        from cyrus_sync.shipping.service import serve  # what only the receiving side needs

        os.umask(0o077)
        serve(site, _ready)
    elif "poll" in options:
        return EX_OK if poll(site, storage_class) else EX_FAILURE
    else:
        found = sources([Path(operand) for operand in options.operands])
        return EX_OK if all(deliver(site, found, storage_class)) else EX_FAILURE
    return EX_OK


def _ready() -> None:
    sdnotify.SystemdNotifier().notify("READY=1\nSTATUS=receiving")


if __name__ == "__main__":
    sys.exit(main())
