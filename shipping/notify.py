"""Mail to people: by the NOTIFICATION-PROGRAM (``-s subject -f file address …``), else by sendmail.

A mail that cannot be sent is logged and stops nothing.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable

from cyrus_sync.common.commands import reason
from cyrus_sync.shipping.order import Order
from cyrus_sync.shipping.site import Site

_TIMEOUT = 60.0


def tell(site: Site, order: Order, subject: str, text: str) -> None:
    """Tell the addresses of an order, or the administrator where it has none."""
    send_mail(site, order.notify or site.conf.administrators, subject, text + "\n" + describe(order))


def tell_administrator(site: Site, order: Order, subject: str, text: str) -> None:
    send_mail(site, site.conf.administrators, subject, text + "\n" + describe(order))


def describe(order: Order) -> str:
    """The order, for a person."""
    lines = [
        f"File:          {order.data_path}",
        f"From host:     {order.origin} ({order.original_path})",
        f"Destinations:  {' '.join(order.undelivered or order.destinations)}",
        f"Storage class: {order.storage_class}",
        *(f"Comment:       {one}" for one in order.comments),
    ]
    return "\n".join(lines) + "\n"


def send_mail(site: Site, addresses: Iterable[str], subject: str, text: str) -> None:
    """One message to `addresses`."""
    addresses = list(dict.fromkeys(addresses))
    subject = " ".join(subject.split())
    try:
        if site.conf.notification_program:
            _by_program(site.conf.notification_program, addresses, subject, text)
        else:
            _by_sendmail(site.sendmail, addresses, subject, text)
        site.log.info(f"notified {' '.join(addresses)}: {subject}")
    except (OSError, subprocess.SubprocessError) as error:
        site.log.error(f"cannot notify {' '.join(addresses)} ({subject}): {reason(error)}")


def _by_program(program: str, addresses: list[str], subject: str, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", prefix="ms_notify_", encoding="utf-8", errors="replace") as file:
        file.write(text)
        file.flush()
        _run([program, "-s", subject, "-f", file.name, *addresses], b"")


def _by_sendmail(program: str, addresses: list[str], subject: str, text: str) -> None:
    from email.message import EmailMessage  # takes long to load, and little is ever told

    message = EmailMessage()
    message["To"] = ", ".join(addresses)
    message["Subject"] = subject.encode("utf-8", "replace").decode()
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text.encode("utf-8", "replace").decode())
    _run([program, "-i", "--", *addresses], message.as_bytes())


def _run(command: list[str], text: bytes) -> None:
    done = subprocess.run(
        command, input=text, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=_TIMEOUT, check=False
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise OSError(f"{command[0]} ended with status {done.returncode} {said}".rstrip())
