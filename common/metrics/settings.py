"""What imapd.conf says of metrics. Reading it loads nothing that is slow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Self

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.listening import Address

LISTEN, FILE = "sync_metrics_listen", "sync_metrics_file"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """`listen`: where figures are told; `file`: where they are written, None for nowhere."""

    listen: tuple[Address, ...] = ()
    file: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.listen or self.file)

    def of_worker(self, number: int) -> Self:
        """Where one of several processes tells its own: the first as it is said, each other one a port
        further, or behind the name with its number."""
        if number == 1:
            return self
        listen = tuple(
            replace(one, path=f"{one.path}-{number}" if one.path else "", port=one.port + number - 1)
            for one in self.listen
        )
        file = self.file and self.file.with_name(f"{self.file.stem}-{number}{self.file.suffix}")
        return replace(self, listen=listen, file=file)

    @classmethod
    def from_config(cls, config: Config, name: str, channel: str | None = None) -> Self:
        """Of the program called `name` in figures (``client``). Raises `ConfigError` naming file and line."""
        try:
            listen = tuple(metrics_address(word) for word in config.words(LISTEN, channel))
        except ValueError as error:
            raise ConfigError(f"{config.where(LISTEN, channel)}{error}") from None
        said = config.string(FILE, channel)
        if said is not None and not said.startswith("/"):
            raise ConfigError(f"{config.where(FILE, channel)}is not an absolute path")
        return cls(listen, text_file(Path(said), name, channel) if said else None)


def metrics_address(text: str) -> Address:
    """A word of sync_metrics_listen: a port alone is one of the loopback interface. Raises ValueError.

    >>> str(metrics_address("9788")), str(metrics_address(":9788")), str(metrics_address("*:9788"))
    ('127.0.0.1:9788', '127.0.0.1:9788', '*:9788')
    """
    if text.isascii() and text.isdigit():
        text = f":{text}"
    address = Address.parse(text, -1, interface=LOOPBACK)
    if address.port < 0:
        raise ValueError(f"'{text}' has no port")
    return address


def text_file(said: Path, name: str, channel: str | None = None) -> Path:
    """The file of one program and channel: `said` itself, or one in it where that is a directory."""
    if not said.is_dir():
        return said
    return said / (f"cyrus_sync_{name}-{channel}.prom" if channel else f"cyrus_sync_{name}.prom")
