"""Options of imapd.conf: delivery by LMTP."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import INTEGER, SIZE, STRING, SWITCH, WORDS, Option

TITLE = "Delivery into the store by LMTP"
OPTIONS = (
    Option(
        "lmtp_listen",
        WORDS,
        "localhost:lmtp",
        "Where cyrus-sync lmtp listens: host:port, [IPv6 address]:port, or the path of a UNIX socket. The "
        "port is lmtp (24) where it is left out. Whoever reaches a UNIX socket may deliver: its directory "
        "decides.",
        ours=True,
    ),
    Option(
        "lmtp_trusted",
        WORDS,
        "127.0.0.0/8 ::1",
        "Addresses and networks that deliver without a login. Others log in as one of the admins "
        "(lmtp_admins names who may only deliver), with AUTH.",
        ours=True,
    ),
    Option(
        "lmtp_journal",
        STRING,
        None,
        "A mailbox that gets each delivered message once, with its envelope in front (X-Envelope-From, "
        "X-Envelope-To, X-Envelope-Client), before it is delivered: journal, user/archive. %Y, %m and %d in "
        "it are the day in UTC; what is not there is made. Where it cannot be written, nothing is delivered. "
        "Not set = none.",
        ours=True,
    ),
    Option(
        "maxmessagesize",
        SIZE,
        "0",
        "The largest message that is taken, in bytes, with what is put in front of it. 0 = any.",
        unit="b",
    ),
    Option(
        "lmtp_downcase_rcpt",
        SWITCH,
        "yes",
        "Alice@Example.ORG is alice@example.org; the folder behind a + is taken as it is.",
    ),
    Option(
        "lmtp_fuzzy_mailbox_match",
        SWITCH,
        "no",
        "Where the folder behind a + is not there: the one whose name differs in case, or in blanks, - and "
        "_, or the nearest above. Without it, or where there is none: the INBOX.",
    ),
    Option(
        "lmtp_over_quota_perm_failure",
        SWITCH,
        "no",
        "Mail for who is over quota goes back (552). With no it is tried again (452).",
    ),
    Option(
        "lmtp_strict_quota",
        SWITCH,
        "no",
        "A message that would exceed the quota is not taken. With no, one may.",
    ),
    Option(
        "lmtp_strict_rfc2821",
        SWITCH,
        "yes",
        "Addresses with 8-bit octets are refused. With no, each such octet of a localpart is taken as an X.",
    ),
    Option(
        "lmtp_catchall_mailbox",
        STRING,
        None,
        "The user who gets what is for nobody here. Not set = it is refused (550).",
    ),
    Option(
        "postuser",
        STRING,
        None,
        "The localpart that stands for shared mailboxes: with bb, bb+projects/2026 is one. Not set = "
        "an empty one: +projects/2026. anyone (or who has submitted it, AUTH=) needs the right to post (p).",
    ),
    Option(
        "autocreate_post",
        SWITCH,
        "no",
        "A user who is not here is made with his first message. autocreate_quota has to be set, too. Nobody "
        "is made of the admins.",
        old_names=("createonpost",),
    ),
    Option(
        "autocreate_quota",
        SIZE,
        "-1",
        "The storage limit of a user who is made, in KiB (or 2g). 0 = no limit; -1 = nobody is made.",
        unit="k",
        old_names=("autocreatequota",),
    ),
    Option(
        "autocreate_quota_messages",
        INTEGER,
        "-1",
        "How many messages a user who is made may have. 0 or -1 = any number.",
        old_names=("autocreatequotamsg",),
    ),
    Option(
        "autocreate_inbox_folders",
        STRING,
        None,
        "Folders that a user who is made has: Drafts | Sent | Junk | Trash. xlist-junk: Junk gives one its "
        "special use (RFC 6154). A dot in a name stands between two levels.",
        old_names=("autocreateinboxfolders",),
    ),
    Option(
        "autocreate_subscribe_folders",
        STRING,
        None,
        "Those of autocreate_inbox_folders to which he is subscribed, as he is to the INBOX.",
        old_names=("autosubscribeinboxfolders",),
    ),
    Option(
        "autocreate_acl",
        STRING,
        None,
        "Rights to one of autocreate_inbox_folders besides those of the user: Plus anyone p.",
    ),
    Option(
        "autocreate_users",
        WORDS,
        "anyone",
        "Who may be made so.",
    ),
    Option(
        "duplicatesuppression",
        SWITCH,
        "no",
        "A message whose Message-ID and Date were delivered to that mailbox within three days is not "
        "delivered to it again. In Cyrus the default is yes: here an archive is to have all.",
    ),
    Option(
        "reject8bit",
        SWITCH,
        "no",
        "A message with 8-bit octets in its header is refused.",
    ),
    Option(
        "munge8bit",
        SWITCH,
        "no",
        "8-bit octets in a header become X. In Cyrus the default is yes: here a header in UTF-8 stays as it "
        "is.",
    ),
    Option(
        "soft_noauth",
        SWITCH,
        "yes",
        "Who has to log in and does not is to try again (430). With no he is refused (530).",
    ),
)
