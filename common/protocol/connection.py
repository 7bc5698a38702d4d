"""Both ends of a csync connection, without I/O: bytes in, events out, no sockets and no clock.

>>> server = ServerConnection()
>>> server.authenticated = True
>>> server.receive_data(b"GET USER alice\\r\\nNO")
>>> server.next_event()
DlistCommand(verb='GET', name='USER', local=False, value=b'alice')
>>> server.next_event()
NeedData()
>>> server.receive_data(b"OP\\r\\n")
>>> server.next_event()
SessionCommand(verb='NOOP', arguments=b'')
"""

from __future__ import annotations

from cyrus_sync.common.protocol.connection_client import CLIENT_LIMITS, ClientConnection
from cyrus_sync.common.protocol.connection_server import LOGIN_FIRST, ServerConnection
from cyrus_sync.common.protocol.dlist import DEFAULT_LIMITS, Limits

__all__ = [
    "CLIENT_LIMITS",
    "DEFAULT_LIMITS",
    "LOGIN_FIRST",
    "ClientConnection",
    "Limits",
    "ServerConnection",
]
