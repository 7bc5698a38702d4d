"""Shipping: files with orders, store and forward, between hosts that share a key. Knows nothing of mail.

`mkorder` (`multisite.shipping.mkorder`) writes orders, `shipping_server` (`multisite.shipping.cli`)
carries them out and receives. For other packages: `Site`, `new_order` and `place_order`, `deliver`, `poll`.
"""

from cyrus_sync.multisite.shipping.errors import ShippingError
from cyrus_sync.multisite.shipping.order import Order
from cyrus_sync.multisite.shipping.placing import new_order, place_order
from cyrus_sync.multisite.shipping.run import deliver, poll
from cyrus_sync.multisite.shipping.site import Site

__all__ = ["Order", "ShippingError", "Site", "deliver", "new_order", "place_order", "poll"]
