from __future__ import annotations

from tests.sync_client.engine.conftest import alice, world

__all__ = ["alice", "world"]
