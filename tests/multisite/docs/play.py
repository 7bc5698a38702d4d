"""Plays a document: its blocks are run as they stand, at hosts that are directories with their own addresses.

What counts in a fenced block is its language and its first line:

``sh``, ``# at boston and bangalore``
    A script, run by sh(1) at each of these hosts, one after the other. It has to end well, unless the line
    says ``(exit status 1)``.
``text``
    What the script before has said on standard output and standard error together, at each of its hosts.
    ``…`` stands for anything within a line, or, alone, for any number of lines.
``conf``, ``# /etc/imapd.conf at boston``
    A file, written as it is; ``# added to …`` appends.
``cron``, ``# at boston``
    A crontab; each command in it is run once.

Paths like /etc, /var and /home lie below the directory of the host; /media is carried from host to host.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.deadlines import scaled, until

BIN = Path(sys.executable).parent
DOMAIN = ".example.org"

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_AT = re.compile(r"# (?:(added to )?(/\S+) )?at (\w+(?:(?:, | and )\w+)*)(?: \(exit status (\d+)\))?")
_CARRIED = re.compile(r"(?<![\w./}-])/(media)(?=/)")
_LOCAL = re.compile(r"(?<![\w./}-])/(etc|var|home)(?=/)")

COMMANDS = {
    "mailstore": 'exec {bin}/mailstore -C {conf} "$@"',
    "multitool": 'command=$1; shift; exec {bin}/multitool "$command" -C {conf} "$@"',
    "syncreplica": 'exec {bin}/syncreplica -C {conf} "$@"',
    "sync_export_list": 'exec {bin}/sync_export_list -C {conf} "$@"',
    "mkorder": 'exec {bin}/mkorder -C {conf} "$@"',
    "shipping_server": 'exec {bin}/shipping_server -C {conf} "$@"',
    "systemctl": """\
case "$*" in
"enable --now shipping_server"|"start shipping_server")
    shipping_server -receiver </dev/null >>{root}/receiver.out 2>&1 & echo $! >{root}/receiver.pid ;;
"stop shipping_server") kill "$(cat {root}/receiver.pid)"; rm {root}/receiver.pid ;;
"restart shipping_server") systemctl stop shipping_server; systemctl start shipping_server ;;
*) exit 64 ;;
esac""",
}
"""What stands first in PATH: the commands with the configuration of their host, and the only service."""


@dataclass(frozen=True)
class Block:
    """A fenced block. `shows`: what it is said to print, None if nothing is said."""

    language: str
    line: int
    hosts: tuple[str, ...]
    text: str
    file: str = ""
    appends: bool = False
    status: int = 0
    shows: str | None = None


@dataclass(frozen=True)
class Section:
    title: str
    blocks: tuple[Block, ...]


def sections(document: str) -> Iterator[Section]:
    """The parts of a document below headings of the second level, those without blocks too."""
    line = 1
    for part in re.split(r"^(?=## )", document, flags=re.MULTILINE):
        title = part.splitlines()[0].lstrip("# ")
        yield Section(title, tuple(_blocks(part, line)))
        line += part.count("\n")


def _blocks(text: str, first_line: int) -> Iterator[Block]:
    fences = list(_FENCE.finditer(text))
    for number, fence in enumerate(fences):
        language, content = fence.groups()
        line = first_line + text.count("\n", 0, fence.start()) + 1
        if language == "text":
            continue
        head, _, rest = content.partition("\n")
        at = _AT.fullmatch(head)
        if at is None:
            raise ValueError(f"line {line}: {head!r} does not say where")
        appends, file, hosts, status = at.groups()
        after = fences[number + 1] if number + 1 < len(fences) else None
        shows = after.group(2) if after and after.group(1) == "text" and language == "sh" else None
        yield Block(
            language,
            line,
            tuple(re.split(r", | and ", hosts)),
            rest,
            file or "",
            bool(appends),
            int(status or 0),
            shows,
        )


@dataclass
class World:
    """The hosts, by name, in the order of `addresses`; all have one contact port."""

    root: Path
    addresses: Mapping[str, str]
    port: int
    heard: list[str] = field(default_factory=list)
    """What was run and what it said, for whoever has to look for a mistake."""

    def __post_init__(self) -> None:
        for name in self.addresses:
            host = self.root / name
            for directory in ("etc", "var/lib/cyrus", "var/spool/cyrus", "var/backups", "home", "bin"):
                (host / directory).mkdir(parents=True)
            for command, text in COMMANDS.items():
                path = host / "bin" / command
                values = {"bin": BIN, "conf": host / "etc/imapd.conf", "root": host}
                for key, value in values.items():
                    text = text.replace(f"{{{key}}}", str(value))
                path.write_text(f"#!/bin/sh\n{text}\n")
                path.chmod(0o755)
        (self.root / "media/usb").mkdir(parents=True)

    # -- one block

    def play(self, block: Block) -> None:
        """AssertionError if it does not go as the document says."""
        for host in block.hosts:
            match block.language:
                case "conf":
                    self._write(host, block)
                case "cron":
                    for entry in block.text.splitlines():
                        self._run(host, block, entry.split(None, 5)[5])
                case "sh":
                    said = self._run(host, block, block.text)
                    if block.shows is not None:
                        shown = self._there(host, block.shows)
                        assert is_shown(said, shown), (
                            f"line {block.line} at {host} prints\n{self._here(host, said)}\n"
                            f"and not, as shown,\n{block.shows}"
                        )
                case other:
                    raise ValueError(f"line {block.line}: what is {other}?")

    def _write(self, host: str, block: Block) -> None:
        path = Path(self._there(host, block.file))
        text = self._there(host, block.text)
        if path.name == "imapd.conf" and not block.appends:
            text += f"multisite_listen: {self.addresses[host]}\nmultisite_contact_port: {self.port}\n"
        with path.open("a" if block.appends else "w") as file:
            file.write(text)

    def _run(self, host: str, block: Block, script: str) -> str:
        path = f"{self.root / host / 'bin'}:{BIN}:{os.environ.get('PATH', '/usr/bin:/bin')}"
        done = subprocess.run(
            ["sh", "-eu", "-c", self._there(host, script)],
            cwd=self.root / host / "home",
            env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=scaled(100),
            check=False,
        )
        self.heard.append(f"# at {host}\n{script}\n{self._here(host, done.stdout)}")
        last = "\n".join(self.heard[-3:])
        assert done.returncode == block.status, f"line {block.line} ends with {done.returncode}:\n{last}"
        if (self.root / host / "receiver.pid").exists():
            until(lambda: self._accepts(host), f"{host} receives")
        until(lambda: not self._arrived(), "what has arrived is imported")
        return done.stdout

    def _arrived(self) -> list[Path]:
        """Packets that a receiver is about to import."""
        return [
            path
            for config in self.root.glob("*/etc/imapd.conf")
            if "multisite_import_on_arrival: yes" in config.read_text()
            for path in config.parents[1].glob("var/lib/cyrus/shipping/ms_ship/incoming/sync_*")
        ]

    def _accepts(self, host: str) -> bool:
        try:
            socket.create_connection((self.addresses[host], self.port), timeout=scaled(2)).close()
        except OSError:
            return False
        return True

    # -- there, and in the document

    def _there(self, host: str, text: str) -> str:
        """As it is at the host: paths and names of hosts."""
        text = _CARRIED.sub(rf"{self.root}/\1", text)
        text = _LOCAL.sub(rf"{self.root}/{host}/\1", text)
        for name, address in self.addresses.items():
            text = text.replace(name + DOMAIN, address)
        return text

    def _here(self, host: str, text: str) -> str:
        """As the document has it."""
        text = text.replace(f"{self.root}/{host}/", "/").replace(f"{self.root}/", "/")
        for name, address in self.addresses.items():
            text = text.replace(address, name + DOMAIN)
        return text

    # -- the end

    def stop(self) -> None:
        """End the services."""
        for host in self.addresses:
            path = self.root / host / "receiver.pid"
            if path.exists():
                pid = int(path.read_text())
                command = Path(f"/proc/{pid}/cmdline")
                if command.exists() and str(self.root).encode() in command.read_bytes():
                    os.kill(pid, signal.SIGTERM)


def is_shown(said: str, shown: str) -> bool:
    """Whether `said` is what a document shows.

    >>> is_shown("one 1\\ntwo 2\\nthree\\n", "one …\\n…\\nthree\\n")
    True
    """
    pattern = "".join(
        r"(?:.*\n)*" if line.strip() == "…" else ".*".join(map(re.escape, line.split("…"))) + r"\n"
        for line in shown.splitlines()
    )
    return re.fullmatch(pattern, said) is not None
