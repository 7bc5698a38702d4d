"""What an option is, and a theme."""

from __future__ import annotations

from enum import Enum

from cyrus_sync.common.classes import dataclass


class Kind(Enum):
    """The type of a value; `common.config.values` reads them."""

    STRING = "string"
    SWITCH = "switch"
    INTEGER = "number"
    DURATION = "duration"
    SIZE = "size"
    ENUM = "choice"
    WORDS = "words"


@dataclass(frozen=True, slots=True)
class Option:
    """Defaults are written as in the file; None = not set. `channel`: may be given as ``<channel>_<name>``.
    `unit`: of a number without one (d h m s, or b k m g). `minimum`, `maximum`: in seconds, bytes or as is.
    `ours`: a real Cyrus has no such option."""

    name: str
    kind: Kind
    default: str | None
    doc: str
    channel: bool = False
    unit: str = ""
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    old_names: tuple[str, ...] = ()
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Theme:
    """Options that stand together in the manual, in their order there."""

    title: str
    options: tuple[Option, ...]


STRING, SWITCH, INTEGER, DURATION, SIZE, ENUM, WORDS = Kind
