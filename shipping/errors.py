"""What can go wrong between an order and its delivery. Texts say which object and what happens next."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_FAILURE, ConfigError, CyrusSyncError


class ShippingError(CyrusSyncError):
    """An order could not be carried out; it and its data stay where they are."""

    exit_status = EX_FAILURE
    text = "not shipped"


class ShippingConfError(ConfigError):
    """shipping.conf makes no sense. The message begins ``file:line: ``."""


class BadOrder(ShippingError):
    """A file that is not a valid shipping order."""

    text = "not a shipping order"


class BadFileName(ShippingError):
    """A name that a file in a bay cannot have."""

    text = "not a file name"


class Broken(OSError):
    """The connection has ended, or there was nothing to hear for too long."""


class CannotReach(ShippingError):
    """The next host did not answer."""

    text = "host does not answer"


class Refused(ShippingError):
    """The next host answered no, or the two could not prove who they are."""

    text = "the receiver refused"
