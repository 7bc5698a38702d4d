"""Finding packets: in ``incoming`` of the storage bays, in directories, as files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.files import TEMPORARY
from cyrus_sync.common.one_dash import Parsed
from cyrus_sync.multisite.candidates import packets_in
from cyrus_sync.multisite.commands.context import Context
from cyrus_sync.shipping.bays import Bay
from cyrus_sync.shipping.conf import DEFAULT_CLASS
from cyrus_sync.shipping.site import Site


def storage_bays(site: Site, storage_class: str | None = None) -> list[Bay]:
    """The bays for traffic to its destination, of one class or of all, each once."""
    classes = [storage_class] if storage_class else [DEFAULT_CLASS, *site.conf.bays]
    return list(dict.fromkeys(bay for name in classes for bay in site.bays(name)))


def check_sources(options: Parsed, wanted: str) -> None:
    """Either ``-receive``, with ``-sclass`` or without, or operands; `wanted` says what those are. Raises
    `UsageError`."""
    if ("receive" in options) == bool(options.operands):
        raise UsageError(f"either -receive or {wanted} are needed")
    if "sclass" in options and "receive" not in options:
        raise UsageError("-sclass goes with -receive")


def waiting(context: Context) -> list[Path]:
    """The packets that the options of an import mean."""
    options = context.options
    if "receive" in options:
        return waiting_in_bays(context.site, options.text("sclass"))
    return waiting_in(Path(operand).absolute() for operand in options.operands)


def waiting_in_bays(site: Site, storage_class: str | None = None) -> list[Path]:
    """The packets that have arrived; other files in the bays are left alone."""
    return waiting_in(bay.incoming for bay in storage_bays(site, storage_class) if bay.incoming.is_dir())


def waiting_in(paths: Iterable[Path]) -> list[Path]:
    """The packets among files and in directories. One that is still being received is none yet."""
    return [path for path in packets_in(paths) if not path.name.startswith(TEMPORARY)]
