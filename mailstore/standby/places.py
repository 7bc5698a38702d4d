"""Where the tree of a user is: a pattern, with the variables that Dovecot's ``mail_location`` has.

``%u`` is the userid, ``%n`` what stands before the ``@``, ``%d`` what stands behind it, ``%%`` a percent
sign. A pattern without one of the first three is a directory with a tree for each userid.

>>> place_of("/var/vmail/%d/%n/Maildir", "alice@example.org")
PosixPath('/var/vmail/example.org/alice/Maildir')
"""

from __future__ import annotations

import re
from pathlib import Path

from cyrus_sync.common.errors import UsageError
from cyrus_sync.mailstore.errors import BadInput

_VARIABLE = re.compile(r"%(.?)")


def check_pattern(pattern: str) -> str:
    """`pattern`, if it is one that tells users apart; raises `UsageError`."""
    found = set(_VARIABLE.findall(pattern))
    if found - set("und%"):
        raise UsageError(f"export: {pattern}: %{min(found - set('und%'))} is none of %u, %n, %d")
    if found & set("nd") and not found & set("un"):
        raise UsageError(f"export: {pattern}: all users of a domain would have one tree")
    return pattern


def place_of(pattern: str, userid: str) -> Path:
    """The tree of a user; raises `BadInput` for a userid that no directory can be called by."""
    local, _, domain = userid.rpartition("@") if "@" in userid else (userid, "", "")
    values = {"u": userid, "n": local, "d": domain, "%": "%"}
    used = set("und").intersection(_VARIABLE.findall(pattern))
    if any("/" in values[one] or values[one] in ("", ".", "..") for one in used or "u"):
        raise BadInput(f"{userid}: no directory of {pattern} can be his")
    place = Path(_VARIABLE.sub(lambda variable: values[variable[1]], pattern))
    return place if used else place / userid
