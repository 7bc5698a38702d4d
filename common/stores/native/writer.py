"""`Writer`: all verbs on one owner, gathered from the modules that hold them."""

from __future__ import annotations

from common.stores.native.apply import ApplyMailbox
from common.stores.native.settle import Settling


class Writer(ApplyMailbox, Settling):
    """The exclusive hold on one owner (`common.stores.mailstore.MailWriter`)."""
