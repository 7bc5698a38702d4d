"""`Writer`: all verbs on one owner, gathered from the modules that hold them."""

from __future__ import annotations

from cyrus_sync.common.stores.native.impose import Imposing
from cyrus_sync.common.stores.native.upkeep import Upkeep


class Writer(Imposing, Upkeep):
    """The exclusive hold on one owner (`common.stores.mailstore.MailWriter`)."""
