"""`Change`: what the IMAP server has told of, whoever heard it."""

from __future__ import annotations

from typing import NamedTuple


class Change(NamedTuple):
    """Mail of `login` has changed: in these folders (as the server shows them, in modified UTF-7), or, where
    none is named, in any. `about`: his rights, annotations or limits may have changed, too."""

    login: str
    folders: tuple[str, ...] = ()
    about: bool = False
