"""Lifelike mail for trying things out: a small bicycle workshop, five users, a few hundred messages.

`fill(store)` puts it into a store. The same seed gives the same messages, octet for octet; nobody in it
exists.
"""

from cyrus_sync.mailstore.sample.fill import Filled, fill
from cyrus_sync.mailstore.sample.message import SampleMessage
from cyrus_sync.mailstore.sample.workshop import USERS, messages

__all__ = ["USERS", "Filled", "SampleMessage", "fill", "messages"]
