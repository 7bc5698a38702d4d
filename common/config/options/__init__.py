"""Every option of imapd.conf that any of our programs reads, declared once, a module a theme.

`common.config.config` takes types and defaults from here, ``etc/imapd.conf.example`` and the manual page
imapd.conf(5) are written from here (``python -m cyrus_sync.common.config.documents``). An option that is
missing here cannot be read.
"""

from __future__ import annotations

from cyrus_sync.common.config.options import (
    client,
    fleet,
    imap,
    lifeboat,
    limits,
    lmtp,
    login,
    objects,
    server,
    shipping,
    spool,
    store,
    synclog,
    syslog,
    tls,
    watching,
)
from cyrus_sync.common.config.options.kinds import Kind, Option, Theme

__all__ = ["HOST_OPTIONS", "OPTIONS", "THEMES", "Kind", "Option", "Theme"]

THEMES = tuple(
    Theme(module.TITLE, module.OPTIONS)
    for module in (
        store, spool, imap, synclog, client, server, lifeboat, lmtp, login, tls, limits, shipping,
        syslog, watching, objects, fleet,
    )
)  # fmt: skip
OPTIONS: dict[str, Option] = {option.name: option for theme in THEMES for option in theme.options}

HOST_OPTIONS = ("mechs", "client_cert", "client_key")
"""What may be set for one host as ``<shorthost>_<name>``."""
