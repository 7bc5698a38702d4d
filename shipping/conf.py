"""shipping.conf(5): bays, expiry, routes and helpers, by storage class.

One entry a line, keyword first; ``#`` begins a comment. An entry that is marked with a class may be given
for several classes, ``-default`` being the one of all others. What the file does not say has a default,
or is None and fails the operation that needs it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cyrus_sync.common.commands import reason
from cyrus_sync.common.config import values
from cyrus_sync.common.numbers import decimal
from cyrus_sync.shipping.errors import BadFileName, ShippingConfError
from cyrus_sync.shipping.names import check_host, same_host

DEFAULT_CLASS = "-default"
MAX_CLASSES = 64
_PORTS = ("CLEARCASE_MIN_PORT", "CLEARCASE_MAX_PORT")
DAY = 86400


@dataclass(slots=True)
class ShippingConf:
    """The entries of one file. Sizes in bytes, times in seconds."""

    path: Path
    max_data_size: int | None = 2097151 * 1024
    notification_program: str | None = None
    administrators: list[str] = field(default_factory=lambda: ["root"])
    bays: dict[str, list[Path]] = field(default_factory=dict)
    return_bays: dict[str, list[Path]] = field(default_factory=dict)
    expirations: dict[str, int] = field(default_factory=dict)
    routes: dict[str, str] = field(default_factory=dict)
    receipt_handlers: dict[str, str] = field(default_factory=dict)
    min_port: int | None = None
    max_port: int | None = None
    downhost_timeout: int = 0

    def bays_of(self, storage_class: str) -> list[Path]:
        """The storage bays of a class, or those of ``-default``; may be empty."""
        return self.bays.get(storage_class) or self.bays.get(DEFAULT_CLASS) or []

    def return_bays_of(self, storage_class: str) -> list[Path]:
        return self.return_bays.get(storage_class) or self.return_bays.get(DEFAULT_CLASS) or []

    def expiration(self, storage_class: str) -> int:
        """Seconds until an order of the class expires; 0 = never."""
        default = self.expirations.get(DEFAULT_CLASS, 14 * DAY)
        return self.expirations.get(storage_class, default)

    def next_hop(self, host: str) -> str:
        """The host to which a file for `host` goes first."""
        for name, hop in self.routes.items():
            if same_host(name, host):
                return hop
        # A route for all others leads nowhere if it is the destination itself.
        return self.routes.get(DEFAULT_CLASS, host)

    def receipt_handler(self, storage_class: str) -> str | None:
        return self.receipt_handlers.get(storage_class) or self.receipt_handlers.get(DEFAULT_CLASS)


def parse_conf(text: str, path: Path) -> ShippingConf:
    """Read the text of a file; `ShippingConfError` names file, line and reason."""
    conf = ShippingConf(path)
    seen: dict[str, int] = {}
    lines = dict.fromkeys(_PORTS, 0)
    for number, line in enumerate(text.split("\n"), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise ShippingConfError(f"{path}:{number}: {error}") from None
        if not words:
            continue
        keyword, arguments = words[0], words[1:]
        try:
            entry = _ENTRIES.get(keyword)
            if entry is None:
                raise ValueError(f"'{keyword}' is not a keyword of shipping.conf")
            read, classes = entry
            once = keyword if not classes else f"{keyword} {arguments[0] if arguments else ''}"
            if keyword in _ONCE and once in seen:
                raise ValueError(f"'{once}' is given in line {seen[once]} already")
            seen[once] = number
            if classes:
                _check_class(arguments)
            read(conf, arguments)
        except (ValueError, BadFileName) as error:
            raise ShippingConfError(f"{path}:{number}: {error}") from None
        if keyword in lines:
            lines[keyword] = number
    _check_whole(conf, max(lines.values()))
    return conf


def with_environment(conf: ShippingConf, environment: Mapping[str, str]) -> ShippingConf:
    """`conf` with the ports that are set in the environment. `ShippingConfError`."""
    if not any(environment.get(name) for name in _PORTS):
        return conf
    known = (conf.min_port, conf.max_port)
    values = [environment.get(name) or port for name, port in zip(_PORTS, known, strict=True)]
    lines = [f"{n} {shlex.quote(str(v))}" for n, v in zip(_PORTS, values, strict=True) if v]
    ports = parse_conf("\n".join(lines), Path("environment"))
    return replace(conf, min_port=ports.min_port, max_port=ports.max_port)


def load_conf(path: Path) -> ShippingConf:
    """Read a file that must be there."""
    try:
        return parse_conf(path.read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise ShippingConfError(f"{path}: cannot be read: {reason(error, path)}") from None


def _check_class(arguments: list[str]) -> None:
    if len(arguments) < 2:
        raise ValueError("a storage class (or -default) and a value are needed")
    name = arguments[0]
    if name != DEFAULT_CLASS and not re.fullmatch(r"[\w.+][\w.+-]*", name):
        raise ValueError(f"'{name}' cannot be the name of a storage class")


def _check_whole(conf: ShippingConf, line: int) -> None:
    where = f"{conf.path}:{line}: "
    if (conf.min_port is None) != (conf.max_port is None):
        raise ShippingConfError(f"{where}CLEARCASE_MIN_PORT and CLEARCASE_MAX_PORT need one another")
    if conf.min_port and conf.max_port and conf.max_port <= conf.min_port:
        raise ShippingConfError(f"{where}CLEARCASE_MAX_PORT is not larger than CLEARCASE_MIN_PORT")
    classes = {*conf.bays, *conf.return_bays, *conf.expirations, *conf.receipt_handlers}
    if len(classes) > MAX_CLASSES:
        raise ShippingConfError(f"{conf.path}: more than {MAX_CLASSES} storage classes")


def _one(arguments: list[str]) -> str:
    if len(arguments) != 1:
        raise ValueError(f"one value is needed, there are {len(arguments)}")
    return arguments[0]


def _number(text: str, least: int, most: int) -> int:
    number = decimal(text, most)
    if number is None or number < least:
        raise ValueError(f"'{text}' is not a number from {least} to {most}")
    return number


def _directory(text: str) -> Path:
    if not text.startswith("/"):
        raise ValueError(f"'{text}' is not an absolute path")
    return Path(text)


def _max_data_size(conf: ShippingConf, arguments: list[str]) -> None:
    size = values.size(" ".join(arguments), "k")
    if size < 0:
        raise ValueError("a size cannot be negative")
    conf.max_data_size = size or None


def _notification_program(conf: ShippingConf, arguments: list[str]) -> None:
    conf.notification_program = str(_directory(_one(arguments)))


def _administrator(conf: ShippingConf, arguments: list[str]) -> None:
    if not arguments:
        raise ValueError("an address is needed")
    for address in arguments:
        check_address(address)
    conf.administrators = list(arguments)


def check_address(address: str) -> str:
    """`address`, or `ValueError` if it could be taken for an option or for more than one address."""
    if not address or address[0] == "-" or re.search(r"[\x00-\x20\x7f,;<>|]", address):
        raise ValueError(f"{address!r} cannot be a mail address")
    return address


def _storage_bay(conf: ShippingConf, arguments: list[str]) -> None:
    conf.bays.setdefault(arguments[0], []).append(_directory(_one(arguments[1:])))


def _return_bay(conf: ShippingConf, arguments: list[str]) -> None:
    conf.return_bays.setdefault(arguments[0], []).append(_directory(_one(arguments[1:])))


def _expiration(conf: ShippingConf, arguments: list[str]) -> None:
    conf.expirations[arguments[0]] = _number(_one(arguments[1:]), 0, 36500) * DAY


def _route(conf: ShippingConf, arguments: list[str]) -> None:
    if len(arguments) < 2:
        raise ValueError("a next hop and at least one host are needed")
    hop = check_host(arguments[0])
    for host in arguments[1:]:
        name = host if host == DEFAULT_CLASS else check_host(host).lower()
        if name in conf.routes:
            raise ValueError(f"there is a route to {host} already, over {conf.routes[name]}")
        conf.routes[name] = hop


def _receipt_handler(conf: ShippingConf, arguments: list[str]) -> None:
    conf.receipt_handlers[arguments[0]] = str(_directory(_one(arguments[1:])))


def _min_port(conf: ShippingConf, arguments: list[str]) -> None:
    conf.min_port = _number(_one(arguments), 1024, 65534)


def _max_port(conf: ShippingConf, arguments: list[str]) -> None:
    conf.max_port = _number(_one(arguments), 1025, 65535)


def _downhost_timeout(conf: ShippingConf, arguments: list[str]) -> None:
    conf.downhost_timeout = _number(_one(arguments), 0, 525600) * 60


_Reader = Callable[[ShippingConf, list[str]], None]
_ENTRIES: dict[str, tuple[_Reader, bool]] = {
    "MAX-DATA-SIZE": (_max_data_size, False),
    "NOTIFICATION-PROGRAM": (_notification_program, False),
    "ADMINISTRATOR": (_administrator, False),
    "STORAGE-BAY": (_storage_bay, True),
    "RETURN-BAY": (_return_bay, True),
    "EXPIRATION": (_expiration, True),
    "ROUTE": (_route, False),
    "RECEIPT-HANDLER": (_receipt_handler, True),
    "CLEARCASE_MIN_PORT": (_min_port, False),
    "CLEARCASE_MAX_PORT": (_max_port, False),
    "DOWNHOST-TIMEOUT": (_downhost_timeout, False),
}
"""Keyword → how it is read, and whether a class comes first."""

_ONCE = set(_ENTRIES) - {"STORAGE-BAY", "RETURN-BAY", "ROUTE"}

KEYWORDS = tuple(_ENTRIES)
