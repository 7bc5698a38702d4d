"""Options of imapd.conf: the action log."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import STRING, SWITCH, WORDS, Option

TITLE = "The action log"
OPTIONS = (
    Option(
        "sync_log",
        SWITCH,
        "no",
        "Write the action log, from which sync_client -r works.",
    ),
    Option(
        "sync_log_channels",
        WORDS,
        '""',
        "The channels that get every line of the action log, one for each replica. "
        'Two quotes ("") stand for the default channel, which has no name.',
    ),
    Option(
        "sync_log_file",
        STRING,
        None,
        "The file of the action log. Where it is not set: {configdirectory}/sync/log, for a channel "
        "{configdirectory}/sync/<channel>/log.",
        channel=True,
        ours=True,
    ),
    Option(
        "sync_log_chain",
        SWITCH,
        "no",
        "Log on a replica what sync_server applies, so that a third server can replicate from it.",
    ),
    Option(
        "sync_log_unsuppressable_channels",
        WORDS,
        "squatter",
        "Channels of sync_log_channels that get what sync_server applies even without sync_log_chain.",
    ),
    Option(
        "sync_rightnow_channel",
        STRING,
        None,
        'Channel whose replica has every change before the one who made it is answered; "" is the default '
        "channel. What cannot be replicated at once goes to that channel's log, for a rolling sync_client.",
    ),
)
