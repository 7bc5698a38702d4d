"""A whole Dovecot of a release: IMAP, LMTP, ManageSieve, ``doveadm``, users with quotas and ACLs, a master.

With the plugin acl a master user would have his own rights, which are none: ``acl_user`` gives him the
user's.

Its programs run in a root that ``install-roots`` made (on the machine itself they would put Cyrus out), with
a directory of their own, on free ports of 127.0.0.1, until the ``with`` ends::

    with running("2.4", layout="mdbox") as server:
        server.add_user("alice")
        with server.imap("alice") as imap:
            imap.append("INBOX", None, None, MESSAGE)
        server.doveadm("expunge", "-u", "alice", "mailbox", "INBOX", "all")
"""

from __future__ import annotations

import fcntl
import imaplib
import os
import pwd
import shutil
import signal
import smtplib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deadlines import scaled, until
from tests.interop.running import Finished, default_ground, finish
from tests.ports import free_port

ROOTS = Path(os.environ.get("CYRUS_SYNC_ROOTS", "/var/cache/cyrus-sync/roots"))
SUITES = {"2.3": "bookworm", "2.4": "trixie"}
"""Debian's suite of each release."""

RELEASES = tuple(SUITES)
PASSWORD = "secret"
MASTER, MASTER_PASSWORD = "master", "mastersecret"
PATIENCE = 900
"""Seconds that a test waits for a root that is being made."""

_IN_ROOT = Path(__file__).with_name("in-root")
_PLACES = {
    "maildir": ("maildir", "~/Maildir"),
    "mdbox": ("mdbox", "~/mdbox"),
    "sdbox": ("sdbox", "~/sdbox"),
}


def root_of(release: str) -> Path:
    """Where that release is, as soon as nobody is at making it any more."""
    lock = ROOTS / "making-dovecot.lock"
    end = time.monotonic() + PATIENCE
    while lock.exists():
        with lock.open() as held:
            try:
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < end, f"Dovecot {release} is still being made: see {lock}"
        time.sleep(0.2)
    return ROOTS / f"dovecot-{SUITES[release]}"


def why_not_running(release: str) -> str:
    """Why it cannot be run here; "" if it can."""
    if os.geteuid() != 0:
        return f"only root can run Dovecot {release} in a root of its own"
    root = root_of(release)
    if not (root / ".dovecot-version").exists():
        return f"{root} is not there (tests/dovecot/install-roots {SUITES[release]})"
    return ""


@dataclass(frozen=True)
class Setup:
    """How a server is set up. `separator` and `prefix` are those of the user's namespace; `escape` lets names
    have the separator in them (``listescape``); `more` stands at the end of its configuration."""

    layout: str = "maildir"
    separator: str = "/"
    prefix: str = ""
    escape: bool = False
    more: str = ""


class Server:
    """One that runs, or has been stopped. `home` is its own directory; users' mail belongs to `ids`."""

    def __init__(self, release: str, home: Path, setup: Setup) -> None:
        self.release = release
        self.home = home
        self.setup = setup
        self.imap_port, self.lmtp_port, self.sieve_port = (free_port() for _ in range(3))
        self.log = home / "log"
        nobody = pwd.getpwnam("nobody")
        self.ids = (nobody.pw_uid, nobody.pw_gid)
        self._root = root_of(release)
        self._conf = home / "dovecot.conf"
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("users", "master-users"):
            (home / name).touch()
        (home / "master-users").write_text(f"{MASTER}:{{PLAIN}}{MASTER_PASSWORD}\n")
        (home / "home").mkdir()
        os.chown(home / "home", *self.ids)
        self.configure("")

    @property
    def version(self) -> str:
        """As its package has it, without the epoch: ``2.4.1+dfsg1-6``."""
        return (self._root / ".dovecot-version").read_text().strip().partition(":")[2]

    # -- users and their mail

    def add_user(self, name: str, password: str = PASSWORD, *, wait: bool = True) -> Path:
        """A user, or a new password of one; his home directory. `wait` until he can log in."""
        lines = [line for line in self._users() if not line.startswith(f"{name}:")]
        place = self.user_home(name)
        lines.append(f"{name}:{{PLAIN}}{password}:{self.ids[0]}:{self.ids[1]}::{place}")
        self._write_users(lines)
        if not place.exists():
            place.mkdir()
            os.chown(place, *self.ids)
        if self._process and wait:  # it looks at the file once a second
            until(lambda: self._may_log_in(name, password), f"{name} can log in", every=0.1)
        return place

    def _may_log_in(self, name: str, password: str) -> bool:
        return self.doveadm("auth", "test", name, password, check=False).status == 0

    def remove_user(self, name: str) -> None:
        """He cannot log in any more; his mail stays."""
        self._write_users([line for line in self._users() if not line.startswith(f"{name}:")])
        if self._process:
            self.doveadm("auth", "cache", "flush", check=False)

    def user_home(self, name: str) -> Path:
        return self.home / "home" / name

    def maildir(self, name: str) -> Path:
        """Where his mail is, whatever the layout."""
        return self.user_home(name) / _PLACES[self.setup.layout][1].removeprefix("~/")

    def give(self, *paths: Path) -> None:
        """Let its processes have what was written for them (all homes, if none is named)."""
        for top in paths or (self.home / "home",):
            for path in (top, *top.rglob("*")):
                os.chown(path, *self.ids, follow_symlinks=False)

    def _users(self) -> list[str]:
        return (self.home / "users").read_text().splitlines()

    def _write_users(self, lines: list[str]) -> None:
        # It looks at time and size of the file: a new file has another time, even within a second.
        new = self.home / "users.new"
        new.write_text("".join(f"{line}\n" for line in lines))
        new.rename(self.home / "users")

    def drop_mail(self, name: str) -> None:
        """As if he had never had any."""
        shutil.rmtree(self.user_home(name))

    # -- the processes

    def configure(self, more: str) -> None:
        """Write its configuration with these lines at the end; a running one takes them by `restart`."""
        write = _conf_2_3 if self.release == "2.3" else _conf_2_4
        self._conf.write_text(f"{write(self)}{self.setup.more}\n{more}\n")

    def start(self) -> None:
        command = [str(_IN_ROOT), str(self._root), "dovecot", "-F", "-c", str(self._conf)]
        with (self.home / "output").open("wb") as sink:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd="/"
            )
        until(self._listens, f"Dovecot {self.release} listens", every=0.02)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.home / "output").read_text() + self.complaints("")
        try:
            for port in (self.imap_port, self.lmtp_port, self.sieve_port):
                socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End it by its process id; its children end with it."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(scaled(10))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """As a machine that fails."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    @property
    def process(self) -> int | None:
        """The id of its first process, None while it is stopped."""
        return self._process.pid if self._process is not None else None

    def restart(self) -> None:
        self.stop()
        self.start()

    def complaints(self, marks: str = "Error:|Warning:|Panic:|Fatal:") -> str:
        """Lines of its log with one of `marks` ("": all of them)."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(line for line in text.splitlines() if any(mark in line for mark in marks.split("|")))

    # -- whoever talks with it

    def doveadm(self, *words: str, check: bool = True, stdin: bytes = b"") -> Finished:
        """``doveadm``; if `check`, it must succeed. Its stdout is `Finished.out`."""
        command = [str(_IN_ROOT), str(self._root), "doveadm", "-c", str(self._conf), *words]
        done = finish(command, 60, {}, stdin)
        return done.check() if check else done

    @contextmanager
    def imap(self, user: str, password: str = PASSWORD, *, master: bool = False) -> Iterator[imaplib.IMAP4]:
        """A client that is logged in as `user`; with `master`, as the master user for him."""
        client = imaplib.IMAP4("127.0.0.1", self.imap_port, timeout=scaled(30))
        try:
            if master:
                client.login(f"{user}*{MASTER}", MASTER_PASSWORD)
            else:
                client.login(user, password)
            yield client
        finally:
            try:
                client.logout()
            except (OSError, imaplib.IMAP4.error):
                client.shutdown()

    def deliver(self, user: str, message: bytes, *, detail: str = "") -> None:
        """A message by LMTP, to his INBOX or (``user+detail``) as Sieve has it."""
        with smtplib.LMTP("127.0.0.1", self.lmtp_port, timeout=scaled(30)) as lmtp:
            address = f"{user}+{detail}" if detail else user
            lmtp.sendmail("sender@example.org", [f"<{address}>"], message)


def _common(server: Server) -> str:
    """What both releases call the same."""
    return f"""
base_dir = {server.home}/run
state_dir = {server.home}/state
log_path = {server.log}
log_timestamp = "%Y-%m-%d %H:%M:%S "
ssl = no
listen = 127.0.0.1
protocols = imap lmtp sieve
first_valid_uid = {min(server.ids[0], 500)}
first_valid_gid = 0
auth_master_user_separator = *
auth_failure_delay = 0
service imap-login {{
  inet_listener imap {{
    port = {server.imap_port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {server.lmtp_port}
  }}
}}
service managesieve-login {{
  inet_listener sieve {{
    port = {server.sieve_port}
  }}
}}
service stats {{
  client_limit = 500
}}
"""


def _special_use() -> str:
    uses = {"Drafts": "\\Drafts", "Sent": "\\Sent", "Junk": "\\Junk", "Trash": "\\Trash"}
    return "".join(f"  mailbox {name} {{\n    special_use = {use}\n  }}\n" for name, use in uses.items())


def _conf_2_3(server: Server) -> str:
    setup = server.setup
    kind, place = _PLACES[setup.layout]
    plugins = "quota acl" + (" listescape" if setup.escape else "")
    return f"""{_common(server)}
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_location = {kind}:{place}
mail_plugins = {plugins}
mail_attribute_dict = file:%h/dovecot-attributes
imap_metadata = yes
namespace inbox {{
  inbox = yes
  separator = {setup.separator}
  prefix = {setup.prefix}
{_special_use()}}}
protocol imap {{
  mail_plugins = {plugins} imap_quota imap_acl
}}
protocol lmtp {{
  mail_plugins = {plugins} sieve
}}
recipient_delimiter = +
lmtp_save_to_detail_mailbox = yes
lda_mailbox_autocreate = yes
plugin {{
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:storage=1G:messages=100000
  acl = vfile
  acl_user = %u
  sieve = file:~/sieve;active=~/.dovecot.sieve
}}
passdb {{
  driver = passwd-file
  args = {server.home}/master-users
  master = yes
}}
passdb {{
  driver = passwd-file
  args = {server.home}/users
}}
userdb {{
  driver = passwd-file
  args = {server.home}/users
}}
"""


def _conf_2_4(server: Server) -> str:
    setup = server.setup
    kind, place = _PLACES[setup.layout]
    escape = 'mailbox_list_storage_escape_char = "\\\\"' if setup.escape else ""
    return f"""dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
{_common(server)}
auth_allow_cleartext = yes
auth_mechanisms = plain login
mail_driver = {kind}
mail_path = {place}
{escape}
mail_plugins {{
  quota = yes
  acl = yes
}}
mail_attribute {{
  dict file {{
    path = %{{home}}/dovecot-attributes
  }}
}}
namespace inbox {{
  inbox = yes
  separator = {setup.separator}
  prefix = {setup.prefix}
{_special_use()}}}
protocol imap {{
  imap_metadata = yes
  mail_plugins {{
    imap_quota = yes
    imap_acl = yes
  }}
}}
protocol lmtp {{
  mail_plugins {{
    sieve = yes
  }}
}}
recipient_delimiter = +
lmtp_save_to_detail_mailbox = yes
lda_mailbox_autocreate = yes
acl_driver = vfile
acl_user = %{{user}}
quota "User quota" {{
  driver = count
}}
quota_storage_size = 1G
quota_message_count = 100000
sieve_script personal {{
  type = personal
  driver = file
  path = ~/sieve
  active_path = ~/.dovecot.sieve
}}
passdb masters {{
  driver = passwd-file
  passwd_file_path = {server.home}/master-users
  master = yes
}}
passdb users {{
  driver = passwd-file
  passwd_file_path = {server.home}/users
}}
userdb users {{
  driver = passwd-file
  passwd_file_path = {server.home}/users
}}
"""


@contextmanager
def running(
    release: str,
    *,
    layout: str = "maildir",
    separator: str = "/",
    prefix: str = "",
    escape: bool = False,
    more: str = "",
    users: Iterable[str] = (),
) -> Iterator[Server]:
    """A Dovecot `release` ("2.3" or "2.4") that serves `users`; their mail goes with it."""
    home = Path(tempfile.mkdtemp(prefix="cyrus-sync-dovecot-", dir=default_ground()))
    home.chmod(0o755)
    server = Server(release, home, Setup(layout, separator, prefix, escape, more))
    try:
        for user in users:
            server.add_user(user)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home)
