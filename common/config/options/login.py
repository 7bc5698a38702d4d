"""Options of imapd.conf: authentication and security layers."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import DURATION, INTEGER, STRING, SWITCH, WORDS, Option

TITLE = "Authentication and security layers"
OPTIONS = (
    Option(
        "sasl_mech_list",
        WORDS,
        None,
        "The SASL mechanisms that sync_server may offer (PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-1, "
        "EXTERNAL; others are passed over). Not set = all of them.",
    ),
    Option(
        "sasl_pwcheck_method",
        WORDS,
        "auxprop",
        "Who checks passwords, in this order: auxprop is the file of sync_passwd_file, saslauthd the "
        "daemon saslauthd(8), which can check PLAIN and LOGIN only.",
        choices=("auxprop", "saslauthd"),
    ),
    Option(
        "sasl_saslauthd_path",
        STRING,
        "/var/run/saslauthd/mux",
        "The socket of saslauthd(8).",
    ),
    Option(
        "sync_passwd_file",
        STRING,
        "{configdirectory}/sync_passwd",
        "The password file that mailstore passwd writes. It holds SCRAM verifiers, no passwords.",
        ours=True,
    ),
    Option(
        "allowplaintext",
        SWITCH,
        "no",
        "Offer and accept PLAIN and LOGIN on a line that nothing protects.",
    ),
    Option(
        "sync_allowplaintext",
        SWITCH,
        None,
        "Let sync_client send its password in clear (PLAIN, LOGIN) on a line that nothing protects. Where "
        "it is not set, allowplaintext says so for sync_client too.",
        channel=True,
        ours=True,
    ),
    Option(
        "sasl_minimum_layer",
        INTEGER,
        "0",
        "The least strength, in bits, of the layer below a login: 0 none, 1 integrity, more privacy. "
        "sync_server offers nothing below it; sync_client starts TLS to reach it, or does not log in.",
        minimum=0,
    ),
    Option(
        "sasl_maximum_layer",
        INTEGER,
        "256",
        "The greatest strength, in bits, that a SASL mechanism may add as a layer of its own.",
        minimum=0,
    ),
    Option(
        "failedloginpause",
        DURATION,
        "3s",
        "How long the answer to a failed login is held back. From the fifth attempt of an address without "
        "success on, so long passes between two attempts that are looked at, then ever longer, up to 30 s. "
        "0 = guessing is not slowed.",
        minimum=0,
    ),
)
