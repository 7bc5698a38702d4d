"""`Change`: what the IMAP server has told of, whoever heard it; or what it may have told of unheard."""

from __future__ import annotations

from typing import NamedTuple


class Change(NamedTuple):
    """Mail of `login` has changed: in these folders (as the server shows them, in modified UTF-7), or, where
    none is named, in any. `about`: his rights, annotations or limits may have changed, too. Not `told`: the
    server has told nothing, but may have missed or left out something, so nobody waits for it."""

    login: str
    folders: tuple[str, ...] = ()
    about: bool = False
    told: bool = True
