"""Options of imapd.conf: limits."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import SIZE, SWITCH, Option

TITLE = "Limits"
OPTIONS = (
    Option(
        "maxword",
        SIZE,
        "128k",
        "Longest bare word that sync_server reads; a longer one ends the connection.",
        minimum=1024,
    ),
    Option("maxquoted", SIZE, "128k", "Longest quoted string; likewise.", minimum=1024),
    Option(
        "maxliteral",
        SIZE,
        "128k",
        "Longest literal; likewise. Messages are no literals and have no limit. 0 = no limit.",
        minimum=0,
    ),
    Option("literalminus", SWITCH, "no", "No literal longer than 4096 bytes."),
)
