"""What a disk holds after a power cut, out of a recording of what programs did to it.

`Recording` has child processes write down each write, truncation, fsync and change of a name below a
directory (`record.c`, loaded with LD_PRELOAD). `Disk` plays a recording again and knows of each file and
directory what is *live*, what is *durable* (as it was at its last fsync), and what has been done since. POSIX
promises no more: fsync of a file brings its octets to disk and not its name; that takes one of the directory.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

_SOURCE = Path(__file__).with_name("record.c")
_INODE = re.compile(rb'("(?:inode|here|onward)": )(\d+)')


class Event(NamedTuple):
    """One record; see `record.c`. "mark" is a test's own: `name` is what was just acknowledged."""

    kind: str
    inode: int
    number: int
    other: int
    name: str
    new_name: str
    data: bytes


class Recording:
    """`with Recording(root, scratch) as recording: …` records the processes that are started within."""

    def __init__(self, root: Path, scratch: Path) -> None:
        """`root` may hold something already; that counts as durable. `scratch`: a directory elsewhere."""
        self.root = root
        self.path = scratch / "recording"
        self._library = scratch / "record.so"
        self._scratch = scratch

    def __enter__(self) -> Self:
        subprocess.run(
            ["gcc", "-O1", "-shared", "-fPIC", "-o", self._library, _SOURCE, "-ldl"], check=True, timeout=60
        )
        self.path.write_bytes(b"")
        self.start = Disk.of(self.root)
        self._before = {key: os.environ.get(key) for key in ("LD_PRELOAD", "POWER_ROOT", "POWER_LOG")}
        os.environ.update(
            LD_PRELOAD=str(self._library), POWER_ROOT=str(self.root.resolve()), POWER_LOG=str(self.path)
        )
        return self

    def __exit__(self, *_: object) -> None:
        for key, value in self._before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value

    def mark(self, what: str) -> None:
        """Something has been acknowledged."""
        with self.path.open("ab", buffering=0) as file:
            file.write(f"mark 0 0 0 0 .{what.encode().hex()} .\n".encode())

    def events(self) -> Iterator[Event]:
        """All that has been recorded so far; AssertionError for a call that `record.c` cannot follow."""
        content = self.path.read_bytes()
        at = 0
        while at < len(content):
            end = content.index(b"\n", at)
            kind, inode, number, other, length, name, new_name = content[at:end].decode("ascii").split(" ")
            at = end + 1 + int(length)
            texts = [os.fsdecode(bytes.fromhex(text[1:])) for text in (name, new_name)]
            assert kind != "unknown", f"{texts[0]} is not followed"
            yield Event(kind, int(inode), int(number), int(other), *texts, content[end + 1 : at])


@dataclass
class _File:
    live: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Since the last fsync: (offset, octets), or (length, None) for a truncation."""

    def do(self, offset: int, data: bytes | None) -> None:
        _do(self.live, offset, data)
        self.pending.append((offset, data))

    def sync(self) -> None:
        self.durable = bytes(self.live)
        self.pending.clear()

    def after(self, chance: random.Random | None) -> bytes:
        """What is on disk: with `chance`, any of what was not synced may be there too."""
        found = bytearray(self.durable)
        for offset, data in self.pending if chance else ():
            if chance and chance.random() < 0.5:
                _do(found, offset, data)
        return bytes(found)


@dataclass
class _Directory:
    live: dict[str, int] = field(default_factory=dict)
    durable: dict[str, int] = field(default_factory=dict)
    pending: list[tuple[tuple[str, int], ...]] = field(default_factory=list)
    """Since the last fsync: changes that go together, each (name, number), number 0 for a name that went."""

    def do(self, *changes: tuple[str, int]) -> None:
        _name(self.live, changes)
        self.pending.append(changes)

    def sync(self) -> None:
        self.durable = dict(self.live)
        self.pending.clear()

    def after(self, chance: random.Random | None) -> dict[str, int]:
        """The names on disk: with `chance`, some of those changes too, the first before the later ones."""
        found = dict(self.durable)
        for changes in self.pending[: chance.randrange(len(self.pending) + 1)] if chance else ():
            _name(found, changes)
        return found


def _do(content: bytearray, offset: int, data: bytes | None) -> None:
    end = offset if data is None else offset + len(data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset:end] = data


def _name(names: dict[str, int], changes: tuple[tuple[str, int], ...]) -> None:
    for name, inode in changes:
        if inode:
            names[name] = inode
        else:
            names.pop(name, None)


class Disk:
    """All below one directory. Files are known by inode, so that a replay needs no descriptors; and since the
    inode of a file that was removed is used again, while its name may be on the disk still, by a number of
    our own."""

    def __init__(self, root: int) -> None:
        self.files: dict[int, _File] = {}
        self.directories: dict[int, _Directory] = {}
        self._numbers: dict[int, int] = {}
        self.root = self._new(root, directory=True)

    def _new(self, inode: int, *, directory: bool = False) -> int:
        number = self._numbers[inode] = len(self.files) + len(self.directories) + 1
        if directory:
            self.directories[number] = _Directory()
        else:
            self.files[number] = _File()
        return number

    @classmethod
    def of(cls, root: Path) -> Self:
        """A directory as it is now, all of it durable."""
        disk = cls(root.stat().st_ino)
        for path in sorted(root.rglob("*")):
            parent = disk.directories[disk._numbers[path.parent.stat().st_ino]]
            number = disk._new(path.stat().st_ino, directory=path.is_dir())
            if path.is_file():
                disk.files[number].do(0, path.read_bytes())
                disk.files[number].sync()
            parent.do((path.name, number))
            parent.sync()
        return disk

    def play(self, event: Event) -> None:
        kind = event.kind
        if kind in ("create", "mkdir", "link"):
            self._name(event)
        elif kind == "unlink":
            parent = self.directories[self._numbers[event.inode]]
            if event.name in parent.live and parent.live[event.name] == self._numbers.get(event.other):
                parent.do((event.name, 0))
        elif kind == "rename":
            self._rename(event)
        elif kind in ("sync", "write", "truncate"):
            # A file without a name has no other number yet.
            number = self._numbers.get(event.inode) or self._new(event.inode)
            if kind == "sync":
                (self.directories.get(number) or self.files[number]).sync()
            else:
                self.files[number].do(event.number, event.data if kind == "write" else None)

    def _name(self, event: Event) -> None:
        parent = self.directories[self._numbers[event.inode]]
        if event.name in parent.live and parent.live[event.name] == self._numbers.get(event.other):
            return  # two processes at once
        if event.kind != "link":
            self._new(event.other, directory=event.kind == "mkdir")
        parent.do((event.name, self._numbers[event.other]))

    def _rename(self, event: Event) -> None:
        source = self.directories[self._numbers[event.inode]]
        target = self.directories[self._numbers[event.number]]
        moved = self._numbers[event.other]
        gone = ((event.name, 0),) if source.live.get(event.name) == moved else ()
        if source is target:
            source.do(*gone, (event.new_name, moved))
        else:
            target.do((event.new_name, moved))
            source.do(*gone)

    def write(self, root: Path, chance: random.Random | None = None) -> None:
        """Put into the place of `root` what a power cut would leave now. With `chance`, some of what was not
        synced has come to disk by itself."""
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(mode=0o700)
        written: dict[int, Path] = {}
        below = [(self.root, root)]
        while below:
            number, path = below.pop()
            for name, found in self.directories[number].after(chance).items():
                if found in self.directories:
                    (path / name).mkdir(mode=0o755)
                    below.append((found, path / name))
                elif found in written:
                    os.link(written[found], path / name)
                elif found in self.files:
                    written[found] = path / name
                    (path / name).write_bytes(self.files[found].after(chance))
                    (path / name).chmod(0o600)
        # A disk keeps the inodes that a ledger names; a copy cannot choose its own.
        now = {
            b"%d" % old: b"%d" % written[new].stat().st_ino
            for old, new in self._numbers.items()
            if new in written
        }
        for ledger in root.rglob("received/*"):
            data = ledger.read_bytes()
            ledger.write_bytes(_INODE.sub(lambda found: found[1] + now.get(found[2], found[2]), data))
        # The machine has started again: that is how a store sees it.
        for note in root.rglob("unlogged/swept"):
            note.write_text("another boot\n")


@dataclass(frozen=True)
class Cut:
    """A power cut: `told` is everything that had been acknowledged until then."""

    number: int
    told: list[str]
    disk: Disk
    chance: random.Random | None


def cuts(recording: Recording, *, between: int, seed: int = 0) -> Iterator[Cut]:
    """A cut right after each acknowledgement, with all lost that was not synced and with some of it lost, and
    `between` more at any other time."""
    chance = random.Random(seed)
    events = list(recording.events())
    marks = {number for number, event in enumerate(events) if event.kind == "mark"}
    others = sorted(set(range(len(events))) - marks)
    chosen = set(chance.sample(others, min(between, len(others))))
    disk, told = recording.start, list[str]()
    for number, event in enumerate(events):
        disk.play(event)
        if event.kind == "mark":
            told.append(event.name)
        if number in marks:
            yield Cut(number, list(told), disk, None)
        if number in marks or number in chosen:
            yield Cut(number, list(told), disk, random.Random(f"{seed}/{number}"))
