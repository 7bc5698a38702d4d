"""Hosts for tests: a directory and a loopback address each, all with the same contact port and key."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cyrus_sync.common.config import Config
from cyrus_sync.shipping import mkorder
from cyrus_sync.shipping.cli import main
from cyrus_sync.shipping.order import Order
from cyrus_sync.shipping.service import serve
from cyrus_sync.shipping.site import Site
from tests.deadlines import until
from tests.forking import fork, have_children_forked

KEY = "5a" * 32


class Host:
    """One host. Its name is its address."""

    def __init__(self, root: Path, address: str, port: int, key: str = KEY) -> None:
        self.root = root
        self.name = address
        self.port = port
        self.home = root / "shipping"
        self.bay = self.home / "ms_ship"
        self.returns = self.home / "ms_rtn"
        self.log_file = root / "log" / "shipping_server_log"
        self.conf_file = root / "shipping.conf"
        self.config_file = root / "imapd.conf"
        self.mails = root / "mails"
        self.pid = 0
        root.mkdir()
        (root / "key").write_text(key)
        (root / "key").chmod(0o600)
        notifier = root / "notify"
        notifier.write_text(
            f'#!/bin/sh\n[ "$1 $3" = "-s -f" ] || exit 9\ns="$2"; f="$4"; shift 4\n'
            f'{{ echo "To: $*"; echo "Subject: $s"; echo; cat "$f"; echo ----; }} >> {self.mails}\n'
        )
        notifier.chmod(0o755)
        self.configure()

    def configure(self, *entries: str, options: Sequence[str] = ()) -> None:
        """Write the configuration with further `entries` of shipping.conf and `options` of imapd.conf."""
        lines = [f"NOTIFICATION-PROGRAM {self.root}/notify", "ADMINISTRATOR admin@example.org", *entries]
        self.conf_file.write_text("\n".join(lines) + "\n")
        self.config_file.write_text(
            f"configdirectory: {self.root}\nservername: {self.name}\nmultisite_host: {self.name}\n"
            f"multisite_key_file: {self.root}/key\nmultisite_listen: {self.name}\n"
            f"multisite_contact_port: {self.port}\n" + "".join(f"{line}\n" for line in options)
        )

    def site(self, clock: Callable[[], float] = time.time) -> Site:
        return replace(Site.from_config(Config.load(self.config_file, "shipping_server")), clock=clock)

    # -- the commands, in this process

    def shipping_server(self, *arguments: str | Path) -> int:
        return main(["-C", str(self.config_file), *map(str, arguments)])

    def mkorder(self, *arguments: str | Path) -> int:
        return mkorder.main(["-C", str(self.config_file), *map(str, arguments)])

    # -- the receiver

    def start(self, clock: Callable[[], float] = time.time) -> None:
        """Start the receiving side in a process; returns when it listens."""
        site = self.site(clock)
        reading, writing = os.pipe()

        def child() -> int:
            os.close(reading)
            have_children_forked(site)
            serve(site, lambda: os.write(writing, b"."))
            return 0

        self.pid = fork(child)
        os.close(writing)
        os.read(reading, 1)  # nothing if it has died at once
        os.close(reading)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.pid:
            os.kill(self.pid, number)
            os.waitpid(self.pid, 0)
            self.pid = 0

    # -- looking

    def incoming(self) -> dict[str, bytes]:
        return contents(self.bay / "incoming")

    def outgoing(self) -> list[str]:
        return sorted(contents(self.bay / "outgoing"))

    def came_home(self) -> dict[str, bytes]:
        return contents(self.returns / "incoming")

    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def mail(self) -> str:
        return self.mails.read_text() if self.mails.exists() else ""

    def packet(self, name: str, data: bytes, *destinations: str, arguments: Sequence[str] = ()) -> Path:
        """A file in outgoing with its order, as an export leaves it; the order."""
        source = self.root / "src"
        source.mkdir(exist_ok=True)
        (source / name).write_bytes(data)
        assert self.mkorder("-data", source / name, "-ship", "-copy", *arguments, *destinations) == 0
        (source / name).unlink()
        return self.bay / "outgoing" / f"sh_o_{name.replace(':', '.')}"

    def order(self, name: str) -> Order:
        return Order.load(self.bay / "outgoing" / f"sh_o_{name}")


def contents(directory: Path) -> dict[str, bytes]:
    """The files of a directory; unfinished ones do not count."""
    if not directory.is_dir():
        return {}
    return {p.name: p.read_bytes() for p in directory.iterdir() if not p.name.startswith(".ms_tmp_")}


def unfinished(host: Host) -> list[str]:
    return [p.name for p in host.root.rglob(".ms_tmp_*")]


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """For what another process does."""
    until(condition, "another process does it", seconds)


def age(path: Path, seconds: int) -> None:
    """Make the order in `path` expire `seconds` before now."""
    order = Order.load(path)
    path.write_bytes(replace(order, expires=int(time.time()) - seconds).text())
