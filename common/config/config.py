"""`Config`: what imapd.conf says to one program, with types.

A value is looked for as ``<channel>_<option>`` where the option may have a channel, then as
``<program>_<option>``, then as ``<option>``, then in the table of `common.config.options`. Every value
that could be read is checked while loading, so that a bad one ends a program at its start and not at
night. Options of other Cyrus programs are left alone.

>>> Config.load("imapd.conf").string("sync_host", channel="north")      # doctest: +SKIP
'replica.example'
"""

from __future__ import annotations

import contextlib
import socket
import stat
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from cyrus_sync.common.config import values
from cyrus_sync.common.config.imapdconf import Setting, read_settings
from cyrus_sync.common.config.options import HOST_OPTIONS, OPTIONS, Kind, Option
from cyrus_sync.common.errors import ConfigError

DEFAULT_PATH = "/etc/imapd.conf"

_warned: set[str] = set()
"""Files of which it was said that everybody may read a password in them."""


class Config:
    """One configuration, seen by one program. Immutable; loading again makes a new one."""

    def __init__(self, path: Path, program: str, settings: dict[str, Setting]) -> None:
        self.path = path
        self.program = program
        self._settings = settings
        self._fold_old_names()
        self._check_values()
        self._check_directories()

    @classmethod
    def load(cls, path: str | Path = DEFAULT_PATH, program: str = "sync_client") -> Self:
        """Read and check `path`; raises `ConfigError` whose text begins ``file:line: ``."""
        config = cls(Path(path), program, read_settings(path))
        config._warn_of_open_passwords()
        return config

    def _warn_of_open_passwords(self) -> None:
        """Say, once in a process, that everybody may read a file with a password in it. No error: what works
        goes on working."""
        for setting in self._settings.values():
            secret = setting.key.endswith(("_password", "_secret_key"))
            if not secret or not setting.value or setting.file in _warned:
                continue
            with contextlib.suppress(OSError):
                if Path(setting.file).stat().st_mode & stat.S_IROTH:
                    _warned.add(setting.file)
                    text = f"warning: {setting.file}: everybody may read {setting.key}; chmod o-r"
                    print(f"{self.program}: {text}", file=sys.stderr, flush=True)

    # -- typed access; KeyError for an option that options.py does not declare

    def string(self, name: str, channel: str | None = None) -> str | None:
        """The text of a string or enum option, None if it is not set and has no default."""
        option = _declared(name, Kind.STRING, Kind.ENUM)
        found = self._value(option, channel)
        return None if found is None else str(found)

    def switch(self, name: str, channel: str | None = None) -> bool:
        return bool(self._value(_declared(name, Kind.SWITCH), channel))

    def integer(self, name: str, channel: str | None = None) -> int:
        return int(self._value(_declared(name, Kind.INTEGER), channel) or 0)

    def duration(self, name: str, channel: str | None = None) -> int:
        """In seconds."""
        return int(self._value(_declared(name, Kind.DURATION), channel) or 0)

    def size(self, name: str, channel: str | None = None) -> int:
        """In bytes."""
        return int(self._value(_declared(name, Kind.SIZE), channel) or 0)

    def words(self, name: str, channel: str | None = None) -> list[str]:
        return list(self._value(_declared(name, Kind.WORDS), channel) or [])

    def host_string(self, host: str, name: str) -> str | None:
        """``<shorthost>_<name>``: what is set for one host (its name up to the first dot) only."""
        if name not in HOST_OPTIONS:
            raise KeyError(name)
        setting = self._settings.get(f"{host.partition('.')[0].lower()}_{name}")
        return self._expand(setting.value) if setting else None

    def is_set(self, name: str, channel: str | None = None) -> bool:
        """True if the file itself gives the option to this program (and channel)."""
        return self._setting(OPTIONS[name], channel) is not None

    def is_channel_set(self, name: str, channel: str) -> bool:
        """True if the file gives ``<channel>_<name>`` itself."""
        return OPTIONS[name].channel and f"{channel.lower()}_{name}" in self._settings

    def prefixes_of(self, name: str) -> list[str]:
        """The channels (and programs) for which the file gives ``<prefix>_<name>``, in its order."""
        return [key.removesuffix(f"_{name}") for key in self._settings if key.endswith(f"_{name}")]

    def where(self, name: str, channel: str | None = None) -> str:
        """``file:line: key: `` of the setting, for an error that only its reader can find; the file
        alone where the default applies."""
        setting = self._setting(OPTIONS[name], channel)
        return f"{setting.file}:{setting.line}: {setting.key}: " if setting else f"{self.path}: {name}: "

    # -- what every program needs

    @cached_property
    def configdirectory(self) -> Path:
        return Path(self._settings["configdirectory"].value)

    @cached_property
    def partitions(self) -> dict[str, Path]:
        """Directory by partition name, in the order of the file."""
        return self.directories("partition-")

    def directories(self, prefix: str) -> dict[str, Path]:
        """What the options that begin with `prefix` say, by the rest of their names, in the file's order."""
        return {name: Path(value) for name, value in self.beginning_with(prefix).items()}

    def beginning_with(self, prefix: str) -> dict[str, str]:
        """The texts of the options that begin with `prefix`, by the rest of their names, in the file's
        order."""
        return {
            key.removeprefix(prefix): self._expand(setting.value)
            for key, setting in self._settings.items()
            if key.startswith(prefix)
        }

    @cached_property
    def defaultpartition(self) -> str:
        """`defaultpartition`, or ``default`` if there is such a partition, or the first one.

        `ConfigError` if the file names no partition at all."""
        if not self.partitions:
            raise ConfigError(f"{self.path}: partition-default: no partition is configured")
        named = self.string("defaultpartition")
        if named:
            return named.lower()
        return "default" if "default" in self.partitions else next(iter(self.partitions))

    @cached_property
    def servername(self) -> str:
        return self.string("servername") or socket.gethostname()

    # -- inside

    def _setting(self, option: Option, channel: str | None) -> Setting | None:
        if channel and option.channel:
            found = self._settings.get(f"{channel.lower()}_{option.name}")
            if found:
                return found
        return self._settings.get(f"{self.program}_{option.name}") or self._settings.get(option.name)

    def _value(self, option: Option, channel: str | None) -> Any:
        setting = self._setting(option, channel)
        if setting:
            return self._read(option, setting)
        return None if option.default is None else _parse(option, self._expand(option.default))

    def _read(self, option: Option, setting: Setting) -> Any:
        try:
            return _parse(option, self._expand(setting.value))
        except ValueError as error:
            raise setting.error(str(error)) from None

    def _expand(self, value: str) -> str:
        if value.startswith("{configdirectory}") and "configdirectory" in self._settings:
            return self._settings["configdirectory"].value + value.removeprefix("{configdirectory}")
        return value

    def _fold_old_names(self) -> None:
        """Settings under a name that Cyrus has given up count as the present one."""
        for option in OPTIONS.values():
            for prefix in ("", f"{self.program}_"):
                for old in option.old_names:
                    setting = self._settings.get(prefix + old)
                    if not setting:
                        continue
                    if prefix + option.name in self._settings:
                        raise setting.error(f"is the old name of {option.name}, which is given too")
                    self._settings[prefix + option.name] = setting

    def _check_values(self) -> None:
        by_channel = {name: option for name, option in OPTIONS.items() if option.channel}
        for key, setting in self._settings.items():
            option = OPTIONS.get(key) or OPTIONS.get(key.removeprefix(f"{self.program}_"))
            if option is None:
                option = next((by_channel[n] for n in by_channel if key.endswith(f"_{n}")), None)
            if option:
                self._read(option, setting)

    def _check_directories(self) -> None:
        if "configdirectory" not in self._settings:
            raise ConfigError(f"{self.path}: configdirectory: not set, and there is no default")
        for key in ("configdirectory", *(k for k in self._settings if k.startswith("partition-"))):
            if not self._expand(self._settings[key].value).startswith("/"):
                raise self._settings[key].error("is not an absolute path")
        for name in self.partitions:
            if not name.isalnum() or not name.isascii():
                raise self._settings[f"partition-{name}"].error("a partition's name is letters and digits")
        named = self.string("defaultpartition")
        if named and self.partitions and named.lower() not in self.partitions:
            raise ConfigError(f"{self.where('defaultpartition')}there is no partition-{named.lower()}")


def _declared(name: str, *kinds: Kind) -> Option:
    option = OPTIONS[name]
    if option.kind not in kinds:
        raise KeyError(f"{name} is declared as {option.kind.value}")
    return option


def _parse(option: Option, text: str) -> Any:
    found: Any = text
    match option.kind:
        case Kind.SWITCH:
            return values.switch(text)
        case Kind.INTEGER:
            found = values.integer(text)
        case Kind.DURATION:
            found = values.duration(text, option.unit or "s")
        case Kind.SIZE:
            found = values.size(text, option.unit or "b")
        case Kind.ENUM:
            return values.choice(text, option.choices)
        case Kind.WORDS:
            return values.words(text, option.choices)
        case Kind.STRING:
            return text
    if option.minimum is not None and found < option.minimum:
        raise ValueError(f"'{text}' is too small, the least is {option.minimum}")
    if option.maximum is not None and found > option.maximum:
        raise ValueError(f"'{text}' is too large, the most is {option.maximum}")
    return found
