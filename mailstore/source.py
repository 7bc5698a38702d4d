"""Whose mail `ls`, `dump` and `verify` look at: our store's, or that in the spool of a real Cyrus beside
it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import OwnerReader

NATIVE, CYRUS = "native", "cyrus"


class Source(Protocol):
    """All owners. Every `MailStore` is one."""

    def owners(self) -> Iterator[Owner]: ...

    def exists(self, owner: Owner) -> bool: ...

    def read(self, owner: Owner) -> AbstractContextManager[OwnerReader]: ...


def add_as_of(parser: argparse.ArgumentParser) -> None:
    """``--as-of``; what it names is `StoreContext.as_of`."""
    parser.add_argument(
        "--as-of",
        metavar="TIME",
        help="as it was at the end of that second (of that day, if it is a day alone)",
    )


def add_source(parser: argparse.ArgumentParser) -> None:
    """``--source``."""
    parser.add_argument(
        "--source",
        choices=(NATIVE, CYRUS),
        default=NATIVE,
        help="cyrus: the spool of a real Cyrus with this imapd.conf; default: native, our store",
    )
