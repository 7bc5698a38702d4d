"""Errors of the administrator's tool, with the exit statuses of sysexits(3) that mail programs expect."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_TEMPFAIL, CyrusSyncError, ProtocolError, UsageError
from cyrus_sync.common.names import BadName

EX_DATAERR = 65
EX_NOINPUT = 66
EX_NOUSER = 67


class NoSuchUser(CyrusSyncError):
    """The user has no mail here. A mail server that delivers through us bounces the message."""

    exit_status = EX_NOUSER
    text = "no such user"


class NoSuchMailbox(CyrusSyncError):
    """The store has no mailbox of that name."""

    exit_status = EX_NOUSER
    text = "no such mailbox"


class NoSuchMessage(CyrusSyncError):
    """The mailbox has no message with that UID."""

    exit_status = EX_DATAERR
    text = "no such message"


class OverQuota(CyrusSyncError):
    """A limit of the quota root would be exceeded. Soft, as lmtpd has it: there may be room tomorrow."""

    exit_status = EX_TEMPFAIL
    text = "over quota"


class BadInput(CyrusSyncError):
    """What was given to read is not what it should be."""

    exit_status = EX_DATAERR
    text = "the input cannot be used"


class NoInput(CyrusSyncError):
    """A file or directory to read is not there, or may not be read."""

    exit_status = EX_NOINPUT
    text = "nothing to read"


_NEVER = (UsageError, BadInput, NoSuchMailbox, NoSuchUser)
"""What will be the same at the next try."""


def delivery_status(error: BaseException) -> int:
    """The exit status of a delivery that failed with `error`.

    An MTA (Postfix, Sendmail, Exim) keeps the message for another try after EX_TEMPFAIL, and sends it
    back after nearly everything else: 1, EX_SOFTWARE and EX_CONFIG among them. So what somebody can put
    right here (a full disk, a lock, damage, a partition that is not mounted, rights, the configuration) is
    EX_TEMPFAIL, and so is what nobody has foreseen.
    """
    if isinstance(error, BadName):
        return EX_NOUSER
    if isinstance(error, ProtocolError):
        return EX_DATAERR
    if isinstance(error, _NEVER):
        return error.exit_status
    return EX_TEMPFAIL


EXIT_STATUS = """\
EXIT STATUS
  0   done
  1   done in part, or something is wrong; standard error says what
  64  the command line makes no sense
  65  the input cannot be used, or there is no such message
  66  a file to read is not there
  67  no such user or mailbox
  75  the store could not be written, is locked or over quota; try again
  78  the configuration is bad
"""
"""Ends the help of every command."""
