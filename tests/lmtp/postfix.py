"""A real Postfix that is unpacked, not installed, and delivers by LMTP.

It keeps to its own directories, by main.cf; its programs look for libraries where the environment says, which
they are told to keep. Its master has to be started as root; the others run as users that every machine has.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.deadlines import scaled, until
from tests.interop.running import dying_with_us
from tests.ports import free_port

OWNER, GROUP = "uucp", "tape"
"""Who is there on every machine, and neither owns nor does anything."""

_QUEUES = (
    *("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved"),
    *("trace", "pid", "public", "maildrop"),
)
_SERVICES = """\
{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def cache_directory() -> Path:
    """Where it is kept."""
    return Path("/var/cache/cyrus-sync/postfix")


@cache
def why_unavailable() -> str:
    """Unpack it, if it is not there yet; why that could not be, "" if it could."""
    if os.geteuid() != 0:
        return "it has to be started as root"
    script = Path(__file__).with_name("install-postfix")
    try:
        done = subprocess.run(
            [script, cache_directory()], capture_output=True, text=True, timeout=600, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else f"install-postfix: {done.stderr.strip()[-300:] or 'failed'}"


class Postfix(NamedTuple):
    """`port` takes mail by SMTP."""

    port: int
    root: Path

    @property
    def log(self) -> str:
        return (self.root / "log" / "mail.log").read_text(errors="replace")

    @property
    def waiting(self) -> int:
        """Messages that are in a queue."""
        return sum(
            1
            for queue in ("active", "deferred", "incoming", "maildrop")
            for path in (self.root / "queue" / queue).rglob("*")
            if path.is_file()
        )


@contextmanager
def postfix(*lines: str) -> Iterator[Postfix]:
    """A running one; `lines` are more of main.cf."""
    root = Path(tempfile.mkdtemp(prefix="pf-"))
    root.chmod(0o755)
    made = Postfix(free_port(), root)
    try:
        _write(made, lines)
        programs = cache_directory() / "usr" / "lib" / "postfix"
        environment = {
            "LD_LIBRARY_PATH": f"{programs}:{cache_directory()}/usr/lib/x86_64-linux-gnu",
            "PATH": "/usr/bin:/bin",
            "MAIL_CONFIG": str(root / "conf"),
        }
        with (root / "out").open("ab") as output:
            master = subprocess.Popen(
                [*dying_with_us(), str(programs / "sbin" / "master"), "-c", str(root / "conf"), "-d"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        try:
            until(lambda: _answers(made, master), "Postfix answers")
            yield made
        finally:
            master.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                master.wait(scaled(10))
            master.kill()
            master.wait()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _answers(made: Postfix, master: subprocess.Popen[bytes]) -> bool:
    assert master.poll() is None, (made.root / "out").read_text() + made.log
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", made.port)) as line:
        line.settimeout(scaled(10))
        return line.recv(100).startswith(b"220 ")
    return False


def _write(made: Postfix, lines: tuple[str, ...]) -> None:
    root, tree = made.root, cache_directory()
    for name in ("conf", "data", "log", *(f"queue/{queue}" for queue in _QUEUES)):
        (root / name).mkdir(parents=True, exist_ok=True)
    settings = {
        "compatibility_level": "3.6",
        "queue_directory": root / "queue",
        "data_directory": root / "data",
        "command_directory": tree / "usr/sbin",
        "daemon_directory": tree / "usr/lib/postfix/sbin",
        "shlib_directory": tree / "usr/lib/postfix",
        "meta_directory": tree / "usr/share/postfix",
        "maillog_file": root / "log" / "mail.log",
        "maillog_file_prefixes": root,
        "mail_owner": OWNER,
        "setgid_group": GROUP,
        "import_environment": "MAIL_CONFIG TZ LANG=C LD_LIBRARY_PATH PATH",
        "myhostname": "relay.example",
        "inet_interfaces": "127.0.0.1",
        "mydestination": "",
        "mynetworks": "127.0.0.0/8",
        "alias_maps": "",
        "local_recipient_maps": "",
        "minimal_backoff_time": "2s",
        "queue_run_delay": "2s",
        "smtp_host_lookup": "native",
        "lmtp_host_lookup": "native",
    }
    text = "".join(f"{name} = {value}\n" for name, value in settings.items())
    (root / "conf" / "main.cf").write_text(text + "".join(f"{line}\n" for line in lines))
    (root / "conf" / "master.cf").write_text(_SERVICES.format(port=f"127.0.0.1:{made.port}"))
    (root / "log" / "mail.log").touch()
    for name in ("data", *(f"queue/{queue}" for queue in _QUEUES if queue not in ("pid",))):
        shutil.chown(root / name, OWNER)
    for name in ("public", "maildrop"):
        shutil.chown(root / "queue" / name, OWNER, GROUP)
