"""Options of imapd.conf: TLS."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import ENUM, STRING, SWITCH, WORDS, Option

TITLE = "TLS"
OPTIONS = (
    Option(
        "tls_server_cert",
        STRING,
        None,
        "The certificate of sync_server with its chain, PEM. Without it there is no STARTTLS. Files for "
        "shipping_server -receiver come under TLS with it, else sealed with the family key.",
        old_names=("tls_cert_file",),
    ),
    Option(
        "tls_server_key",
        STRING,
        None,
        "Private key of tls_server_cert. Where it is not set: in the same file.",
        old_names=("tls_key_file",),
    ),
    Option(
        "tls_client_ca_file",
        STRING,
        None,
        "Authorities whose certificates sync_server accepts from clients (SASL EXTERNAL).",
        old_names=("tls_ca_file",),
    ),
    Option(
        "tls_client_ca_dir",
        STRING,
        None,
        "The same as a directory with hashed names.",
        old_names=("tls_ca_path",),
    ),
    Option(
        "tls_client_certs",
        ENUM,
        "optional",
        "Whether sync_server asks for a client's certificate (optional), insists on it (require), or "
        "does neither (off).",
        choices=("off", "optional", "require"),
    ),
    Option(
        "tls_required",
        SWITCH,
        "no",
        "No login without TLS (or a layer that sync_server -p states): sync_server offers no mechanism "
        "before STARTTLS, sync_client starts TLS first.",
    ),
    Option(
        "tls_server_ca_file",
        STRING,
        None,
        "Authorities by which sync_client verifies the replica. Where neither this nor "
        "tls_server_ca_dir is set: those of the system.",
    ),
    Option(
        "tls_server_ca_dir",
        STRING,
        None,
        "The same as a directory with hashed names.",
    ),
    Option(
        "tls_client_cert",
        STRING,
        None,
        "The certificate that sync_client shows to the replica, PEM; with one, it starts TLS wherever that "
        "is offered, and logs in with EXTERNAL if it can. <host>_client_cert does the same for one host "
        "(its name up to the first dot).",
    ),
    Option(
        "tls_client_key",
        STRING,
        None,
        "Private key of tls_client_cert (<host>_client_key of <host>_client_cert).",
    ),
    Option(
        "sync_tls_verify",
        SWITCH,
        "yes",
        "sync_client verifies the replica's certificate and that it is for the name in sync_host. With no, "
        "TLS keeps out those who listen, but not those who can answer in the replica's place.",
        channel=True,
        ours=True,
    ),
    Option(
        "tls_versions",
        WORDS,
        "tls1_2 tls1_3",
        "The versions of TLS to use.",
        choices=("ssl2", "ssl3", "tls1_0", "tls1_1", "tls1_2", "tls1_3"),
    ),
    Option(
        "tls_ciphers",
        STRING,
        "DEFAULT",
        "The ciphers to allow up to TLS 1.2, as ciphers(1) writes them.",
        old_names=("tls_cipher_list",),
    ),
    Option(
        "tls_prefer_server_ciphers",
        SWITCH,
        "no",
        "The server's order of ciphers counts, not the client's.",
    ),
)
