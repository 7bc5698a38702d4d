"""Finding packets: in ``incoming`` of the storage bays, in directories, as files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from multisite.importing import packets_in
from multisite.shipping.bays import Bay
from multisite.shipping.conf import DEFAULT_CLASS
from multisite.shipping.files import TEMPORARY
from multisite.shipping.site import Site


def storage_bays(site: Site, storage_class: str | None = None) -> list[Bay]:
    """The bays for traffic to its destination, of one class or of all, each once."""
    classes = [storage_class] if storage_class else [DEFAULT_CLASS, *site.conf.bays]
    return list(dict.fromkeys(bay for name in classes for bay in site.bays(name)))


def waiting_in_bays(site: Site, storage_class: str | None = None) -> list[Path]:
    """The packets that have arrived; other files in the bays are left alone."""
    return waiting_in(bay.incoming for bay in storage_bays(site, storage_class) if bay.incoming.is_dir())


def waiting_in(paths: Iterable[Path]) -> list[Path]:
    """The packets among files and in directories. One that is still being received is none yet."""
    return [path for path in packets_in(paths) if not path.name.startswith(TEMPORARY)]
