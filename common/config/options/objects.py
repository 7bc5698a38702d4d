"""Options of imapd.conf: object stores."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import DURATION, STRING, Option

TITLE = "Object stores (S3)"
OPTIONS = (
    Option(
        "s3_endpoint",
        STRING,
        None,
        "The address of the S3 server, as https://s3.example.org or http://10.0.0.5:8333. Not set = "
        "Amazon's, of the s3_region.",
        ours=True,
    ),
    Option(
        "s3_bucket",
        STRING,
        None,
        "The bucket that s3: means where a command is not told another one.",
        ours=True,
    ),
    Option(
        "s3_region",
        STRING,
        "us-east-1",
        "The region of the bucket. A server of one's own has none, and takes the default.",
        ours=True,
    ),
    Option(
        "s3_access_key",
        STRING,
        None,
        "The access key. Without it: AWS_ACCESS_KEY_ID and its companions in the environment, else the "
        "file ~/.aws/credentials of the user who runs the command (AWS_SHARED_CREDENTIALS_FILE, "
        "AWS_PROFILE), else the role of the machine.",
        ours=True,
    ),
    Option(
        "s3_secret_key",
        STRING,
        None,
        "The secret that belongs to s3_access_key. Whoever may read this file has it.",
        ours=True,
    ),
    Option(
        "s3_prefix",
        STRING,
        None,
        "A folder in the bucket, in which everything is kept: one for each server, where several share a "
        "bucket.",
        ours=True,
    ),
    Option(
        "s3_keep",
        DURATION,
        "30d",
        "For how long mailstore prune keeps backups: every moment of that time can be restored.",
        unit="d",
        minimum=0,
        ours=True,
    ),
    Option(
        "s3_encrypt",
        STRING,
        None,
        "A file with a key of 64 hexadecimal digits (openssl rand -hex 32), not readable by everybody. "
        "With it, objects are encrypted before they leave this machine, in file: targets too, and only "
        "who has the key can read them: keep a copy of it elsewhere. Names (which say userids), sizes and "
        "times of objects are not hidden.",
        ours=True,
    ),
)
