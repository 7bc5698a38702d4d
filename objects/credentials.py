"""The key with which an S3 server is asked, where imapd.conf has none: as the usual tools look for it.

``AWS_ACCESS_KEY_ID`` and its companions in the environment are read by obstore, and so is the role of a
machine at Amazon. The file of ``aws configure`` is read here: ``~/.aws/credentials``
(``AWS_SHARED_CREDENTIALS_FILE``), of the profile ``AWS_PROFILE``, or ``default``.
"""

from __future__ import annotations

import configparser
import os
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import ConfigError


class Credentials(NamedTuple):
    """All "": obstore looks for them."""

    access_key: str = ""
    secret_key: str = ""
    token: str = ""


def usual_credentials() -> Credentials:
    """Of the environment or the file of this user; ConfigError where the profile that is asked for is not in
    the file, or lacks its secret."""
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return Credentials()
    path = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or Path("~/.aws/credentials").expanduser())
    profile = os.environ.get("AWS_PROFILE") or "default"
    file = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        found = file.read(path, encoding="utf-8")
        section = file[profile] if file.has_section(profile) else None
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise ConfigError(f"{path}: {error}") from error
    if section is None:
        if found and os.environ.get("AWS_PROFILE"):
            raise ConfigError(f"{path}: there is no profile [{profile}]")
        return Credentials()
    access_key, secret_key = (
        section.get(f"aws_{name}", "") for name in ("access_key_id", "secret_access_key")
    )
    if not access_key or not secret_key:
        raise ConfigError(f"{path}: [{profile}] lacks aws_access_key_id or aws_secret_access_key")
    return Credentials(access_key, secret_key, section.get("aws_session_token", ""))
