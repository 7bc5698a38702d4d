"""``mailstore restore`` as a command, towards a running sync_server of ours."""

from __future__ import annotations

import os
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deadlines import scaled
from tests.interop.cyrus import ADMIN, PASSWORD
from tests.interop.ours import BIN, Ours, environment
from tests.interop.running import Finished, dying_with_us

from .conftest import MESSAGE, Site, later
from .damage import directory_of


@pytest.fixture(scope="module")
def target() -> Iterator[Ours]:
    with Ours.installed("target") as ours:
        yield ours
        ours.verify()


class Source(Site):
    """A store, and the configuration of a client of `target`."""

    def __init__(self, path: Path, target: Ours) -> None:
        self.user = f"u{zlib.crc32(bytes(path))}"
        super().__init__(
            path,
            f"sync_host: 127.0.0.1\nsync_port: {target.port}\nsync_authname: {ADMIN}\n"
            f"sync_password: {PASSWORD}\nsync_allowplaintext: yes\nunixhierarchysep: yes\n",
        )

    def restore(self, *args: str, stdin: bytes = b"") -> Finished:
        command = [*dying_with_us(), str(BIN / "mailstore"), "-C", str(self.conf), "restore", *args]
        done = subprocess.run(
            command, input=stdin, capture_output=True, timeout=scaled(60), env=environment(), check=False
        )
        return Finished(command, done.returncode, done.stdout.decode(), done.stderr.decode(), 0)


@pytest.fixture
def source(tmp_path: Path, target: Ours) -> Source:
    source = Source(tmp_path, target)
    user = source.user
    source.ok("create", f"user/{user}", f"user/{user}/Work")
    source.deliver(user, 3)
    return source


def held(target: Ours, user: str) -> bool:
    """Whether the target has the user."""
    return target.mailstore("ls", user).status == 0


@pytest.mark.covers("mailstore: commands and options", "restore", "restore --dry-run")
def test_it_shows_and_with_yes_does_and_then_has_nothing_to_do(source: Source, target: Ours) -> None:
    user = source.user
    shown = source.restore(user, "--dry-run").check()
    assert f"user/{user}: create with 3 messages" in shown.out
    assert "to be done at 127.0.0.1: 2 mailboxes, 3 messages" in shown.out
    assert not held(target, user), "a dry run changes nothing"
    done = source.restore(user, "--yes").check()
    assert done.out.splitlines()[-1] == "done"
    assert target.dump(user) == source.ok("dump", user).out
    again = source.restore(user, "--yes").check()
    assert again.out == "nothing to do at 127.0.0.1\n"


@pytest.mark.covers("mailstore: commands and options", "restore -n")
def test_n_restores_to_the_server_of_a_channel(source: Source, target: Ours) -> None:
    source.conf.write_text(source.conf.read_text().replace("sync_host:", "north_sync_host:"))
    assert source.restore(source.user, "--yes").status != 0
    source.restore(source.user, "-n", "north", "--yes").check()
    assert held(target, source.user)


@pytest.mark.covers("mailstore: commands and options", "restore -p")
@pytest.mark.parametrize("option", ["-p", "--partition"])
def test_p_names_the_partition_of_new_mailboxes(source: Source, target: Ours, option: str) -> None:
    refused = source.restore(source.user, option, "nowhere", "--yes")
    assert refused.status == 1 and "IMAP_PARTITION_UNKNOWN" in refused.err + refused.out
    source.restore(source.user, option, "default", "--yes").check()
    assert held(target, source.user)


@pytest.mark.covers("mailstore: commands and options", "restore --dry-run")
def test_without_a_terminal_and_without_yes_nothing_is_done(source: Source, target: Ours) -> None:
    user = source.user
    refused = source.restore(user, stdin=b"y\n")
    assert refused.status == 1
    assert "--yes" in refused.err
    assert not held(target, user)


def test_at_a_terminal_it_asks(source: Source, target: Ours) -> None:
    user = source.user
    for answer, status in ((b"n\n", 1), (b"y\n", 0)):
        ours, theirs = os.openpty()
        process = subprocess.Popen(
            [*dying_with_us(), str(BIN / "mailstore"), "-C", str(source.conf), "restore", user],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
        os.close(theirs)
        os.write(ours, answer)
        out, _ = process.communicate(timeout=scaled(60))
        os.close(ours)
        assert b"Do it? [y/N]" in out
        assert process.returncode == status, out
        assert held(target, user) == (status == 0)


@pytest.mark.covers("mailstore: commands and options", "restore --as", "restore --expunged")
def test_expunged_messages_of_one_mailbox_come_back_under_another_name(source: Source, target: Ours) -> None:
    user = source.user
    source.restore(user, "--yes").check()
    source.ok("expunge", f"user/{user}", "2:3")
    args = (f"user/{user}", "--as", f"user/{user}/Found", "--yes", "--expunged")
    assert "bring back 2 expunged messages" in source.restore(*args, "--since", "1h").check().out
    assert "nothing to do" in source.restore(*args, "--until", "1h").check().out
    assert MESSAGE in target.mailstore("show", f"user/{user}/Found", "4").check().out.encode()


@pytest.mark.covers("mailstore: commands and options", "restore --as-of")
def test_a_user_comes_back_as_of_a_time_even_if_he_was_deleted_since(source: Source, target: Ours) -> None:
    user = source.user
    later(source, 7200, user)
    then = source.ok("dump", user).out
    source.ok("flag", "-a", "\\Seen", f"user/{user}", "1")
    source.ok("expunge", f"user/{user}", "2")
    source.ok("rename", f"user/{user}/Work", f"user/{user}/Play")
    source.ok("delete", "--immediate", "-r", f"user/{user}")
    assert source.restore(user, "--yes").status == 67, "there is no such user"
    shown = source.restore(user, "--as-of", "1h", "--dry-run").check().out
    assert f"user/{user}: create with 3 messages" in shown and f"user/{user}/Work: create" in shown
    source.restore(user, "--as-of", "1h", "--yes").check()
    assert target.dump(user) == then
    only = source.restore(f"user/{user}", "--as-of", "1h", "--as", f"user/{user}/Then", "--yes").check()
    assert "3 messages" in only.out
    refused = source.restore(user, "--as-of", "9h", "--yes")
    assert refused.status == 1 and "the history begins at" in refused.err


@pytest.mark.covers("mailstore: commands and options", "restore --everybody")
def test_everybody_goes_to_an_empty_server_but_for_who_cannot_be_read(tmp_path: Path) -> None:
    with Ours.installed("empty") as empty:
        source = Source(tmp_path, empty)
        users = [f"u{number}" for number in range(9)]
        source.ok("create", *(f"user/{user}" for user in users), "news")
        for user in users:
            source.deliver(user, 2)
        then = {user: source.ok("dump", user).out for user in [*users, "shared:news"]}
        directory_of(source, "u4").joinpath("index.sqlite").write_bytes(b"no index")
        shown = source.restore("--everybody", "--dry-run")
        assert shown.status == 1 and "u3: 1 mailbox, 2 messages" in shown.out and not held(empty, "u3")
        assert source.restore("--everybody").status == 1, "nobody to ask"
        done = source.restore("--everybody", "--yes", "--jobs", "3")
        assert done.status == 1
        assert "u4" in done.err and "u3" not in done.err
        assert "9 owners restored (9 mailboxes, 16 messages, " in done.out and done.out.endswith(
            ", 1 failed\n"
        )
        for owner, text in then.items():
            assert (empty.mailstore("dump", owner).out == text) == (owner != "u4"), owner
        again = source.restore("--everybody", "--yes", "-j", "1")
        assert again.status == 1 and "0 owners restored" in again.out and "9 with nothing to do" in again.out


@pytest.mark.covers("mailstore: commands and options", "restore --to")
@pytest.mark.parametrize(
    ("args", "status", "why"),
    [
        (("nobody", "--yes"), 67, "no such user"),
        (("user/nobody/x", "--yes"), 67, "no such mailbox"),
        (("{user}", "--since", "1d"), 64, "--expunged"),
        (("{user}", "--expunged", "--since", "tomorrow"), 64, "neither a time"),
        (("{user}", "--expunged", "--since", "2024-02-01", "--until", "2024-01-01"), 64, "later"),
        (("user/{user}", "user/{user}/Work", "--as", "user/{user}/x"), 64, "one name"),
        (("{user}", "--to", "127.0.0.1:1", "--yes"), 1, "Can not connect"),
        (("--everybody", "--to", "127.0.0.1:1", "--yes"), 1, "Can not connect"),
        (("--everybody", "{user}"), 64, "without names"),
        (("--everybody", "--jobs", "0"), 64, "1 to 64"),
        (("{user}", "--to", "127.0.0.1/what"), 78, "unknown option"),
        (("user/{user}/Work", "--as", "user/nobody/Work", "--yes"), 1, "no user nobody"),
    ],
)
def test_what_makes_no_sense_is_refused(source: Source, args: tuple[str, ...], status: int, why: str) -> None:
    done = source.restore(*(arg.replace("{user}", source.user) for arg in args))
    assert done.status == status, done.err
    assert why in done.err + done.out
