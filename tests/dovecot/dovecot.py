"""A real Dovecot that is unpacked, not installed: its imap process alone, on a pipe, for one Maildir.

Its programs look for libraries where we say, and its configuration comes by ``doveconf -e``. It refuses to
touch mail as root: as root the tests let ``nobody`` run it.
"""

from __future__ import annotations

import grp
import hashlib
import imaplib
import os
import pwd
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

_FETCHED = re.compile(
    rb"UID (?P<uid>\d+) FLAGS \((?P<flags>[^)]*)\) INTERNALDATE (?P<date>\"[^\"]*\") BODY\[\] \{\d+\}\Z"
)
_STATUS = re.compile(rb"(\w+) (\d+)")
_LIST = re.compile(rb'\((?P<flags>[^)]*)\) "(?P<separator>.)" (?P<name>.*)\Z')


def cache_directory() -> Path:
    """Where it is kept: where ``nobody`` can read it, if root runs the tests."""
    named = os.environ.get("CYRUS_SYNC_DOVECOT")
    if named:
        return Path(named)
    return Path("/var/cache" if os.geteuid() == 0 else Path.home() / ".cache") / "cyrus-sync" / "dovecot"


@cache
def why_unavailable() -> str:
    """Unpack it, if it is not there yet; why that could not be, "" if it could."""
    script = Path(__file__).with_name("install-dovecot")
    try:
        done = subprocess.run(
            [script, cache_directory()], capture_output=True, text=True, timeout=600, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else f"install-dovecot: {done.stderr.strip()[-300:] or 'failed'}"


class Message(NamedTuple):
    """What a client sees of a message; `flags` sorted and in lower case, without \\Recent."""

    uid: int
    flags: tuple[str, ...]
    internaldate: int
    guid: str


class Mailbox(NamedTuple):
    """What a client sees of a mailbox."""

    uidvalidity: int
    uidnext: int
    messages: tuple[Message, ...]


class Dovecot:
    """The Maildir ``maildir`` in a directory of its own. `escape` turns the plugin listescape on."""

    def __init__(self, home: Path, *, escape: bool = False) -> None:
        self.home = home
        self.maildir = home / "Maildir"
        self.log = home / "log"
        self.separator = "/" if escape else "."
        self._root = cache_directory()
        # Whoever runs the tests cannot be looked up in every machine's passwd.
        uid = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
        gid = pwd.getpwnam("nobody").pw_gid if os.geteuid() == 0 else os.getegid()
        self._ids = (uid, gid)
        user, group = pwd.getpwuid(uid).pw_name, grp.getgrgid(gid).gr_name
        (home / "dovecot.conf").write_text(
            f"base_dir = {home}/run\nlog_path = {self.log}\nssl = no\n"
            f"mail_location = maildir:{self.maildir}\n"
            f"mail_plugin_dir = {self._root}/usr/lib/dovecot/modules\n"
            f"mail_plugins = {'listescape' if escape else ''}\n"
            f"namespace inbox {{\n  inbox = yes\n  separator = {self.separator}\n}}\n"
            f"first_valid_uid = {min(uid, 500)}\nfirst_valid_gid = 0\nmail_uid = {uid}\nmail_gid = {gid}\n"
            f"default_login_user = {user}\ndefault_internal_user = {user}\ndefault_internal_group = {group}\n"
        )

    def give(self) -> None:
        """Let its process have what was written for it."""
        if os.geteuid() == 0:
            for path in (self.home, *self.home.rglob("*")):
                os.chown(path, *self._ids, follow_symlinks=False)

    @contextmanager
    def client(self) -> Iterator[imaplib.IMAP4]:
        """A client that is logged in. Afterwards its log may hold no complaint."""
        self.give()
        libraries = f"{self._root}/usr/lib/dovecot:{self._root}/usr/lib/x86_64-linux-gnu"
        command = [
            *("env", f"LD_LIBRARY_PATH={libraries}", f"HOME={self.home}", "USER=alice"),
            f"{self._root}/usr/bin/doveconf",
            *("-c", f"{self.home}/dovecot.conf", "-e", f"{self._root}/usr/lib/dovecot/imap"),
        ]
        if os.geteuid() == 0:
            user = ("--reuid", str(self._ids[0]), "--regid", str(self._ids[1]), "--clear-groups")
            command = ["setpriv", *user, *command]
        imap = imaplib.IMAP4_stream(f"exec {shlex.join(command)}")
        try:
            yield imap
        finally:
            imap.logout()
        text = self.log.read_text() if self.log.exists() else ""
        assert not re.search(r"Error|Warning|Panic|Fatal", text), text

    def mailboxes(self) -> dict[str, Mailbox]:
        """All that a client sees, by name."""
        with self.client() as imap:
            return {name: view(imap, name) for name in names(imap)}

    def subscriptions(self) -> set[str]:
        with self.client() as imap:
            return set(names(imap, "LSUB"))


def ok(answer: tuple[str, list[Any]]) -> list[Any]:
    """The data of an answer that must be OK."""
    assert answer[0] == "OK", answer
    return answer[1]


def quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def names(imap: imaplib.IMAP4, command: str = "LIST") -> list[str]:
    """Names of mailboxes that can be selected (or are subscribed)."""
    found = []
    for line in ok(imap.lsub() if command == "LSUB" else imap.list()):
        if line is None:
            continue
        text = b"".join(line) if isinstance(line, tuple) else line
        match = _LIST.match(text)
        assert match, text
        name = match["name"].decode()
        if name.startswith('"'):
            name = re.sub(r"\\(.)", r"\1", name[1:-1])
        if b"\\Noselect" not in match["flags"] or command == "LSUB":
            found.append(name)
    return found


def view(imap: imaplib.IMAP4, name: str) -> Mailbox:
    """One mailbox."""
    (status,) = ok(imap.status(quoted(name), "(UIDVALIDITY UIDNEXT)"))
    counters = dict(_STATUS.findall(status.rpartition(b"(")[2]))
    (count,) = ok(imap.select(quoted(name), readonly=True))
    messages = []
    if int(count):
        for item in ok(imap.uid("FETCH", "1:*", "(UID FLAGS INTERNALDATE BODY.PEEK[])")):
            if isinstance(item, tuple):
                messages.append(_message(*item))
    return Mailbox(int(counters[b"UIDVALIDITY"]), int(counters[b"UIDNEXT"]), tuple(messages))


def _message(head: bytes, body: bytes) -> Message:
    found = _FETCHED.search(head)
    assert found, head
    when = imaplib.Internaldate2tuple(b"INTERNALDATE " + found["date"])
    assert when is not None
    flags = {flag.lower() for flag in found["flags"].decode().split()} - {"\\recent"}
    return Message(
        int(found["uid"]), tuple(sorted(flags)), int(time.mktime(when)), hashlib.sha1(body).hexdigest()
    )


@contextmanager
def dovecot(*, escape: bool = False) -> Iterator[Dovecot]:
    """One with an empty home, which goes afterwards."""
    home = Path(tempfile.mkdtemp(prefix="cyrus-sync-dovecot-"))
    home.chmod(0o755)
    try:
        yield Dovecot(home, escape=escape)
    finally:
        shutil.rmtree(home)
