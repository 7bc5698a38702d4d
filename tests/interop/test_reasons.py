"""What our server cannot do it says behind its NO: a real client, and our own, pass the reason on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store

from .cyrus import Cyrus
from .fill import message
from .ours import Ours


@pytest.fixture(scope="module")
def replica(real_cyrus: None) -> Iterator[Ours]:
    with Ours.installed("reasons") as ours:
        yield ours


def directory(ours: Ours, user: str) -> Path:
    found = open_store(Config.load(ours.config), readonly=True).directory_of(Owner("user", user))
    assert found is not None
    return found


def deliver(master: Cyrus, user: str, *texts: str) -> None:
    with master.imap(user) as imap:
        imap.append("INBOX", *(message(text) for text in texts))


def test_a_real_client_hears_of_a_damaged_index_and_goes_on_with_others(
    master: Cyrus, replica: Ours, user: str
) -> None:
    other = f"{user}b"
    master.create_user(user, other)
    for name in (user, other):
        deliver(master, name, "one")
    master.sync_client("-u", user, other, to=replica.csync).check()
    replica.stop()
    index = directory(replica, user) / "index.sqlite"
    with index.open("r+b") as file:
        file.write(b"\xff" * 4096)
    replica.start()
    for name in (user, other):
        deliver(master, name, "two")
    done = master.sync_client("-v", "-v", "-u", user, other, to=replica.csync)
    assert done.status != 0
    assert "NO index damaged" in done.out + done.err
    with replica.store.read(Owner("user", other)) as reader:
        found = reader.mailbox(f"user.{other}")
    assert found is not None and found.last_uid == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file system that is mounted read-only")
def test_a_read_only_file_system_is_named_to_a_real_client_and_to_ours(
    master: Cyrus, replica: Ours, user: str
) -> None:
    master.create_user(user)
    deliver(master, user, "one")
    master.sync_client("-u", user, to=replica.csync).check()
    mail = replica.root / "mail"
    subprocess.run(["mount", "--bind", mail, mail], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", mail], check=True)
        deliver(master, user, "two")
        real = master.sync_client("-v", "-v", "-u", user, to=replica.csync)
        assert real.status != 0
        said = real.out + real.err
        assert "read-only" in said.lower(), said
    finally:
        subprocess.run(["umount", "-l", mail], check=True)
    master.sync_client("-u", user, to=replica.csync).check()


def test_a_folder_without_inbox_is_named(master: Cyrus, replica: Ours, user: str) -> None:
    with Ours.installed("source", serving=False) as source:
        source.mailstore("create", f"user/{user}", f"user/{user}/Work").check()
        done = source.sync_client("-m", f"user/{user}/Work", to=replica.csync)
    assert done.status == 1
    assert f"user {user} has no INBOX" in done.err or f"{user} has no INBOX" in done.err
