"""Read the lines of an imapd.conf(5): keys and values, nothing of their meaning.

The rules are those of Cyrus: ``name: value`` with the colon right after the name; leading and trailing
blanks of the line and of the value do not count; a line that ends in a backslash goes on in the next
(comments too); ``#`` begins a comment only at the start of a line; there is no quoting; ``@include:``
reads another file, each file at most once; an option given twice is an error, across files as well.
With CYRUS_PREFIX in the environment, ``$CYRUS_PREFIX/<file>`` is looked for first.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import ConfigError

_LINE = re.compile(r"(@?[A-Za-z0-9_-]+):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the file: lower-case `key`, `value`, and where it stands."""

    key: str
    value: str
    file: str
    line: int

    def error(self, problem: str) -> ConfigError:
        """The error of a bad value, ready to raise."""
        return ConfigError(f"{self.file}:{self.line}: {self.key}: {problem}")


def read_settings(path: str | Path) -> dict[str, Setting]:
    """All settings of the file and of those that it includes, by key in the order of the lines.

    Raises `ConfigError` for what Cyrus's own programs would refuse too.
    """
    settings: dict[str, Setting] = {}
    _read_file(str(path), settings, set(), "")
    return settings


def _read_file(name: str, settings: dict[str, Setting], seen: set[Path], where: str) -> None:
    path = _locate(name)
    real = path.resolve()
    if real in seen:
        raise ConfigError(f"{where}@include: {name} is included twice")
    seen.add(real)
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise ConfigError(f"{where}{name}: cannot read the configuration: {error.strerror}") from error
    for number, line in _logical_lines(text):
        place = f"{path}:{number}: "
        found = _LINE.fullmatch(line)
        if not found:
            word = line.split(maxsplit=1)[0][:40]
            raise ConfigError(f"{place}'{word}' is not an option name followed by a colon")
        key, value = found[1].lower(), found[2].strip()
        if "\0" in value:
            raise ConfigError(f"{place}{key}: the value holds a NUL")
        if not value:
            raise ConfigError(f"{place}{key}: the value is empty")
        if key == "@include":
            _read_file(value, settings, seen, place)
        elif key.startswith("@"):
            raise ConfigError(f"{place}{key}: no such directive, only @include is known")
        elif key in settings:
            first = settings[key]
            raise ConfigError(f"{place}{key}: given twice, first at {first.file}:{first.line}")
        else:
            settings[key] = Setting(key, value, str(path), number)


def _locate(name: str) -> Path:
    prefix = os.environ.get("CYRUS_PREFIX")
    if prefix:
        prefixed = Path(f"{prefix}/{name}")
        if prefixed.exists():
            return prefixed
    return Path(name)


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """(number of the first physical line, text) of everything that is neither blank nor comment."""
    lines: list[tuple[int, str]] = []
    held, first = "", 0
    physical = text.split("\n")
    for number, raw in enumerate(physical, 1):
        line = raw.removesuffix("\r")
        first = first or number
        if line.endswith("\\") and number < len(physical):
            held += line[:-1]
            continue
        whole = (held + line).strip()
        if whole and not whole.startswith("#"):
            lines.append((first, whole))
        held, first = "", 0
    return lines
