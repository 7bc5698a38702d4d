"""Whose mail `ls`, `dump` and `verify` look at: our store's, or that in the spool of a real Cyrus beside
it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from cyrus_sync.common.master import MasterReader, Unreadable
from cyrus_sync.common.model import MessageBody, MessageSource, SieveScript
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import QuotaUsage

NATIVE, CYRUS = "native", "cyrus"


class SourceReader(MasterReader, Protocol):
    """One owner, to be looked at."""

    def usage(self) -> list[QuotaUsage]: ...

    def sieve_scripts(self) -> list[SieveScript]: ...

    def bodies(
        self,
        guids: Sequence[bytes],
        partition: str = "",
        encoding: str = "identity",
        *,
        unreadable: Unreadable | None = None,
    ) -> MessageSource: ...

    def body(self, guid: bytes) -> MessageBody | None: ...


class Source(Protocol):
    """All owners. Every `MailStore` is one."""

    def owners(self) -> Iterator[Owner]: ...

    def exists(self, owner: Owner) -> bool: ...

    def read(self, owner: Owner) -> AbstractContextManager[SourceReader]: ...


def add_source(parser: argparse.ArgumentParser) -> None:
    """``--source``."""
    parser.add_argument(
        "--source",
        choices=(NATIVE, CYRUS),
        default=NATIVE,
        help="cyrus: the spool of a real Cyrus with this imapd.conf; default: native, our store",
    )
