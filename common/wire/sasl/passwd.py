"""`PasswordFile`: who may log in, as SCRAM verifiers. Never a password, nor anything that logs in.

A text file, mode 0600, one user a line::

    # SCRAM verifiers, written by "mailstore passwd"
    *decoy 6kX0…=
    admin SCRAM-SHA-256$15000:<salt>$<StoredKey>:<ServerKey> SCRAM-SHA-1$15000:<salt>$<StoredKey>:<ServerKey>

It is replaced as a whole (temporary file, fsync, rename) under a lock, and read again when it has
changed. Somebody who asks for a user that does not exist gets a verifier all the same, always the same
one for the same name (made from the decoy key): neither the answer nor the time it takes tells who
exists.

>>> PasswordFile(path).set_password("admin", "s3cret")        # doctest: +SKIP
>>> PasswordFile(path).check("admin", "s3cret")               # doctest: +SKIP
True
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path

from scramp import ScramException, ScramMechanism
from scramp.core import saslprep

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import StoreCorrupt, StoreError, UsageError
from cyrus_sync.common.files import make_directories, sync_directory
from cyrus_sync.common.wire.policy import SCRAM

ITERATIONS = 15000
SALT_BYTES = 16
_MOST_FITTING = 1000
_HEADER = '# SCRAM verifiers, written by "mailstore passwd"\n'
_DECOY = "*decoy"
_VERIFIER = re.compile(
    r"(SCRAM-SHA-(?:256|1))\$([0-9]+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)"
)
_USER = re.compile(r"[^\s*#\x00-\x1f\x7f][^\s\x00-\x1f\x7f]*\Z")


@dataclass(frozen=True, slots=True)
class Verifier:
    """What the server keeps of a password for one SCRAM mechanism (RFC 5802, section 3)."""

    mechanism: str
    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    @classmethod
    def of(cls, mechanism: str, password: str, salt: bytes, iterations: int = 0) -> Verifier:
        """`iterations` 0: as many as new ones get. Raises `ScramException` for a password that SASLprep
        does not allow."""
        iterations = iterations or ITERATIONS
        made = ScramMechanism(mechanism).make_auth_info(password, iteration_count=iterations, salt=salt)
        return cls(mechanism, iterations, salt, made[1], made[2])

    def __str__(self) -> str:
        salt, stored, server = (
            b64encode(part).decode("ascii") for part in (self.salt, self.stored_key, self.server_key)
        )
        return f"{self.mechanism}${self.iterations}:{salt}${stored}:{server}"


def canonical_user(user: str) -> str:
    """The form in which users are compared: without white space around it, in lower case."""
    return user.strip().lower()


class PasswordFile:
    """The password file at `path`; it need not exist yet."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._stamp: tuple[int, int, int] | None = None
        self._users: dict[str, dict[str, Verifier]] = {}
        self._decoy = secrets.token_bytes(32)
        self._here = secrets.token_bytes(32)
        self._fitting: dict[bytes, bytes] = {}
        """By StoredKey, which password fits: its HMAC with a key that nobody has but this process."""

    # -- asking

    def users(self) -> list[str]:
        """Everybody who has a password, sorted. Raises `StoreError`."""
        self._refresh()
        return sorted(self._users)

    def verifier(self, user: str, mechanism: str) -> Verifier:
        """The verifier of `user`, or one that no password fits. Raises `StoreError`."""
        self._refresh()
        user = canonical_user(user)
        found = self._users.get(user, {}).get(mechanism)
        return found or self._decoy_verifier(user, mechanism)

    def check(self, user: str, password: str) -> bool:
        """True if `password` is the one of `user`. A wrong one takes the same time whoever it is; the right
        one, from its second time in this process on, none."""
        wanted = self.verifier(user, SCRAM[0])
        digest = hmac.digest(self._here, password.encode("utf-8", "surrogatepass"), hashlib.sha256)
        if hmac.compare_digest(self._fitting.get(wanted.stored_key, b""), digest):
            return True
        try:
            given = Verifier.of(wanted.mechanism, password, wanted.salt, wanted.iterations)
        except ScramException:
            Verifier.of(wanted.mechanism, "no password", wanted.salt, wanted.iterations)
            return False
        fits = hmac.compare_digest(given.stored_key, wanted.stored_key)
        if fits:
            if len(self._fitting) >= _MOST_FITTING:
                self._fitting.clear()
            self._fitting[wanted.stored_key] = digest
        return fits

    # -- changing

    def set_password(self, user: str, password: str) -> None:
        """Give `user` a password. Raises `UsageError` for a name or password that SASL cannot carry."""
        user = self._check_user(user)
        if not password:
            raise UsageError("the password is empty").at(user=user)
        try:
            made = {mech: Verifier.of(mech, password, secrets.token_bytes(SALT_BYTES)) for mech in SCRAM}
        except ScramException as error:
            raise UsageError(f"the password cannot be used: {error}").at(user=user) from None
        with self._locked():
            self._users[user] = made
            self._write()

    def remove(self, user: str) -> bool:
        """Take the password of `user` away; False if there was none."""
        with self._locked():
            if self._users.pop(canonical_user(user), None) is None:
                return False
            self._write()
            return True

    # -- inside

    @staticmethod
    def _check_user(user: str) -> str:
        name = canonical_user(user)
        if not _USER.match(name) or len(name) > 490:
            raise UsageError("a userid has no white space or control characters, nor * or # in front").at(
                user=repr(user[:80])
            )
        return name

    def _decoy_verifier(self, user: str, mechanism: str) -> Verifier:
        def part(what: str) -> bytes:
            return hmac.digest(self._decoy, f"{what}\0{mechanism}\0{user}".encode(), hashlib.sha512)

        size = 32 if mechanism == "SCRAM-SHA-256" else 20
        return Verifier(
            mechanism, ITERATIONS, part("salt")[:SALT_BYTES], part("stored")[:size], part("server")[:size]
        )

    def _refresh(self) -> None:
        """Read the file if it is another one than last time."""
        try:
            info = self.path.stat()
        except FileNotFoundError:
            self._stamp, self._users = None, {}
            return
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from None
        stamp = (info.st_ino, info.st_mtime_ns, info.st_size)
        if stamp != self._stamp:
            self._read()
            self._stamp = stamp

    def _read(self) -> None:
        try:
            text = self.path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{self.path}: cannot be read: {reason(error, self.path)}") from None
        users: dict[str, dict[str, Verifier]] = {}
        for number, line in enumerate(text.splitlines(), 1):
            name, *words = line.split() or [""]
            if not name or name.startswith("#"):
                continue
            try:
                if name == _DECOY:
                    self._decoy = b64decode(words[0], validate=True)
                else:
                    users[name] = {each.mechanism: each for each in map(_parse_verifier, words)}
            except (ValueError, IndexError):
                raise StoreCorrupt(f"{self.path}:{number}: not a line of a password file").at(
                    user=name
                ) from None
        self._users = users

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among all processes, with the file freshly read."""
        try:
            make_directories(self.path.parent)
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._stamp = None
            self._refresh()
            yield
        finally:
            os.close(lock)

    def _write(self) -> None:
        lines = [_HEADER, f"{_DECOY} {b64encode(self._decoy).decode('ascii')}\n"]
        for user, verifiers in sorted(self._users.items()):
            lines.append(f"{user} {' '.join(str(verifier) for verifier in verifiers.values())}\n")
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            temporary.unlink(missing_ok=True)
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(file, "w", encoding="utf-8") as out:  # noqa: PTH123 (a descriptor, for the mode)
                self._keep_owner(out.fileno())
                out.writelines(lines)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StoreError(f"{self.path}: cannot be written: {error.strerror}") from None
        self._stamp = None

    def _keep_owner(self, file: int) -> None:
        """Root writes for the server's user: the owner of the old file, else of the directory."""
        if os.geteuid() == 0:
            old = self.path.stat() if self.path.exists() else self.path.parent.stat()
            os.fchown(file, old.st_uid, old.st_gid)


def check_same_everywhere(password: str, user: str) -> None:
    """Raise `UsageError` unless both ends take the same octets for `password`: SCRAM wants it prepared
    (SASLprep, RFC 4013), and not every peer does that."""
    try:
        same = saslprep(password) == password
    except ScramException as error:
        raise UsageError(f"the password cannot be used: {error}").at(user=user) from None
    if not same:
        raise UsageError(
            "the password has characters that SASLprep replaces by others (ligatures, fractions, wide "
            "letters, odd blanks): not every peer does so, and some could not log in. Choose another"
        ).at(user=user)


def _parse_verifier(text: str) -> Verifier:
    found = _VERIFIER.fullmatch(text)
    if not found:
        raise ValueError(text)
    salt, stored, server = (b64decode(part, validate=True) for part in found.groups()[2:])
    return Verifier(found[1], int(found[2]), salt, stored, server)
