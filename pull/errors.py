"""What goes wrong at the server that is pulled from. `CannotConnect` and `AuthenticationFailed` come from
here, too."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_TEMPFAIL, ConnectionLost, CyrusSyncError


class ServerTrouble(CyrusSyncError):
    """The IMAP server refused a command that it has to carry out, or answered what no client understands."""

    exit_status = EX_TEMPFAIL
    text = "the IMAP server failed"


class Refused(ServerTrouble):
    """NO or BAD to a command; the message begins with the server's own words."""

    text = "the IMAP server refuses"


class HungUp(ConnectionLost):
    """The connection ended, or nothing came for too long."""

    exit_status = EX_TEMPFAIL
    text = "the IMAP server has hung up"
