"""Sieve scripts that are files: all of them up to 3.4, and those of users who were never seen since.

``NAME.script`` is a script, ``NAME.bc`` what it was compiled to, ``defaultbc`` a link to that of the active
one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.model import SieveScript
from cyrus_sync.common.sieve import bytecode_filename, name_of, script_filename
from cyrus_sync.common.stores import disk

DEFAULT = "defaultbc"
_SCRIPT = ".script"
MAX_SCRIPT = 16 << 20
"""Octets. More is none."""


def read_scripts(directory: Path | None) -> list[SieveScript]:
    """The lines of a script list, in order of file name. Raises `StoreError`."""
    if directory is None:
        return []
    found: list[SieveScript] = []
    try:
        active = _active(directory)
        for path in sorted(directory.iterdir()):
            if path.name.endswith(_SCRIPT) and path.name != _SCRIPT and path.is_file():
                name = path.name.removesuffix(_SCRIPT)
                when = int(path.stat().st_mtime)
                digest = hashlib.sha1(path.read_bytes()).digest()
                found.append(SieveScript(script_filename(name), when, digest))
                if name == active:
                    found.append(SieveScript(bytecode_filename(name), when, active=True))
    except (FileNotFoundError, NotADirectoryError):
        return found
    except OSError as error:
        raise StoreError(disk.why(error, str(directory))) from error
    return found


def _active(directory: Path) -> str | None:
    try:
        target = (directory / DEFAULT).readlink().name
    except OSError:
        return None
    return name_of(target)


def read_script(directory: Path | None, filename: str) -> bytes | None:
    """The script ``NAME.script``, None if there is none."""
    if directory is None or "/" in filename or not filename.endswith(_SCRIPT):
        return None
    path = directory / filename
    try:
        with path.open("rb") as file:
            return file.read(MAX_SCRIPT)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(disk.why(error, str(path))) from error
