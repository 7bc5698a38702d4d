"""What the objects are called: ``tier/users/52/alice/pack-000001-<token>.zst``, as a store has its files.

A name stands for the same octets for ever: each upload makes one, with a token by chance. Beside them is
`MARKER`, by which an object store that is not the right one, or not mounted, is told from one that has lost
something.
"""

from __future__ import annotations

import secrets

from cyrus_sync.common.errors import ObjectsUnavailable
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.layout import KINDS, encode_name, group, pack_name
from cyrus_sync.objects.store import ObjectStore

FOLDER = "tier"
MARKER = f"{FOLDER}/cyrus-sync"


def nothing_there(objects: ObjectStore) -> ObjectsUnavailable:
    """What to say where the marker is missing."""
    return ObjectsUnavailable(
        f"{objects.place} has nothing of this store: is it mounted, and is it the one that imapd.conf means?"
    )


def new_key(owner: Owner, pack: int) -> str:
    name = pack_name(pack).removesuffix(".zst")
    place = f"{KINDS[owner.kind]}/{group(owner.name)}/{encode_name(owner.name)}"
    return f"{FOLDER}/{place}/{name}-{secrets.token_hex(8)}.zst"
