"""A machine that can lose its power: everything in one directory, and the real programs as processes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import owner_of
from cyrus_sync.common.stores import open_store
from cyrus_sync.common.stores.native.store import NativeStore
from tests.deadlines import scaled, until

BIN = Path(sys.executable).parent


def run(program: str, config: Path, *arguments: str | Path, stdin: bytes = b"") -> None:
    """A program, or a command of one ("multitool mkfamily"); it has to end with 0."""
    name, *command = program.split(" ")
    done = subprocess.run(
        [BIN / name, *command, "-C", config, *arguments],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=scaled(60),
    )
    assert done.returncode == 0, (program, arguments, done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def running(program: str, config: Path, *arguments: str, ready: Callable[[], object]) -> Iterator[None]:
    """A daemon, until the block ends; killed then, as by a power cut."""
    with (config.with_suffix(".said")).open("ab") as said:
        process = subprocess.Popen([BIN / program, "-C", config, *arguments], stdout=said, stderr=said)
        try:
            until(lambda: process.poll() is not None or ready(), f"{program} is there")
            assert process.poll() is None, (config.with_suffix(".said")).read_text()
            yield
        finally:
            process.kill()
            process.wait()


def message(text: str) -> bytes:
    return f"From: a@example.org\r\nSubject: {text}\r\n\r\n{text} {text * 40}\r\n".encode()


def opened(config: Path) -> NativeStore:
    return open_store(Config.load(config))


def subjects(store: NativeStore, mailbox: str) -> list[str]:
    """Of all messages of a mailbox that can be read; a message that cannot be is an error."""
    found: list[str] = []
    with store.read(owner_of(mailbox)) as reader:
        state = reader.mailbox(mailbox)
        for batch in reader.records(state.uniqueid) if state else ():
            for record in batch:
                body = reader.body(record.guid)
                assert body is not None
                data = body.data if isinstance(body.data, bytes) else b"".join(body.data)
                assert len(data) == record.size
                found.append(data.split(b"\r\n")[1].removeprefix(b"Subject: ").decode())
    return found
