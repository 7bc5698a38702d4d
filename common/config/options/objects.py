"""Options of imapd.conf: object stores."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import DURATION, SIZE, STRING, Option

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
        "For how long mailstore prune keeps backups: every moment of that time can be restored. And for how "
        "long mailstore tier keeps the object of a pack that is not needed any more (a day at least): an "
        "older copy of a partition that is put back still finds it.",
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
    Option(
        "s3_tier_after",
        DURATION,
        None,
        "mailstore tier moves packs of the local store to which nothing was added for this time into the "
        "object store, and leaves in their place word of where they are. Not set = none. What is there "
        "already is read there all the same, and mailstore tier --back fetches it. docs/tiering.md.",
        unit="d",
        minimum=0,
        ours=True,
    ),
    Option(
        "s3_tier_objects",
        STRING,
        "s3:",
        "The object store for these packs: s3: or s3:BUCKET/PREFIX, as s3_endpoint and the options beside it "
        "say; or file:DIRECTORY.",
        ours=True,
    ),
    Option(
        "s3_tier_cache",
        SIZE,
        "1g",
        "How much of these packs this machine keeps for who reads in them again, in "
        "{configdirectory}/store/far, for all programs together. What was not used for the longest time goes "
        "first. It may be lost at any time.",
        unit="m",
        minimum=0,
        ours=True,
    ),
)
