"""Options of imapd.conf: logging."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import STRING, Option

TITLE = "Logging"
OPTIONS = (
    Option(
        "syslog_facility",
        STRING,
        None,
        "Facility of syslog messages (mail, daemon, local0 to local7). Where it is not set: mail.",
    ),
    Option(
        "syslog_prefix",
        STRING,
        None,
        "Put in front of the program's name in syslog, with a slash.",
    ),
)
