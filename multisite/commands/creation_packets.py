"""Creation packets that an import meets: they are left alone, and the administrator is told once of each."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path

from cyrus_sync.common.files import write_over
from cyrus_sync.multisite.commands.context import Context
from cyrus_sync.multisite.member import Member
from cyrus_sync.shipping.notify import send_mail

FILE = "creation_packets.json"
"""Paths of which the administrator has been told."""


def tell_of_creation_packets(context: Context, member: Member, paths: Sequence[Path]) -> None:
    """Say that these packets are there. The administrator gets a mail about those that are new."""
    for path in paths:
        context.complain(f"{path} is a creation packet and is left alone (multitool mkreplica -import)")
    told = {one for one in _told(member) if Path(one).exists()}
    new = [str(path) for path in paths if str(path) not in told]
    if not new:
        return
    text = (
        "An import has met packets that make a new replica. They were left alone:\n\n"
        + "".join(f"    {path}\n" for path in new)
        + "\nOn a server that is to become the replica: multitool mkreplica -import PATH\n"
        "Otherwise they may be deleted.\n"
    )
    site = context.site
    send_mail(site, site.conf.administrators, f"creation packet at {socket.gethostname()}", text)
    write_over(member.directory / FILE, json.dumps(sorted({*told, *new})).encode(), 0o600)


def _told(member: Member) -> list[str]:
    try:
        values = json.loads((member.directory / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [one for one in values if isinstance(one, str)]
