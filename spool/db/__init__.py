"""Cyrus's own databases, for reading: which format a file has, and what is in it.

Cyrus converts a database on demand when another kind is configured for it, so the first octets of a file
decide, not the configuration; that is asked only for files without a mark of their own (flat) and for
what is no file at all (quotalegacy, sql).

Nobody is ever made to wait for us, but for milliseconds: readers look without a lock and look again whether
what they saw still stands; they lock as Cyrus's own readers do only where that failed several times.
Nothing is loaded as a whole: files are mapped.

>>> open_database(Path("mailboxes.db")).get(b"Nuser\\x1fal")      # doctest: +SKIP
b'%(A %(al lrswipkxtecdan) ...'
"""

from __future__ import annotations

from cyrus_sync.spool.db.database import Database, Order, mailbox_order, raw_order
from cyrus_sync.spool.db.mapped import Data
from cyrus_sync.spool.db.opening import Empty, items_of, open_database

__all__ = ["Data", "Database", "Empty", "Order", "items_of", "mailbox_order", "open_database", "raw_order"]
