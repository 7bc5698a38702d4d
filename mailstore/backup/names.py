"""What objects of a backup are called.

``users/52/alice/`` is the folder of user alice, as a store has it (``shared/…`` of a shared mailbox,
``server/`` of the server). In it:

``manifests/<number>-<time>-complete-<SHA-256>.json``
    What the backup with that number is made of; ``partial``: as far as it came. The SHA-256 is that of the
    manifest. The highest number is the newest.
``packs/<pack>/<from>-<to>-<token>.zst``
    These octets of a pack.
``indexes/<number>-<token>.sqlite.zst``
    The index at that backup.

A name stands for the same octets for ever: whoever uploads anything new makes a name for it, with a token by
chance. So what `prune` has found needless is never what somebody is just about to need.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

from cyrus_sync.common.names import Owner

MANIFESTS, PACKS, INDEXES = "manifests", "packs", "indexes"
KINDS = {"user": "users", "shared": "shared", "server": "server"}
_LONGEST = 200
_TIME = "%Y%m%dT%H%M%SZ"
_MANIFEST = re.compile(
    r"manifests/(?P<number>\d{8})-(?P<time>\d{8}T\d{6}Z)-(?P<kind>complete|partial)-(?P<sha256>[0-9a-f]{64})\.json"
)


def folder_of(owner: Owner) -> str:
    """The folder of an owner: the same as his directory is called in a store."""
    if owner.kind == "server":
        return KINDS["server"]
    raw = owner.name.encode("utf-8", "surrogatepass")
    return f"{KINDS[owner.kind]}/{hashlib.sha1(raw).hexdigest()[:2]}/{_encoded(raw)}"


def _encoded(raw: bytes) -> str:
    text = quote(raw, safe="@+=,").replace("~", "%7E")
    if text.startswith("."):
        text = f"%2E{text[1:]}"
    if len(text) <= _LONGEST:
        return text
    return f"{text[:100].rpartition('%')[0] or text[:100]}%h{hashlib.sha256(raw).hexdigest()}"


class ManifestName(NamedTuple):
    """`key` is below the owner's folder. `taken` in Unix seconds. Ordered from the oldest to the newest."""

    number: int
    key: str
    taken: int
    complete: bool
    sha256: str


def manifest_name(number: int, taken: int, sha256: str, *, complete: bool) -> ManifestName:
    moment = datetime.fromtimestamp(taken, UTC).strftime(_TIME)
    kind = "complete" if complete else "partial"
    return ManifestName(
        number, f"{MANIFESTS}/{number:08}-{moment}-{kind}-{sha256}.json", taken, complete, sha256
    )


def parse_manifest_name(key: str) -> ManifestName | None:
    """Of a key below the owner's folder; None for another object."""
    found = _MANIFEST.fullmatch(key)
    if not found:
        return None
    try:
        moment = datetime.strptime(found["time"], _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
    taken = int(moment.timestamp())
    return ManifestName(int(found["number"]), key, taken, found["kind"] == "complete", found["sha256"])


def part_key(pack: int, start: int, end: int) -> str:
    return f"{PACKS}/{pack:06}/{start:012}-{end:012}-{_token()}.zst"


def index_key(number: int) -> str:
    return f"{INDEXES}/{number:08}-{_token()}.sqlite.zst"


def _token() -> str:
    return secrets.token_hex(6)
