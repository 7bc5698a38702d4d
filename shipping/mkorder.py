"""mkorder(8): a shipping order for any file, beside it, in a bay, or sent at once."""

from __future__ import annotations

import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from cyrus_sync.common.commands import run_command
from cyrus_sync.common.config import DEFAULT_PATH, Config
from cyrus_sync.common.dates import parse_datetime
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, UsageError
from cyrus_sync.common.files import write_new
from cyrus_sync.common.one_dash import ABOUT_ITSELF, Grammar, Option, Parsed, run_words
from cyrus_sync.shipping.conf import DEFAULT_CLASS, check_address
from cyrus_sync.shipping.errors import BadFileName, ShippingError
from cyrus_sync.shipping.names import check_host, order_name
from cyrus_sync.shipping.order import Order
from cyrus_sync.shipping.placing import measured, new_order, place_copy, write_order
from cyrus_sync.shipping.run import deliver
from cyrus_sync.shipping.site import Site

EXIT_STATUS = """\
exit status:
  0   the order is made (and, with -fship, carried out)
  1   nothing was made; or, with -fship, the order is made and could not be carried out now: it stays
  64  the command line makes no sense
  75  a file or directory cannot be used now
  78  imapd.conf or shipping.conf has a bad value"""

COMMENT_OPTIONS = (
    Option("c/omment", "text", "keep a comment with it"),
    Option("cfi/le", "file", "take the comment from a file"),
    Option("cq/uery", "", "ask for a comment"),
    Option("cqe/ach", "", "the same, there being one order only"),
    Option("nc/omment", "", "no comment (as it is anyway)"),
)

GRAMMAR = Grammar(
    "mkorder",
    [
        Option("dat/a", "path", "the file to ship"),
        Option("scl/ass", "class", "the storage class (-default)"),
        Option("pex/pire", "date-time", "when to give up and return the file"),
        Option("not/ify", "address", "whom to tell if it cannot be delivered (repeatable)", repeatable=True),
        *COMMENT_OPTIONS,
        Option("shi/p", "", "put a copy (-copy) and the order into a storage bay, for shipping_server -poll"),
        Option("fsh/ip", "", "the same, and send it at once"),
        Option("cop/y", "", "ship a copy; the file itself stays as it is"),
        Option("out", "order-path", "write the order to this file"),
        Option("C", "file", f"imapd.conf to read ({DEFAULT_PATH})"),
        *ABOUT_ITSELF,
    ],
    "destination …",
    "Make a shipping order for a file. Without -ship, -fship and -out the order is written beside the file.",
    EXIT_STATUS,
)


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; the exit status."""

    def work(words: list[str]) -> int:
        return run_words("mkorder", GRAMMAR, words, _run)

    return run_command("mkorder", work, argv)


def _run(options: Parsed) -> int:
    _check(options)
    config = Config.load(options.text("C") or DEFAULT_PATH, program="mkorder")
    site = Site.from_config(config, program="mkorder")
    path, order = make_order(site, options)
    print(f'Shipping order "{path}" generated.')
    if "fship" not in options:
        return EX_OK
    print("Attempting to forward/deliver generated packets...")
    if not all(deliver(site, [path])):
        return EX_FAILURE
    print(f"-- Forwarded/delivered packet {order.data_path}")
    return EX_OK


def make_order(site: Site, options: Parsed) -> tuple[Path, Order]:
    """Do what the command line says, short of sending; the order and where it lies."""
    data = Path(options.text("data") or "").absolute()
    order = _order(site, options, data)
    if "ship" in options or ("fship" in options and "copy" in options):
        return place_copy(site, data, order)
    order = measured(order, data)
    out = options.text("out")
    if out is None:
        return write_order(data.with_name(order_name(data.name)), order), order
    path = Path(out).absolute()
    if path.parent.resolve() != data.parent.resolve():
        raise ShippingError(f"{path}: order and data file must be in the same directory, {data.parent}")
    write_new(path, order.text(), 0o600)
    return path, order


def _check(options: Parsed) -> None:
    if "data" not in options:
        raise UsageError("-data is needed: the file to ship")
    if not options.operands:
        raise UsageError("a destination is needed")
    given = [name for name in ("ship", "fship", "out") if name in options]
    if len(given) > 1:
        raise UsageError(f"-{given[0]} and -{given[1]} exclude one another")
    if "ship" in options and "copy" not in options:
        raise UsageError("-ship needs -copy")
    if "copy" in options and "ship" not in options and "fship" not in options:
        raise UsageError("-copy goes with -ship or -fship")
    comments = [option.name for option in COMMENT_OPTIONS if option.name in options]
    if len(comments) > 1:
        raise UsageError(f"-{comments[0]} and -{comments[1]} exclude one another")
    try:
        for host in options.operands:
            check_host(host)
        for address in options.texts("notify"):
            check_address(address)
        parse_datetime(options.text("pexpire") or "now")
    except (BadFileName, ValueError) as error:
        raise UsageError(str(error)) from None


def _order(site: Site, options: Parsed, data: Path) -> Order:
    about = data.stat() if "copy" in options else data.lstat()
    if not stat.S_ISREG(about.st_mode):
        raise ShippingError(f"{data} is not a plain file")
    return new_order(
        site,
        data,
        options.operands,
        storage_class=options.text("sclass") or DEFAULT_CLASS,
        expires=parse_datetime(options.text("pexpire") or "now") if "pexpire" in options else None,
        notify=options.texts("notify"),
        comments=read_comment(options),
    )


def read_comment(options: Parsed) -> tuple[str, ...]:
    """What the comment options say; lines typed in end with a dot alone, or the end of the input."""
    if "comment" in options:
        return options.texts("comment")
    if "cfile" in options:
        return (Path(options.text("cfile") or "").read_text(encoding="utf-8", errors="replace").rstrip("\n"),)
    if "cquery" in options or "cqeach" in options:
        print("Comment (end with a dot on a line of its own):", file=sys.stderr)
        lines: list[str] = []
        for line in sys.stdin:
            if line.rstrip("\n") == ".":
                break
            lines.append(line.rstrip("\n"))
        return ("\n".join(lines),) if lines else ()
    return ()


if __name__ == "__main__":
    sys.exit(main())
