"""The secret keys of this replica on its disk: ``replica.keys``, and beside it the keys that it had before.

New keys lie in ``replica.keys.new`` until the family file names them as the present ones. After a crash on
the way there the replica has either the old keys or the new ones, and never none.
"""

from __future__ import annotations

from pathlib import Path

from cyrus_sync.common.files import make_directories, sync_directory
from cyrus_sync.multisite.packet import SecretKeys

KEYS = "replica.keys"
_NEW = "replica.keys.new"


def present(directory: Path, public: str) -> SecretKeys | None:
    """The secret half of the public keys that the family file names (`public`, as text); None if there are no
    keys here. Raises `BadKeys` for a file that holds no keys, or is open to others."""
    path, new = directory / KEYS, directory / _NEW
    if new.exists():
        made = SecretKeys.load(new)
        if made.public.text() == public:
            _install(directory)
            return made
    return SecretKeys.load(path) if path.exists() else None


def all_of(directory: Path, public: str) -> list[SecretKeys]:
    """The present keys and all earlier ones, the newest first. Raises `BadKeys`."""
    now = present(directory, public)
    earlier = sorted(_earlier(directory).items(), reverse=True)
    return [*([now] if now else []), *(SecretKeys.load(path) for _, path in earlier)]


def prepare(directory: Path) -> SecretKeys:
    """Make new keys, durably, and return them. `present` gives them once the family file names them."""
    make_directories(directory)
    (directory / _NEW).unlink(missing_ok=True)
    made = SecretKeys.generate()
    made.save(directory / _NEW)
    return made


def _install(directory: Path) -> None:
    path = directory / KEYS
    if path.exists():
        # The old keys stay beside: packets may be under way that were sealed for them.
        number = 1 + max(_earlier(directory), default=0)
        path.replace(directory / f"{KEYS}.{number}")
    (directory / _NEW).replace(path)
    sync_directory(directory)


def _earlier(directory: Path) -> dict[int, Path]:
    """The files of earlier keys, by their numbers: ``replica.keys.1`` holds the first that were changed."""
    found = {path.name.removeprefix(f"{KEYS}."): path for path in directory.glob(f"{KEYS}.*")}
    return {int(number): path for number, path in found.items() if number.isdecimal() and number.isascii()}
