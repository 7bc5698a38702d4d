"""The words in which a SASL exchange ends, as Cyrus and libsasl say them; without CRLF.

Clients show these to people and log scanners look for them, so they are not ours to improve.
"""

from __future__ import annotations

CANCELLED = b"BAD Client canceled authentication"
AUTHENTICATION_FAILURE = b"NO authentication failure"
AUTHORIZATION_FAILURE = b"NO authorization failure"
NO_MECHANISM = b"NO no mechanism available"
TOO_WEAK = b"NO mechanism too weak for this user"
NEEDS_ENCRYPTION = b"NO encryption needed to use mechanism"
BAD_PROTOCOL = b"NO bad protocol / cancel"
LINE_TOO_LONG = b"NO Error reading client response: line too long"
TEMPORARY_FAILURE = b"NO generic failure"


def success(ssf: int, tls: bool) -> bytes:
    """The OK of a login. The words in parentheses name the layer; none of our mechanisms adds one."""
    return b"OK Success (tls protection)" if tls and ssf else b"OK Success (no protection)"
