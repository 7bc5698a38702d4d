"""Shipping: files with orders, store and forward, between hosts that share a key. Knows nothing of mail.

`mkorder` (`cyrus_sync.shipping.mkorder`) writes orders, `shipping_server` (`cyrus_sync.shipping.cli`)
carries them out and receives. For other packages: `Site`, `new_order` and `place_order`, `deliver`, `poll`.
"""

from cyrus_sync.shipping.errors import ShippingError
from cyrus_sync.shipping.order import Order
from cyrus_sync.shipping.placing import new_order, place_order
from cyrus_sync.shipping.run import deliver, poll
from cyrus_sync.shipping.site import Site

__all__ = ["Order", "ShippingError", "Site", "deliver", "new_order", "place_order", "poll"]
