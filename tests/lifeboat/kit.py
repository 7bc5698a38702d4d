"""A lifeboat as a process, on some installation's store."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.deadlines import scaled, until
from tests.interop.ours import environment
from tests.interop.running import dying_with_us
from tests.ports import free_port


class Afloat(NamedTuple):
    """Its ports on loopback (`tls` only works with a certificate), and the process."""

    port: int
    tls: int
    process: subprocess.Popen[bytes]


@contextmanager
def afloat(imapd_conf: Path, *lines: str, log: Path | None = None) -> Iterator[Afloat]:
    """``cyrus-sync imap`` with this configuration and `lines` more; ended by SIGTERM."""
    port, tls = free_port(), free_port()
    config = imapd_conf.with_name("lifeboat.conf")
    options = [f"lifeboat_listen: 127.0.0.1:{port}", f"lifeboat_tls_listen: 127.0.0.1:{tls}", *lines]
    config.write_text(f"@include: {imapd_conf}\n" + "".join(f"{line}\n" for line in options))
    command = [sys.executable, "-m", "cyrus_sync.tool.cli", "-C", str(config), "imap", "-e"]
    with contextlib.ExitStack() as files:
        output = files.enter_context(log.open("ab")) if log else None
        boat = subprocess.Popen(
            [*dying_with_us(), *command], stdin=subprocess.DEVNULL, stderr=output, env=environment()
        )
        try:

            def listens() -> bool:
                assert boat.poll() is None, "the lifeboat has ended"
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    return True
                return False

            until(listens, "the lifeboat listens")
            yield Afloat(port, tls, boat)
        finally:
            boat.send_signal(signal.SIGTERM)
            assert boat.wait(scaled(20)) == 0
