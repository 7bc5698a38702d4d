"""`open_objects`: the object store that is meant by ``s3:…`` or ``file:…``, as imapd.conf describes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError, UsageError
from cyrus_sync.objects.directory import DirectoryObjects
from cyrus_sync.objects.store import ObjectStore

if TYPE_CHECKING:
    from cyrus_sync.objects.s3 import Bucket

_TARGET = re.compile(r"s3:(?://)?([^/]*)/*(.*)")


class Target(NamedTuple):
    """`scheme` is ``s3`` or ``file``; `bucket` "" and `prefix` None: those of imapd.conf."""

    scheme: str
    bucket: str = ""
    prefix: str | None = None
    path: str = ""


def is_target(typed: str) -> bool:
    """Whether somebody means an object store."""
    return typed.startswith(("s3:", "file:"))


def parse_target(typed: str) -> Target:
    """``s3:``, ``s3:BUCKET[/PREFIX]`` (``s3://…`` too), or ``file:DIRECTORY``; UsageError."""
    scheme, colon, rest = typed.partition(":")
    if scheme == "file" and rest:
        return Target("file", path=str(Path(rest).absolute()))
    if scheme == "s3" and colon and (found := _TARGET.fullmatch(typed)):
        return Target("s3", found[1], found[2].rstrip("/") if found[1] else None)
    raise UsageError(f"'{typed}' is neither s3:, s3:BUCKET/PREFIX nor file:DIRECTORY")


def open_objects(cfg: Config, typed: str = "s3:", *, patience: float = 10.0) -> ObjectStore:
    """The store that `typed` means. It is not asked anything yet. `patience`: seconds for which a request is
    repeated. ConfigError, UsageError."""
    target = parse_target(typed)
    objects: ObjectStore
    if target.scheme == "file":
        objects = DirectoryObjects(Path(target.path))
    else:
        from cyrus_sync.objects.s3 import S3Objects

        objects = S3Objects(_bucket(cfg, target), patience=patience)
    if encrypt := cfg.string("s3_encrypt"):
        from cyrus_sync.objects.sealed import SealedObjects, read_secret

        objects = SealedObjects(objects, read_secret(Path(encrypt)))
    return objects


def _bucket(cfg: Config, target: Target) -> Bucket:
    from cyrus_sync.objects.credentials import Credentials, usual_credentials
    from cyrus_sync.objects.s3 import Bucket

    name = target.bucket or cfg.string("s3_bucket")
    if not name:
        raise ConfigError(f"{cfg.where('s3_bucket')}not set, and there is no default")
    access_key, secret_key = cfg.string("s3_access_key"), cfg.string("s3_secret_key")
    if bool(access_key) != bool(secret_key):
        raise ConfigError(f"{cfg.where('s3_access_key')}goes with s3_secret_key")
    found = Credentials(access_key, secret_key) if access_key and secret_key else usual_credentials()
    prefix = target.prefix if target.prefix is not None else cfg.string("s3_prefix") or ""
    return Bucket(
        (cfg.string("s3_endpoint") or "").rstrip("/"),
        name,
        cfg.string("s3_region") or "us-east-1",
        prefix,
        *found,
    )
