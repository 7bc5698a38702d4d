"""This host's shipping: configuration, names, bays, key and log in one place."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Self

from cyrus_sync.common.config import Config
from cyrus_sync.common.config.imapdconf import read_settings
from cyrus_sync.common.directory import Directory, Tampered
from cyrus_sync.common.wire.tls_settings import ClientTLSSettings, ServerTLSSettings
from cyrus_sync.shipping.bays import INCOMING, OUTGOING, Bay
from cyrus_sync.shipping.conf import ShippingConf, load_conf, with_environment
from cyrus_sync.shipping.errors import ShippingError
from cyrus_sync.shipping.key import load_key
from cyrus_sync.shipping.log import ShippingLog
from cyrus_sync.shipping.names import check_host, same_host


@dataclass
class Site:
    """`names`: by which this host is known in orders, the first is the one it writes itself. `home` holds
    the default bays, markers and the ledger of arrivals, `family_directory` what other packages keep of the
    family that this host belongs to."""

    conf: ShippingConf
    names: tuple[str, ...]
    home: Path
    family_directory: Path
    log: ShippingLog
    key_file: Path
    listen: tuple[str, ...]
    contact_port: int
    sendmail: str
    config: Config
    import_on_arrival: bool = False
    clock: Callable[[], float] = field(default=time.time)
    _key: tuple[tuple[Path, int, int, int], bytes] | None = field(default=None, repr=False)

    @classmethod
    def from_config(cls, config: Config, program: str = "shipping_server") -> Self:
        """`ConfigError` for a bad shipping.conf; a missing one means the defaults, unless it was named."""
        path = Path(config.string("multisite_shipping_conf") or "")
        missing = not path.exists() and not config.is_set("multisite_shipping_conf")
        names = config.words("multisite_host") or [config.servername, socket.gethostname()]
        return cls(
            conf=with_environment(ShippingConf(path) if missing else load_conf(path), os.environ),
            names=tuple(dict.fromkeys(check_host(name) for name in names)),
            home=config.configdirectory / "shipping",
            family_directory=config.configdirectory / "multisite",
            log=ShippingLog(config.configdirectory / "log" / "shipping_server_log", program=program),
            key_file=Path(config.string("multisite_key_file") or ""),
            listen=tuple(config.words("multisite_listen")),
            contact_port=config.integer("multisite_contact_port"),
            sendmail=config.string("sendmail") or "",
            config=config,
            import_on_arrival=config.switch("multisite_import_on_arrival"),
        )

    def renew(self) -> None:
        """Read imapd.conf and shipping.conf anew. `ConfigError`: all stays as it was."""
        config = Config(self.config.path, self.config.program, read_settings(self.config.path))
        fresh = type(self).from_config(config, self.log.program)
        for one in fields(self):
            if one.name not in ("clock", "log", "_key"):
                setattr(self, one.name, getattr(fresh, one.name))

    @property
    def key(self) -> bytes:
        """The family key as its file has it now. A file that cannot be used any more leaves the key as it
        was, and is complained of once; `ShippingError` if there never was one."""
        stamp = self._key_stamp()
        if self._key is None or self._key[0] != stamp:
            try:
                self._key = stamp, load_key(self.key_file)
            except ShippingError as error:
                if self._key is None:
                    raise
                self._key = stamp, self._key[1]
                self.log.error(f"the family key stays as it was: {error}")
        return self._key[1]

    def _key_stamp(self) -> tuple[Path, int, int, int]:
        """What tells one state of the key's file from another."""
        try:
            state = self.key_file.stat()
        except OSError:
            return self.key_file, 0, 0, 0
        return self.key_file, state.st_ino, state.st_mtime_ns, state.st_ctime_ns

    @property
    def config_path(self) -> Path:
        return self.config.path.absolute()

    @property
    def server_tls(self) -> ServerTLSSettings | None:
        """With what this host receives under TLS; None: what comes is sealed with the family key."""
        return ServerTLSSettings.from_config(self.config)

    def client_tls(self, host: str) -> ClientTLSSettings:
        """What is expected of the certificate of `host`. Both ends have proved the family key, so it is
        looked at only where somebody has said whose certificates count."""
        settings = ClientTLSSettings.from_config(self.config, None, host)
        return settings if settings.ca_file or settings.ca_dir else replace(settings, verify=False)

    @property
    def name(self) -> str:
        return self.names[0]

    def is_me(self, host: str) -> bool:
        """True if `host` is a name of this host; a name without a dot may be the first part of it."""
        return any(
            same_host(host, name) or ("." not in host and same_host(host, name.partition(".")[0]))
            for name in self.names
        )

    # -- bays

    def bays(self, storage_class: str) -> list[Bay]:
        """Where files of the class come in and go out."""
        return self._bays(self.conf.bays_of(storage_class), "ms_ship")

    def return_bays(self, storage_class: str) -> list[Bay]:
        """The same for files on their way home."""
        return self._bays(self.conf.return_bays_of(storage_class), "ms_rtn")

    def all_bays(self, storage_class: str | None = None) -> list[Bay]:
        """Every bay, return bays too, each once; those of one class if it is given."""
        classes = [storage_class] if storage_class else ["-default", *self.conf.bays, *self.conf.return_bays]
        found = [bay for name in classes for bay in (*self.bays(name), *self.return_bays(name))]
        return list(dict.fromkeys(found))

    def in_a_bay(self, directory: Directory) -> bool:
        """True if files in `directory` are ours to move."""
        for bay in self.all_bays():
            for part in (INCOMING, OUTGOING):
                with contextlib.suppress(OSError, Tampered), bay.open(part) as opened:
                    if opened.same_as(directory):
                        return True
        return False

    def _bays(self, configured: list[Path], default: str) -> list[Bay]:
        if configured:
            return [Bay(path) for path in configured]
        return [Bay(self.home / default, made_by_us=True)]
