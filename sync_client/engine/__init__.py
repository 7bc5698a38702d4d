"""The engine: what sync_client does once it is connected, whatever it is connected to.

It compares a `common.master.Master` with what a `common.replica.Replica` reports and sends what differs.
The decisions (`compare`, `renames`, `batches`, `conflict`, the ``…_changes`` functions) are pure; the
rest carries them out.
"""

from cyrus_sync.sync_client.engine.engine import Engine
from cyrus_sync.sync_client.engine.errors import EngineFault, FoldersFailed, ItemsFailed, UsersFailed
from cyrus_sync.sync_client.engine.options import Options

__all__ = ["Engine", "EngineFault", "FoldersFailed", "ItemsFailed", "Options", "UsersFailed"]
