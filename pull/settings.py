"""What imapd.conf says of the IMAP server that is pulled from (`imap_host` and its like)."""

from __future__ import annotations

import fnmatch
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import AuthenticationFailed, ConfigError, CyrusSyncError
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.wire.policy import is_loopback

IMAPS_PORT = 993
_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class ImapSettings:
    """`tls` is "tls" (at once), "starttls" or "no". `master` logs in for everybody: with ``%u`` in it, it is
    the login name once the user stands there; without, it is the one who proves himself, and the user is whom
    he acts for (SASL PLAIN). `passwords` are those of single users, by login name. `shared_user` is a
    userid."""

    host: str
    port: int = 143
    tls: str = "no"
    verify: bool = True
    ca_file: str | None = None
    ca_dir: str | None = None
    master: str = ""
    password: str = ""
    passwords: Path | None = None
    users: tuple[str, ...] = ()
    connections: int = 4
    shared_user: str = ""
    sieve_port: int = 4190
    timeout: float = 120.0

    @property
    def local(self) -> bool:
        """Whether the line does not leave this machine."""
        return self.host.startswith("/") or is_loopback(self.host)

    @property
    def server(self) -> str:
        """What it is called in messages."""
        return self.host if self.host.startswith("/") else f"{self.host}:{self.port}"

    @classmethod
    def from_config(cls, cfg: Config) -> ImapSettings:
        """Raises `ConfigError` where no server is named, or nobody who could log in."""
        host = cfg.string("imap_host")
        if not host:
            raise ConfigError(f"{cfg.where('sync_source')}imap: imap_host does not say where that server is")
        wanted = cfg.string("imap_tls") or "auto"
        port = cfg.integer("imap_port") or (IMAPS_PORT if wanted == "tls" else 143)
        local = host.startswith("/") or is_loopback(host)
        if wanted == "auto":
            wanted = "tls" if port == IMAPS_PORT else "no" if local else "starttls"
        master, passwords = cfg.string("imap_master_user") or "", cfg.string("imap_passwords")
        password = cfg.string("imap_password") or ""
        if master and not password:
            raise ConfigError(f"{cfg.where('imap_master_user')}{master}: imap_password is not set")
        if not master and not passwords and not host.startswith("/"):
            raise ConfigError(
                f"{cfg.where('imap_host')}{host}: nobody can log in there: set imap_master_user and"
                " imap_password, or imap_passwords"
            )
        return cls(
            host=host,
            port=port,
            tls=wanted,
            verify=cfg.switch("imap_tls_verify"),
            ca_file=cfg.string("tls_server_ca_file"),
            ca_dir=cfg.string("tls_server_ca_dir"),
            master=master,
            password=password,
            passwords=Path(passwords) if passwords else None,
            users=tuple(cfg.words("imap_users")),
            connections=cfg.integer("imap_connections"),
            shared_user=_userid_of(cfg, "imap_shared_user"),
            sieve_port=cfg.integer("imap_sieve_port"),
        )

    def password_of(self, login: str) -> str:
        """What the user, or who acts for him, logs in with. Raises `AuthenticationFailed` for a user
        without."""
        if self.master or self.passwords is None:
            return self.password
        try:
            return self.single_passwords()[login]
        except KeyError:
            raise AuthenticationFailed(f"{self.passwords} has no password of {login}") from None

    def single_passwords(self) -> Mapping[str, str]:
        """Passwords by login name, as the file has them now. Raises `ConfigError`."""
        if self.passwords is None:
            return {}
        try:
            now = self.passwords.stat()
        except OSError as error:
            raise ConfigError(f"{self.passwords}: {error}") from error
        return _passwords_in(self.passwords, (now.st_ino, now.st_mtime_ns, now.st_size))

    def everybody(self, here: Iterable[str]) -> list[str]:
        """The login names of all users, as imap_users tells them; `here` are those of whom our store has
        mail. Blocks. Raises `ConfigError`."""
        known = dict.fromkeys([*self.single_passwords(), *here])
        if not self.users:
            return list(known)
        if self.users[0].startswith("|"):
            return _told_by(" ".join(self.users)[1:])
        found: dict[str, None] = {}
        for word in self.users:
            if word.startswith("/"):
                found.update(dict.fromkeys(line.strip() for line in _lines(Path(word)) if line.strip()))
            elif _WILD & set(word):
                found.update(dict.fromkeys(name for name in known if fnmatch.fnmatchcase(name, word)))
            else:
                found[word] = None
        return list(found)


def _userid_of(cfg: Config, option: str) -> str:
    """Of the login name that an option has; "" where it is not set. Raises `ConfigError`."""
    login = cfg.string(option) or ""
    try:
        return Namespace.from_config(cfg).userid(login) if login else ""
    except CyrusSyncError as error:
        raise ConfigError(f"{cfg.where(option)}{login}: {error}") from None


@lru_cache(maxsize=4)
def _passwords_in(path: Path, version: tuple[int, ...]) -> Mapping[str, str]:
    """Every user of a pull asks for his: the file is read once in each `version`."""
    del version
    found = {}
    for number, line in enumerate(_lines(path), 1):
        user, colon, password = line.partition(":")
        if not colon or not user.strip():
            raise ConfigError(f"{path}:{number}: no line of the form user:password")
        found[user.strip()] = password
    return found


def _lines(path: Path) -> list[str]:
    """Lines of a file, those apart that begin with #."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _told_by(command: str) -> list[str]:
    """The lines that a command prints."""
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=600, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"imap_users: {command}: {error}") from error
    if done.returncode:
        reason = done.stderr.strip()[-200:] or f"exit status {done.returncode}"
        raise ConfigError(f"imap_users: {command}: {reason}")
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
