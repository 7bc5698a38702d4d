"""Options that say how packets leave: into a file (``-out``), or into a bay (``-ship``, ``-fship``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from cyrus_sync.common.dates import parse_datetime
from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.one_dash import Option, Parsed
from cyrus_sync.multisite.commands.context import Context
from cyrus_sync.multisite.commands.into_bay import IntoBay
from cyrus_sync.multisite.commands.into_file import IntoFile
from cyrus_sync.multisite.commands.sizes import parse_count, parse_size
from cyrus_sync.multisite.cutting import Exported, ExportOptions, Place
from cyrus_sync.multisite.member import Member
from cyrus_sync.shipping.conf import check_address
from cyrus_sync.shipping.mkorder import COMMENT_OPTIONS, read_comment

SENDING_OPTIONS = (
    Option("max/size", "N[k|m|g]", "cut into packets that are no larger than this; a bare number is KB"),
    *COMMENT_OPTIONS,
    Option("sh/ip", "", "put packets and orders into a storage bay, for shipping_server -poll"),
    Option("fsh/ip", "", "the same, and send them at once"),
    Option("scl/ass", "class", "the storage class; without it, that of the replica"),
    Option("pex/pire", "date-time", "when to give up and return the packet"),
    Option("not/ify", "address", "whom to tell if it cannot be delivered (repeatable)", repeatable=True),
    Option("out", "path", "write to this file, and to path_2, path_3 …; nothing is sent"),
)


class Outlet(Protocol):
    """The way that the packets of one command go."""

    def check(self, name: str, host: str) -> None:
        """Raises `MultisiteError` if packets for the replica `name` cannot go this way."""

    def resume(self, member: Member) -> None:
        """Finish what an earlier command was kept from."""

    def send(self, prefix: str, target: tuple[str, str], write: Callable[[Place], Exported]) -> Exported:
        """Have `write` write the packets, named `prefix` and so on, for `target` (host and storage class),
        and print what was written."""

    def deliver(self) -> bool:
        """Send what is to be sent at once; to be called when this replica is not locked any more."""


def check_sending(options: Parsed) -> None:
    """Raises `UsageError` for options that do not go together or have bad values."""
    ways = [name for name in ("ship", "fship", "out") if name in options]
    if len(ways) != 1:
        raise UsageError("one of -ship, -fship and -out is needed" + (", and only one" if ways else ""))
    for name in ("sclass", "pexpire", "notify"):
        if name in options and "out" in options:
            raise UsageError(f"-{name} goes with -ship or -fship")
    if "limit" in options and "maxsize" not in options:
        raise UsageError("-limit needs -maxsize")
    check_comments(options)
    try:
        for address in options.texts("notify"):
            check_address(address)
        parse_datetime(options.text("pexpire") or "now")
    except ValueError as error:
        raise UsageError(str(error)) from None
    export_options(options)


def check_comments(options: Parsed) -> None:
    """Raises `UsageError` for more than one comment option."""
    given = [option.name for option in COMMENT_OPTIONS if option.name in options]
    if len(given) > 1:
        raise UsageError(f"-{given[0]} and -{given[1]} exclude one another")


def export_options(options: Parsed, comment: str = "", most: int = 0) -> ExportOptions:
    """What the command line asks for; `most` octets in a packet where it does not say."""
    size, limit = options.text("maxsize"), options.text("limit")
    return ExportOptions(
        parse_size(size, "-maxsize") if size is not None else most,
        parse_count(limit, "-limit") if limit is not None else 0,
        comment,
    )


def outlet_of(context: Context, headline: str) -> tuple[Outlet, ExportOptions]:
    """The way that the command line asks for, and what to write. `headline` stands before the path of each
    packet in what is printed."""
    comments = read_comment(context.options)
    comment = "\n".join(comments)
    if "out" in context.options:
        return IntoFile(context, headline), export_options(context.options, comment)
    most = context.site.conf.max_data_size or 0
    into = IntoBay(context, headline, comments)
    return into, replace(export_options(context.options, comment, most), adopt=into.adopt)
