"""`Writer`: all verbs on one owner, gathered from the modules that hold them."""

from __future__ import annotations

from common.stores.native.impose import Imposing
from common.stores.native.upkeep import Upkeep


class Writer(Imposing, Upkeep):
    """The exclusive hold on one owner (`common.stores.mailstore.MailWriter`)."""
