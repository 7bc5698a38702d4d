"""Who is at the other end of a connection, for people."""

from __future__ import annotations

from typing import Any

UNIX_SOCKET = "unix socket"


def peer_name(address: Any) -> str:
    """``192.0.2.1:40312``, ``[2001:db8::1]:40312`` or ``unix socket``. `address`: what Twisted calls one, or
    None."""
    host = getattr(address, "host", None)
    if host is None:
        return UNIX_SOCKET
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
