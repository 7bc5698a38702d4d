"""Delivery by LMTP, as a mail server in front of Cyrus would do it."""

from __future__ import annotations

import smtplib
from collections.abc import Sequence


def deliver(host: str, port: int, message: bytes, recipients: Sequence[str]) -> None:
    """Deliver `message` to each recipient; `smtplib.SMTPException` if lmtpd refuses one."""
    with smtplib.LMTP(host, port) as lmtp:
        for recipient in recipients:  # smtplib reads one answer a message, LMTP gives one a recipient
            lmtp.sendmail("sender@lab", [recipient], message)
