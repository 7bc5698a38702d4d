"""The key with which this server signs its reports, and how a signature is checked.

``<configdirectory>/sync/report.key`` is made when the first report is, for its owner alone; ``report.pub``
beside it is the public half, one line of text that may be given to anybody. The signature (Ed25519) is over
every octet of the report up to the comma before its last member, so a report is kept as it was printed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import CyrusSyncError, StoreError
from cyrus_sync.common.files import give_to_owner_of, make_directories, write_new, write_over

KEY_FILE, PUBLIC_FILE = "report.key", "report.pub"
_PREFIX = b"cyrus-sync comparison report 1\n"
_LAST = re.compile(rb',\n  "signature": "([0-9A-Za-z+/=]{88})"\n}\n?\Z')


class BadReport(CyrusSyncError):
    """A report that is damaged, forged, or signed by somebody else."""

    text = "the report cannot be believed"


@dataclass(frozen=True, slots=True)
class ReportKey:
    """A public key, by its 32 octets."""

    octets: bytes

    def text(self) -> str:
        """One word, as ``report.pub`` and reports have it."""
        return base64.b64encode(self.octets).decode("ascii")

    @classmethod
    def parse(cls, text: str) -> ReportKey:
        """ValueError for what is no key."""
        try:
            octets = base64.b64decode(text.strip(), validate=True)
        except binascii.Error:
            octets = b""
        if len(octets) != 32:
            raise ValueError(f"'{text.strip()[:60]}' is no public key of reports")
        return cls(octets)

    def fingerprint(self) -> str:
        """What two people compare: 32 hexadecimal digits in groups of four."""
        digits = hashlib.sha256(b"cyrus-sync report key 1\n" + self.octets).hexdigest()[:32]
        return " ".join(digits[n : n + 4] for n in range(0, 32, 4))


class Signer:
    """Signs what passes by."""

    def __init__(self, secret: SigningKey) -> None:
        self._secret = secret
        self._digest = hashlib.sha512(_PREFIX)
        self.key = ReportKey(bytes(secret.verify_key))

    @classmethod
    def of(cls, directory: Path) -> Signer:
        """With the key in `directory`, which is made if there is none. Raises `StoreError`."""
        path = directory / KEY_FILE
        try:
            if not path.exists():
                make_directories(directory)
                _make(path)
            found = path.stat()
            if stat.S_IMODE(found.st_mode) & 0o077:
                raise StoreError(f"{path}: mode {stat.S_IMODE(found.st_mode):04o} opens the key to others")
            signer = cls(SigningKey(base64.b64decode(path.read_text("ascii").strip(), validate=True)))
            public = signer.key.text() + "\n"
            beside = directory / PUBLIC_FILE
            if not beside.exists() or beside.read_text("ascii") != public:
                write_over(beside, public.encode(), 0o644)
        except (ValueError, CryptoError):
            raise StoreError(f"{path} is no key of reports: remove it, and a new one is made") from None
        except OSError as error:
            raise StoreError(f"the key of reports: {reason(error)}") from error
        return signer

    def update(self, octets: bytes) -> None:
        self._digest.update(octets)

    def signature(self) -> str:
        return base64.b64encode(self._secret.sign(self._digest.digest()).signature).decode("ascii")


def _make(path: Path) -> None:
    secret = SigningKey.generate()
    try:
        write_new(path, base64.b64encode(bytes(secret)) + b"\n")
    except FileExistsError:
        return  # somebody else was faster: his is it
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        give_to_owner_of(path.parent, descriptor)
    finally:
        os.close(descriptor)


def known_key(directory: Path, given: str | None) -> ReportKey | None:
    """The key that a report should have: `given` as a word or a file, else this server's own. None if there
    is none. Raises `BadReport`."""
    path = directory / PUBLIC_FILE
    try:
        if given is not None:
            return ReportKey.parse(Path(given).read_text("utf-8") if Path(given).is_file() else given)
        return ReportKey.parse(path.read_text("ascii"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadReport(str(error)) from error


def checked(octets: bytes) -> tuple[dict[str, Any], ReportKey]:
    """A report and the key that has signed it. Raises `BadReport` where the signature is not right."""
    last = _LAST.search(octets)
    if last is None:
        raise BadReport("this is no report of sync_client --compare --format json, or not as it was printed")
    try:
        report = json.loads(octets)
        key = ReportKey.parse(report["key"])
        signed = hashlib.sha512(_PREFIX + octets[: last.start()]).digest()
        VerifyKey(key.octets).verify(signed, base64.b64decode(last[1], validate=True))
    except (ValueError, KeyError, TypeError, AttributeError, CryptoError):
        raise BadReport("the report was changed since it was signed") from None
    return report, key
