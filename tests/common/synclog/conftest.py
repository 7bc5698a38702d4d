from __future__ import annotations

from tests.sync_client.fixtures import pair, replica

__all__ = ["pair", "replica"]
